//! Criterion benchmarks beside named peers, and the bars that they must meet.
