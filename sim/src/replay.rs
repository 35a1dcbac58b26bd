//! Replaying a failure file: the run again, line by line (T41).

use std::io::{self, Write};

use machines::Instant;

use crate::budget::Budget;
use crate::failure::Failure;
use crate::guest::Guest;
use crate::lab::{Case, Keep, Lab, Ran, never_asked};
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

/// What a replay came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// Every property held: the failure is gone.
    Gone,
    /// A property was violated, the recorded one or another.
    Violated,
    /// The run hit its step bound, or was stopped: nothing is known.
    Unfinished,
}

impl Replayed {
    /// Returns the exit code (section 7 of the testbed's spec).
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Gone => 0,
            Self::Violated => 1,
            Self::Unfinished => 4,
        }
    }
}

/// Runs the failure again and prints what happens.
///
/// # Errors
///
/// What is wrong with the file, or with the output. An output that nobody reads any more is not
/// wrong.
pub fn replay<G: Guest>(
    lab: &Lab<G>,
    failure: &Failure,
    window: Window,
    budget: Budget<'_>,
    out: &mut dyn Write,
) -> Result<Replayed, String> {
    let case = failure.case_for(lab)?;
    let keep = Keep { trace: !window.silent, answers: true, ..Keep::default() };
    let Some(ran) = lab.run_case_within(&case, keep, budget)? else {
        return Ok(Replayed::Unfinished);
    };
    match tell(failure, &case, window, &ran, out) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.to_string()),
        Ok(()) | Err(_) => {}
    }
    Ok(match ran.outcome.ended {
        Ended::Passed => Replayed::Gone,
        Ended::Violated(_) => Replayed::Violated,
        Ended::Unfinished => Replayed::Unfinished,
    })
}

fn tell(
    failure: &Failure,
    case: &Case,
    window: Window,
    ran: &Ran,
    out: &mut dyn Write,
) -> io::Result<()> {
    if !window.silent {
        writeln!(out, "{:>15}  {:>5}  {:<16}  detail", "time", "node", "event")?;
    }
    for line in ran.trace.iter().filter(|line| window.shows(line)) {
        let node = line.node.map_or_else(|| "–".to_owned(), |node| format!("n{node}"));
        let at = format!("{:?}", Instant::from_nanos(line.at));
        writeln!(out, "{at:>15}  {node:>5}  {:<16}  {}", line.event, line.detail)?;
    }
    let hash = format!("{:016x}", ran.outcome.hash);
    let same = if hash == failure.hash { "as recorded" } else { "not as recorded" };
    writeln!(out, "\nhash {hash}, {same}")?;
    for entry in never_asked(&case.overrides, &ran.answers) {
        let who = entry.who.map_or_else(String::new, |who| format!(" of {who:x?}"));
        let nth = entry.nth.map_or_else(String::new, |nth| format!(", question {nth}"));
        writeln!(out, "override never asked for: {}{who}{nth}", entry.site)?;
    }
    match &ran.outcome.ended {
        Ended::Violated(violation) if violation.property == failure.property => {
            writeln!(out, "violated: {violation}")
        }
        Ended::Violated(violation) => {
            writeln!(out, "violated: {violation}\n({} was violated before)", failure.property)
        }
        Ended::Passed => {
            writeln!(out, "gone: every property held ({} was violated)", failure.property)
        }
        Ended::Unfinished => writeln!(out, "unfinished: the run hit its step bound"),
    }
}

impl Window {
    fn shows(&self, line: &Line) -> bool {
        let time = line.at >= self.from && self.to.is_none_or(|to| line.at <= to);
        let node = self.node.is_none() || line.node.is_none() || line.node == self.node;
        time && node
    }
}

#[cfg(test)]
mod tests;
