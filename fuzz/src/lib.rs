//! Functions of bytes over every decoder and machine, their corpora, and libFuzzer targets.
//!
//! A *target* takes any bytes and must not panic. It says whether the bytes meant something, so
//! that a corpus of nothing but refusals is noticed. A new target is
//!
//! 1. a function in a module here, and a line in [`TARGETS`];
//! 2. `corpus/<name>/` with some small inputs, one at least that means something;
//! 3. `fuzz_targets/<name>.rs` and its `[[bin]]` in `libfuzzer/Cargo.toml`.
//!
//! `tests/replay.rs` runs every target over its corpus on stable Rust, and fails if one of the
//! three is missing. With a nightly toolchain and `cargo install cargo-fuzz`:
//!
//! ```text
//! cargo +nightly fuzz run --fuzz-dir fuzz/libfuzzer frame fuzz/corpus/frame
//! ```
//!
//! A target over a decoder asserts that what decodes encodes to the very same bytes (C19). A
//! target over a machine reads a sequence of inputs off its bytes ([`cursor`]) and asserts the
//! properties; `tests/reach.rs` shows that its corpus reaches deep states.

pub mod cursor;
pub mod files;
pub mod kernel;
pub mod ledger;
pub mod links;
pub mod node;
pub mod registry;
pub mod router;
pub mod scenario;
pub mod swim;
pub mod wire;

/// Takes any bytes; returns whether they meant something.
pub type Target = fn(&[u8]) -> bool;

/// Every target, by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("allowlist", files::allowlist),
    ("commands", kernel::commands),
    ("datagram", wire::datagram),
    ("frame", wire::frame),
    ("handshake", wire::handshake),
    ("key_file", files::key_file),
    ("links_handshake", links::links_handshake),
    ("links_stream", links::links_stream),
    ("message", wire::message),
    ("node", node::node),
    ("payload", wire::payload),
    ("record", ledger::record),
    ("recovery", ledger::recovery),
    ("registry", registry::registry),
    ("router", router::router),
    ("scenario_file", scenario::scenario_file),
    ("session_file", files::session_file),
    ("snapshot", ledger::snapshot),
    ("swim", swim::swim),
    ("sync", wire::sync),
];
