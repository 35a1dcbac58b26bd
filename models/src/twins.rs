//! Twins: models that must fail, and the search for orderings that nobody would miss.

use std::any::Any;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use crate::atomics::{Half, Site, Weakening, met, weaken};
use crate::checker::{Bound, explore, report};

/// Installs, once, the hook that says nothing about panics that are looked for.
static QUIET: Once = Once::new();

thread_local! {
    static IN_TWIN: Cell<bool> = const { Cell::new(false) };
}

/// Runs a model that must fail, in the family [`Weak`](crate::Weak) with every ordering lost, or
/// with the step wrong that the model itself does wrong.
///
/// # Panics
///
/// If the model passes, or fails in another way than with a message that has `expected` in it.
pub fn twin(
    name: &str,
    weakening: Weakening,
    expected: &str,
    bound: Bound,
    model: impl Fn() + Send + Sync + 'static,
) {
    let failure = failure(weakening, bound, model);
    let Some(message) = failure else {
        panic!("twin {name} passed: the model cannot see what it is there for");
    };
    assert!(message.contains(expected), "twin {name} failed otherwise: {message}");
    report("twin", name, &format!("caught: {}", first_line(&message)));
}

/// Removes each half of each ordering that the models ask for in `file`, one after the other, and
/// checks that the removals which nobody notices are those of `unneeded`: what the source line has
/// in it, the half, and why no model misses it.
///
/// # Panics
///
/// If the two differ. The message has the table.
pub fn orderings(
    name: &str,
    file: &str,
    unneeded: &[(&str, Half, &str)],
    models: &[(Bound, fn())],
) {
    let path = format!("core/sync/src/{file}");
    let mut sites = BTreeSet::new();
    for &(bound, model) in models {
        weaken(Weakening::Nothing);
        explore(bound, model);
        sites.extend(met().into_iter().filter(|(site, _)| site.file.ends_with(&path)));
    }
    assert!(!sites.is_empty(), "{file} asks for no ordering at all");

    let mut table =
        String::from("| place | line | lost | what the models saw |\n|---|---|---|---|\n");
    let mut unnoticed = BTreeSet::new();
    for (site, half) in sites {
        let text = source_line(site);
        let message = models
            .iter()
            .find_map(|&(bound, model)| failure(Weakening::At(site, half), bound, model));
        let why = unneeded.iter().find(|(line, of, _)| text.contains(line) && *of == half);
        let why = why.map_or("not noticed".to_owned(), |(_, _, why)| format!("not noticed: {why}"));
        let seen = message.as_deref().map_or(why.as_str(), first_line);
        writeln!(table, "| {}:{} | `{text}` | {half:?} | {seen} |", file, site.line)
            .expect("writing to a string does not fail");
        if message.is_none() {
            unnoticed.insert((text, half));
        }
    }
    report("orderings", name, &format!("\n{table}"));
    let same = |(text, half): &(String, Half), (line, of, _): &(&str, Half, &str)| {
        text.contains(line) && half == of
    };
    let said = unnoticed.iter().all(|lost| unneeded.iter().any(|entry| same(lost, entry)));
    let seen = unneeded.iter().find(|entry| !unnoticed.iter().any(|lost| same(lost, entry)));
    assert!(said, "removals that {name} did not notice, and nobody said why:\n{table}");
    assert_eq!(seen, None, "a removal that {name} did notice after all:\n{table}");
}

/// The message of the panic that `model` ends with; `None` if it passes.
fn failure(
    weakening: Weakening,
    bound: Bound,
    model: impl Fn() + Send + Sync + 'static,
) -> Option<String> {
    QUIET.call_once(|| {
        let loud = take_hook();
        set_hook(Box::new(move |panic| {
            if !IN_TWIN.get() {
                loud(panic);
            }
        }));
    });
    weaken(weakening);
    IN_TWIN.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(|| explore(bound, model)));
    IN_TWIN.set(false);
    weaken(Weakening::Nothing);
    outcome.err().map(text_of)
}

/// The text of a panic.
fn text_of(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic
            .downcast_ref::<&str>()
            .map_or_else(|| "a panic without text".to_owned(), |text| (*text).to_owned()),
    }
}

/// The first line that says something.
fn first_line(text: &str) -> &str {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("")
}

/// The text of a line of the source.
fn source_line(site: Site) -> String {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let source = std::fs::read_to_string(format!("{root}/{}", site.file)).unwrap_or_default();
    let line = usize::try_from(site.line).expect("a line number fits in memory");
    source.lines().nth(line - 1).unwrap_or("").trim().to_owned()
}
