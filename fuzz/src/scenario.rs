//! A scenario file (T50): any text is a scenario, or wrong at a place in that text.

use sim::scenario::Scenario;

/// Any text, resolved for one seed if it is a scenario.
#[must_use]
pub fn scenario_file(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    match Scenario::parse("fuzz.toml", text) {
        Ok(scenario) => {
            let resolved = scenario.resolve(7);
            assert!(resolved.is_ok(), "checked, yet {:?}", resolved.err());
            true
        }
        Err(wrong) => {
            let lines = text.matches('\n').count() + 1;
            assert!((1..=lines).contains(&wrong.line), "line {} of {lines}", wrong.line);
            let line = text.split('\n').nth(wrong.line - 1).unwrap_or_default();
            let columns = line.chars().count() + 1;
            assert!((1..=columns).contains(&wrong.column), "column {} of {columns}", wrong.column);
            assert!(!wrong.what.is_empty(), "it says what is wrong");
            false
        }
    }
}
