//! Goal: the rules of style that a reader of text can check hold everywhere.
//! Method: read every Rust file of the workspace as text. The checks on made-up text at the end
//! show that each rule can fail.

use std::fs;
use std::path::{Path, PathBuf};

/// The longest function, in lines; a ratchet: it may only go down.
const FUNCTION_LINES_MAX: usize = 120;
/// The longest line, in characters.
const LINE_CHARS_MAX: usize = 100;

/// Names of locks and blocking waits: forbidden in the crates of G1 and DESIGN 1.
const LOCKS: &[&str] =
    &["Mutex", "RwLock", "Condvar", "Semaphore", "parking_lot", "thread::park", "Barrier"];
/// Names of clocks, random orders and global randomness: forbidden in machines.
const WORLD: &[&str] = &[
    "std::time::Instant",
    "SystemTime",
    "HashMap",
    "HashSet",
    "thread_rng",
    "rand::rng",
    "async fn",
    ".await",
    "f32",
    "f64",
];

/// The numbers of JSON payloads, which the kernel compares and spells but never computes with (K9).
const PAYLOAD_NUMBERS: &str = "core/machines/src/kernel/json/number";

struct File {
    path: String,
    text: String,
}

fn files() -> Vec<File> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let mut found = Vec::new();
    for part in ["core", "sim", "models", "scenarios", "fuzz", "benches"] {
        collect(&root, &root.join(part), &mut found);
    }
    assert!(found.len() > 30, "the workspace was found");
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<File>) {
    for entry in fs::read_dir(folder).expect("a folder of the workspace") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with("corpus") {
            collect(root, &path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let name = path.strip_prefix(root).expect("inside").display().to_string();
            let text = fs::read_to_string(&path).expect("UTF-8");
            found.push(File { path: name, text });
        }
    }
}

/// What stands on a line before a comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

fn missing_header(file: &File) -> Vec<String> {
    let is_tests = file.path.ends_with("tests.rs") || file.path.ends_with("props.rs");
    let first = file.text.lines().next().unwrap_or_default();
    let missing = !is_tests && !first.starts_with("//!") && !first.starts_with("#!");
    missing.then(|| format!("{}: the first line is not //!", file.path)).into_iter().collect()
}

fn long_lines(file: &File) -> Vec<String> {
    let long = |line: &&str| line.chars().count() > LINE_CHARS_MAX;
    let count = file.text.lines().filter(long).count();
    (count > 0).then(|| format!("{}: {count} long lines", file.path)).into_iter().collect()
}

fn forbidden<'a>(
    file: &'a File,
    folders: &'a [&str],
    words: &'a [&str],
) -> impl Iterator<Item = String> + 'a {
    let applies = folders.iter().any(|folder| file.path.starts_with(folder));
    file.text.lines().enumerate().filter(move |_| applies).flat_map(move |(at, line)| {
        let found = words.iter().filter(move |word| code(line).contains(**word));
        found.map(move |word| format!("{}:{}: {word}", file.path, at + 1))
    })
}

fn conditional_behaviour(file: &File) -> Vec<String> {
    let allowed = |line: &str| {
        line.contains("cfg(test)") || line.contains("feature = \"marks\"") || !line.contains("cfg(")
    };
    let applies = file.path.starts_with("core/");
    let lines = file.text.lines().enumerate();
    lines
        .filter(|(_, line)| applies && !allowed(code(line)))
        .map(|(at, line)| format!("{}:{}: {}", file.path, at + 1, line.trim()))
        .collect()
}

/// `SeqCst` outside a fence (G52).
fn sequential_accesses(file: &File) -> Vec<String> {
    let lines = file.text.lines().enumerate();
    lines
        .filter(|(_, line)| file.path.starts_with("core/") && code(line).contains("SeqCst"))
        .filter(|(_, line)| !line.contains("fence("))
        .map(|(at, _)| format!("{}:{}: SeqCst", file.path, at + 1))
        .collect()
}

/// An `unsafe` block without `SAFETY` in the comment above or beside it (G53).
fn unexplained_unsafe(file: &File) -> Vec<String> {
    let lines: Vec<&str> = file.text.lines().collect();
    let is_block =
        |line: &str| code(line).contains("unsafe {") || code(line).contains("unsafe impl");
    let explained =
        |at: usize| lines[at.saturating_sub(8)..=at].iter().any(|line| line.contains("SAFETY"));
    let found = lines.iter().enumerate().filter(|(at, line)| is_block(line) && !explained(*at));
    found.map(|(at, _)| format!("{}:{}: unsafe without SAFETY", file.path, at + 1)).collect()
}

/// Functions with more lines than the ratchet allows: (where, lines).
fn long_functions(file: &File) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, usize)> = None;
    for (at, line) in file.text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let is_function = code(line).trim_start().split("fn ").next().is_some_and(|before| {
            let words =
                ["", "pub ", "pub(super) ", "pub(crate) ", "const ", "pub const ", "async "];
            code(line).contains("fn ") && words.contains(&before)
        });
        match open {
            None if is_function && !line.trim_end().ends_with(';') => open = Some((at, indent)),
            Some((start, depth)) if line.trim_end() == "}".to_owned().as_str() && depth == 0 => {
                found.push((format!("{}:{}", file.path, start + 1), at - start + 1));
                open = None;
            }
            Some((start, depth)) if indent == depth && line.trim() == "}" => {
                found.push((format!("{}:{}", file.path, start + 1), at - start + 1));
                open = None;
            }
            // A declaration without a body.
            Some((_, depth)) if indent == depth && is_declared(line) => open = None,
            _ => {}
        }
    }
    found
}

/// Says whether a line ends a signature that has no body.
fn is_declared(line: &str) -> bool {
    line.trim_start().starts_with(')') && line.trim_end().ends_with(';')
}

fn complaints(check: impl Fn(&File) -> Vec<String>) -> Vec<String> {
    files().iter().flat_map(check).collect()
}

#[test]
fn every_file_says_what_it_is() {
    assert_eq!(complaints(missing_header), Vec::<String>::new());
}

#[test]
fn no_line_is_too_long() {
    assert_eq!(complaints(long_lines), Vec::<String>::new());
}

#[test]
fn machines_and_memory_hold_no_lock_and_no_world() {
    let crates = ["core/sync/src", "core/machines/src", "core/runtime/src"];
    let locks = |file: &File| forbidden(file, &crates, LOCKS).collect();
    assert_eq!(complaints(locks), Vec::<String>::new(), "G1");
    let world = |file: &File| {
        let allowed: &[&str] = if file.path.starts_with(PAYLOAD_NUMBERS) { &["f64"] } else { &[] };
        let words: Vec<&str> =
            WORLD.iter().copied().filter(|word| !allowed.contains(word)).collect();
        forbidden(file, &["core/machines/src"], &words).collect()
    };
    assert_eq!(complaints(world), Vec::<String>::new(), "DESIGN 1");
}

#[test]
fn no_cfg_chooses_behaviour_in_core() {
    assert_eq!(complaints(conditional_behaviour), Vec::<String>::new());
}

#[test]
fn no_access_is_sequentially_consistent() {
    assert_eq!(complaints(sequential_accesses), Vec::<String>::new());
}

#[test]
fn every_unsafe_block_names_its_invariant() {
    assert_eq!(complaints(unexplained_unsafe), Vec::<String>::new());
}

#[test]
fn the_longest_function_does_not_grow() {
    let mut all: Vec<_> = files().iter().flat_map(long_functions).collect();
    all.sort_by_key(|(_, lines)| *lines);
    let (place, lines) = all.pop().expect("there are functions");
    assert!(lines <= FUNCTION_LINES_MAX, "{place} has {lines} lines");
}

#[test]
fn each_rule_can_fail() {
    let file = |path: &str, text: &str| File { path: path.into(), text: text.into() };
    let bad = file("core/machines/src/x.rs", "use std::sync::Mutex;\n");
    assert_eq!(missing_header(&bad).len(), 1);
    assert_eq!(forbidden(&bad, &["core/machines/src"], LOCKS).count(), 1);
    let hash = file("core/machines/src/x.rs", "//! x\nlet m = HashMap::new(); // HashMap\n");
    assert_eq!(forbidden(&hash, &["core/machines/src"], WORLD).count(), 1);
    assert_eq!(long_lines(&file("x.rs", &"x".repeat(101))).len(), 1);
    let flag = format!("#[{}(windows)]\n", "cfg");
    assert_eq!(conditional_behaviour(&file("core/x.rs", &flag)).len(), 1);
    assert_eq!(sequential_accesses(&file("core/x.rs", "a.load(SeqCst)\n")).len(), 1);
    let block = format!("{} {{ x() }}\n", "unsafe");
    assert_eq!(unexplained_unsafe(&file("x.rs", &block)).len(), 1);
    let body = format!("fn f() {{\n{}}}\n", "    x();\n".repeat(10));
    assert_eq!(long_functions(&file("x.rs", &body)), [("x.rs:1".to_owned(), 12)]);
}
