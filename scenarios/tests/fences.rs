//! Goal: the dependency diagram in `core/README.md` is true.
//! Method: read each manifest's `[dependencies]` and compare with the table below; ask cargo what
//! those bring along. What is built but not shipped (tests, benches) is free, and so is what only
//! runs in the compiler. The last tests hold what stands outside `cargo test` or in a crate of its
//! own: that models and the madsim world are there and are run.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

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

/// Crate of decisions or memory, and all that may be linked with it, however far around: hashes,
/// ciphers and their arithmetic. No clock, thread, socket, global or system randomness is among
/// them.
const LINKED: &[(&str, &[&str])] = &[
    ("sync", &["sync"]),
    (
        "machines",
        &[
            "aead",
            "arrayvec",
            "blake2",
            "blake3",
            "block-buffer",
            "cfg-if",
            "chacha20",
            "chacha20poly1305",
            "cipher",
            "constant_time_eq",
            "cpufeatures",
            "crypto-common",
            "curve25519-dalek",
            "digest",
            "generic-array",
            "inout",
            "machines",
            "opaque-debug",
            "poly1305",
            "snow",
            "subtle",
            "typenum",
            "universal-hash",
            "zeroize",
        ],
    ),
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

/// Returns `krate` and all that is linked with it, with every feature of its own.
fn linked(krate: &str) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let shipped = ["--edges", "normal,no-proc-macro", "--all-features"];
    let plain = ["--prefix", "none", "--format", "{p}"];
    let mut tree = Command::new(cargo);
    tree.current_dir(root()).args(["tree", "--frozen", "--package", krate]);
    let told = tree.args(shipped).args(plain).output().expect("cargo runs this test");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let text = String::from_utf8(told.stdout).expect("names of crates are text");
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn nothing_reaches_decisions_or_memory_through_a_dependency() {
    for (krate, allowed) in LINKED {
        let linked = linked(krate);
        assert!(linked.contains(*krate), "cargo told of {linked:?}");
        for name in linked {
            assert!(allowed.contains(&name.as_str()), "{krate} may not be linked with {name}");
        }
    }
}

#[test]
fn every_dependency_is_in_the_diagram() {
    for (krate, allowed) in ALLOWED {
        for name in dependencies(krate) {
            assert!(allowed.contains(&name.as_str()), "{krate} may not depend on {name}");
        }
    }
}

#[test]
fn worlds_do_not_reach_each_other() {
    for (krate, forbidden) in APART {
        assert!(!dependencies(krate).contains(*forbidden), "{krate} may not reach {forbidden}");
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
    let table = text.split("[workspace.dependencies]").nth(1).expect("one dependency table");
    let table = table.split("\n[").next().expect("it ends");
    for line in table.lines().filter(|line| line.contains('=') && !line.contains("path =")) {
        let starts_an_entry = !line.starts_with([' ', '#', ']', '"']);
        assert!(!starts_an_entry || line.contains(" # "), "why is this here? {line}");
    }
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// T70, T72: what moves messages between threads has a loom model, a shuttle model and a twin
/// that must fail, in a file of its own name.
#[test]
fn every_lock_free_file_has_its_models() {
    let files = fs::read_dir(root().join("core/sync/src")).expect("a crate has sources");
    let names = files.map(|file| file.expect("the folder stays").path());
    let names = names.filter(|path| path.extension().is_some_and(|ending| ending == "rs"));
    let names = names.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()));
    // What all models are generic over, what the lanes share, and the list of modules.
    let names: Vec<_> =
        names.filter(|name| !["atomics", "lane", "lib"].contains(&name.as_str())).collect();
    assert!(names.len() >= 9, "{names:?}");
    for name in names {
        let models = text(&format!("models/tests/{name}.rs"));
        for wanted in ["Loom::check(", "Shuttle::check(", "twin("] {
            assert!(models.contains(wanted), "models/tests/{name}.rs has no {wanted}…)");
        }
    }
}

/// T60, T61: whole nodes run under madsim before a change lands: three or more, over 50 seeds, each
/// in a process of its own, some of them twice; and the checks of that world are shown to bite.
#[test]
fn the_madsim_world_is_part_of_what_must_pass() {
    let steps = text(".ci/run");
    for step in ["step cargo madsim\n", "step cargo madsim --saboteurs\n"] {
        assert!(steps.contains(step), "{step}");
    }
    let alias: toml::Table = text(".cargo/config.toml").parse().expect("it is TOML");
    let alias = alias["alias"]["madsim"].as_str().expect("an alias is a text").to_owned();
    for part in ["--bin lockstep-madsim", "--target-dir target/madsim", "[\"--cfg\",\"madsim\"]"] {
        assert!(alias.contains(part), "{part} in {alias}");
    }
    let number = |path: &str, before: &str| {
        let text = text(path);
        let rest = text.split(before).nth(1).unwrap_or_else(|| panic!("{path} has no {before}"));
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
        digits.and_then(|digits| digits.parse::<u32>().ok()).expect("a number")
    };
    let program = "sim/src/bin/lockstep-madsim.rs";
    assert!(number(program, "How many seeds to run.\n    #[arg(long, default_value_t = ") >= 50);
    let twice = "compare the hashes.\n    #[arg(long, default_value_t = ";
    assert!(number(program, twice) <= 20);
    assert!(number("sim/src/madsim_world.rs", "const NODES: usize = ") >= 3);
}
