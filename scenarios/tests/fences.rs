//! Goal: the dependency diagram in `core/README.md` is true.
//! Method: read each manifest's `[dependencies]` and compare with the table below; what is built
//! but not shipped (tests, benches) is free.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

/// Crate, and all that it may depend on.
const ALLOWED: &[(&str, &[&str])] = &[
    ("core/sync", &[]),
    (
        "core/machines",
        &[
            "blake2",
            "blake3",
            "chacha20poly1305",
            "curve25519-dalek",
            "snow",
            "x25519-dalek",
            "zeroize",
        ],
    ),
    ("core/runtime", &["machines", "sync"]),
];

/// Crates that must never reach each other, however far around.
const APART: &[(&str, &str)] = &[
    ("core/sync", "machines"),
    ("core/machines", "sync"),
    ("core/machines", "tokio"),
    ("core/runtime", "tokio"),
    ("sim", "host"),
];

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn dependencies(krate: &str) -> BTreeSet<String> {
    let manifest = root().join(krate).join("Cargo.toml");
    let text = fs::read_to_string(&manifest).expect("every crate has a manifest");
    let table: toml::Table = text.parse().expect("a manifest is TOML");
    let names = |section: &str| match table.get(section) {
        Some(toml::Value::Table(dependencies)) => dependencies.keys().cloned().collect(),
        _ => BTreeSet::new(),
    };
    names("dependencies")
}

#[test]
fn every_dependency_is_in_the_diagram() {
    for (krate, allowed) in ALLOWED {
        for name in dependencies(krate) {
            assert!(
                allowed.contains(&name.as_str()),
                "{krate} may not depend on {name}"
            );
        }
    }
}

#[test]
fn worlds_do_not_reach_each_other() {
    for (krate, forbidden) in APART {
        assert!(
            !dependencies(krate).contains(*forbidden),
            "{krate} may not reach {forbidden}"
        );
    }
}

#[test]
fn banned_crates_are_not_in_the_lock_file() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("the lock file is committed");
    for banned in ["bincode", "openssl", "openssl-sys", "protoc-bin-vendored"] {
        let line = format!("name = \"{banned}\"\n");
        assert!(!lock.contains(&line), "{banned} is banned");
    }
}

#[test]
fn every_dependency_says_why_it_is_there() {
    let text = fs::read_to_string(root().join("Cargo.toml")).expect("the root has a manifest");
    let table = text
        .split("[workspace.dependencies]")
        .nth(1)
        .expect("one dependency table");
    let table = table.split("\n[").next().expect("it ends");
    for line in table
        .lines()
        .filter(|line| line.contains('=') && !line.contains("path ="))
    {
        let starts_an_entry = !line.starts_with([' ', '#', ']', '"']);
        assert!(
            !starts_an_entry || line.contains(" # "),
            "why is this here? {line}"
        );
    }
}
