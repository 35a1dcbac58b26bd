use std::path::Path;

use machines::choices::Override;

use super::*;
use crate::failure::shown;
use crate::lab::Keep;
use crate::planted::{lab, planted};
use crate::scenario::file::Check;

fn failure() -> Failure {
    let case = planted();
    let ran = lab().run_case(&case, Keep::default()).unwrap();
    let Ended::Violated(violation) = ran.outcome.ended else {
        panic!("the planted failure shows");
    };
    Failure::new(&case, &violation, ran.outcome.hash, Path::new("planted.toml"))
}

fn replayed(failure: &Failure) -> Result<(Replayed, String), String> {
    let mut out = Vec::new();
    let window = Window { silent: true, ..Window::default() };
    let replayed = replay(&lab(), failure, window, Budget::ENDLESS, &mut out)?;
    Ok((replayed, String::from_utf8(out).unwrap()))
}

#[test]
fn a_failure_that_is_still_there_says_so() {
    let (result, text) = replayed(&failure()).unwrap();
    assert_eq!((result, result.exit_code()), (Replayed::Violated, 1));
    assert!(text.contains("as recorded\nviolated: ONCE"), "{text}");
}

#[test]
fn a_failure_that_is_gone_says_so() {
    let mut failure = failure();
    failure.scenario.fault.clear();
    let (result, text) = replayed(&failure).unwrap();
    assert_eq!((result, result.exit_code()), (Replayed::Gone, 0));
    assert!(text.contains("gone"), "{text}");
}

/// T41: whatever is violated, the file does not pass.
#[test]
fn another_violation_is_a_violation() {
    let mut failure = failure();
    failure.property = "panic".to_owned();
    let (result, text) = replayed(&failure).unwrap();
    assert_eq!(result.exit_code(), 1);
    assert!(text.contains("panic was violated before"), "{text}");
}

/// T5.
#[test]
fn a_run_over_its_step_bound_is_unfinished() {
    let mut failure = failure();
    failure.scenario.steps = Some(toml::Spanned::new(0..0, 50));
    let (result, text) = replayed(&failure).unwrap();
    assert_eq!((result, result.exit_code()), (Replayed::Unfinished, 4));
    assert!(text.contains("unfinished"), "{text}");
}

/// T40: a file that names what there is not shows nothing, and says so.
#[test]
fn what_nothing_checks_or_breaks_is_an_error() {
    let mut renamed = failure();
    renamed.property = "C999".to_owned();
    assert!(replayed(&renamed).unwrap_err().contains("C999"));

    let mut unknown = failure();
    let properties = vec![toml::Spanned::new(0..0, "C998".to_owned())];
    unknown.scenario.check = Some(Check { properties: Some(properties), ..Check::default() });
    assert!(replayed(&unknown).unwrap_err().contains("C998"));

    let mut nobody = failure();
    nobody.saboteur = Some("renamed".to_owned());
    assert!(replayed(&nobody).unwrap_err().contains("renamed"));
}

#[test]
fn overrides_that_were_never_asked_for_are_told() {
    let mut case = planted();
    for site in ["net.delay", "renamed.site"] {
        let entry = Override { site: site.into(), who: None, nth: None, answer: 0 };
        case.overrides.push(entry);
    }
    let mut failure = failure();
    failure.benign = case.overrides.iter().map(|entry| entry.site.clone()).collect();
    let (_, text) = replayed(&failure).unwrap();
    assert!(text.contains("never asked for: renamed.site"), "{text}");
    assert!(!text.contains("never asked for: net.delay"), "{text}");
}

/// Someone who has seen enough.
struct Gone;

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_who_goes_away_changes_no_result() {
    let ended = replay(&lab(), &failure(), Window::default(), Budget::ENDLESS, &mut Gone);
    assert_eq!(ended, Ok(Replayed::Violated));
}

/// The command stands in a file that goes to other machines: it names no folder of this one.
#[test]
fn files_are_named_from_the_root_of_the_repository() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    assert_eq!(shown(&root.join("reports/failures/a-1.toml")), "reports/failures/a-1.toml");
    assert_eq!(shown(Path::new("a-1.toml")), "a-1.toml");
    assert_eq!(shown(Path::new("/elsewhere/a-1.toml")), "/elsewhere/a-1.toml");
}
