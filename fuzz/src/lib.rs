//! Functions of bytes over every decoder and machine, their corpora, and libFuzzer targets.
