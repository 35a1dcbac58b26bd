//! Replaying a failure file: the run again, line by line (T41).

use std::io::Write;

use machines::Instant;

use crate::failure::Failure;
use crate::guest::Guest;
use crate::lab::{Keep, Lab};
use crate::world::{Ended, Line};

/// What to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// From this time on, in nanoseconds.
    pub from: u64,
    /// Up to this time; `None` is the end.
    pub to: Option<u64>,
    /// Only this node and the world.
    pub node: Option<u32>,
    /// No trace at all.
    pub silent: bool,
}

/// Runs the failure again and prints what happens. Returns whether it is still there.
///
/// # Errors
///
/// What is wrong with the file, or with the output.
pub fn replay<G: Guest>(
    lab: &Lab<G>,
    failure: &Failure,
    window: Window,
    out: &mut dyn Write,
) -> Result<bool, String> {
    let case = failure.case()?;
    let keep = Keep {
        trace: !window.silent,
        ..Keep::default()
    };
    let ran = lab.run_case(&case, keep)?;
    let told = |error: std::io::Error| error.to_string();
    if !window.silent {
        writeln!(
            out,
            "{:>15}  {:>5}  {:<16}  detail",
            "time", "node", "event"
        )
        .map_err(told)?;
    }
    for line in ran.trace.iter().filter(|line| window.shows(line)) {
        let node = line
            .node
            .map_or_else(|| "–".to_owned(), |node| format!("n{node}"));
        let at = format!("{:?}", Instant::from_nanos(line.at));
        writeln!(
            out,
            "{at:>15}  {node:>5}  {:<16}  {}",
            line.event, line.detail
        )
        .map_err(told)?;
    }
    let hash = format!("{:016x}", ran.outcome.hash);
    let same = if hash == failure.hash {
        "as recorded"
    } else {
        "not as recorded"
    };
    writeln!(out, "\nhash {hash}, {same}").map_err(told)?;
    match ran.outcome.ended {
        Ended::Violated(violation) => {
            writeln!(out, "violated: {violation}").map_err(told)?;
            Ok(violation.property == failure.property)
        }
        Ended::Passed => {
            writeln!(
                out,
                "gone: every property held ({} was violated)",
                failure.property
            )
            .map_err(told)?;
            Ok(false)
        }
        Ended::Unfinished => Err("the run hit its step bound".to_owned()),
    }
}

impl Window {
    fn shows(&self, line: &Line) -> bool {
        let time = line.at >= self.from && self.to.is_none_or(|to| line.at <= to);
        let node = self.node.is_none() || line.node.is_none() || line.node == self.node;
        time && node
    }
}
