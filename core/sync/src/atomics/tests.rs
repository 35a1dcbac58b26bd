//! Goal: what a reader of the source can check of the rules for atomics holds in every file.
//! Method: read this crate's files as text; made-up text shows that each check can fail.

use std::fs;
use std::path::Path;

/// The orderings that an edge must explain.
const EDGES: &[&str] = &["AcqRel", "Acquire", "Release"];
/// How far above an access its comment may begin, in lines.
const COMMENT_LINES_MAX: usize = 4;

/// Every file of the crate that uses the port: name and text.
fn files() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the crate has sources") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_file() && name != "atomics.rs" {
            found.push((name, fs::read_to_string(&path).expect("UTF-8")));
        }
    }
    assert!(found.len() >= 10, "the files were found");
    found
}

/// What stands on a line before a comment, and the comment.
fn split(line: &str) -> (&str, &str) {
    line.split_once("//").unwrap_or((line, ""))
}

/// Whether a comment names an edge: an E and a digit.
fn names_an_edge(comment: &str) -> bool {
    let mut pairs = comment.bytes().zip(comment.bytes().skip(1));
    pairs.any(|(first, second)| first == b'E' && second.is_ascii_digit())
}

/// Atomic accesses of which no comment says what they pair with, or why nothing more is needed.
fn unexplained(name: &str, text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = split(line).0;
        let has_edge = EDGES.iter().any(|order| code.contains(order));
        if code.contains("use std::") || !(has_edge || code.contains("Relaxed")) {
            continue;
        }
        let last = (at + 1).min(lines.len() - 1);
        let near = &lines[at.saturating_sub(COMMENT_LINES_MAX)..=last];
        let comments: String = near.iter().map(|line| split(line).1).collect();
        let explained =
            if has_edge { names_an_edge(&comments) } else { comments.trim().len() > "why".len() };
        if !explained {
            found.push(format!("{name}:{}: {}", at + 1, line.trim()));
        }
    }
    found
}

/// Items that live as long as the process, or are copied at each use.
fn statics(name: &str, text: &str) -> Vec<String> {
    let words = |line: &str| -> bool {
        let code = split(line).0.trim_start().trim_start_matches("pub ");
        let code = code.trim_start_matches("pub(crate) ");
        let is_const = code.starts_with("const ") && code.contains("Atomic");
        code.starts_with("static ") || code.starts_with("thread_local!") || is_const
    };
    let lines = text.lines().enumerate().filter(|(_, line)| words(line));
    lines.map(|(at, line)| format!("{name}:{}: {}", at + 1, line.trim())).collect()
}

/// G53: each access says what it pairs with, and each `Relaxed` why nothing more is needed.
#[test]
fn every_atomic_access_names_its_edge() {
    let found: Vec<_> = files().iter().flat_map(|(name, text)| unexplained(name, text)).collect();
    assert_eq!(found, Vec::<String>::new());
}

/// G51: loom's atomics have no const `new`, and panic outside a model.
#[test]
fn no_atomic_is_static_or_const() {
    let found: Vec<_> = files().iter().flat_map(|(name, text)| statics(name, text)).collect();
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn each_of_these_rules_can_fail() {
    assert_eq!(unexplained("x", "let a = word.load(Acquire);\n").len(), 1);
    assert_eq!(unexplained("x", "let a = word.load(Acquire); // The word.\n").len(), 1);
    assert_eq!(unexplained("x", "let a = word.load(Acquire); // E1: it.\n").len(), 0);
    assert_eq!(unexplained("x", "word.store(1, Relaxed);\n").len(), 1);
    assert_eq!(unexplained("x", "// Relaxed: ours alone.\nword.store(1, Relaxed);\n").len(), 0);
    assert_eq!(statics("x", "pub static WORD: AtomicU8 = AtomicU8::new(0);\n").len(), 1);
    assert_eq!(statics("x", "const WORD: AtomicU8 = AtomicU8::new(0);\n").len(), 1);
    assert_eq!(statics("x", "const WORD: u8 = 0;\n").len(), 0);
}
