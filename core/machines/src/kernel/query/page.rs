//! Lists in pages, whose tokens are good for the same query only (K86, K410).

use std::iter::{Peekable, from_fn};
use std::ops::Bound;

use super::Inquiry;
use super::view::ProcessControlBlock;
use crate::codec::Wire;
use crate::kernel::ids::{ProcessId, UserId};
use crate::kernel::names::ProcessState;
use crate::kernel::process::short_hash;
use crate::kernel::refusal::{Code, Refusal};

/// The size of a page of which none is told (K25).
const PAGE: u64 = 100;

/// Bytes of a token that bind it to its query.
const SEAL: usize = 8;

/// Which processes (K86).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ListProcesses {
    /// In this state.
    pub state: Option<ProcessState>,
    /// Of this user.
    pub user: Option<UserId>,
    /// So many at once; 0 is the default.
    pub page_size: u64,
    /// What the page before said; empty for the first.
    pub page_token: String,
}

/// Some processes, in order of pid.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProcessPage {
    /// The processes.
    pub processes: Vec<ProcessControlBlock>,
    /// How to ask for the next page; empty after the last.
    pub next_page_token: String,
}

impl ListProcesses {
    /// Hashes what a token is bound to: the filter, and whose view it is.
    fn seal(&self, by: &UserId) -> [u8; SEAL] {
        let mut bytes = b"ListProcesses".to_vec();
        self.state.encode(&mut bytes);
        self.user.encode(&mut bytes);
        by.encode(&mut bytes);
        short_hash(&bytes)
    }
}

/// Writes a token: what it is bound to, and after what the next page begins.
pub(super) fn page_token(seal: [u8; SEAL], last: &[u8]) -> String {
    let bytes = seal.iter().chain(last);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a token; empty is the first page.
///
/// # Errors
///
/// `bad_value` for what is no token, or one of another query (K410).
pub(super) fn read_token(seal: [u8; SEAL], token: &str) -> Result<Option<Vec<u8>>, Refusal> {
    if token.is_empty() {
        return Ok(None);
    }
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let pair = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = token.as_bytes().chunks(2).map(pair).collect();
    match bytes.as_deref().and_then(<[u8]>::split_first_chunk) {
        Some((found, last)) if *found == seal => Ok(Some(last.to_vec())),
        Some(_) => Err(bad_token("page_token: it is of another query")),
        None => Err(bad_token("page_token: it is none")),
    }
}

pub(super) fn bad_token(text: &str) -> Refusal {
    Refusal::new(Code::BadValue, text)
}

/// Sorted sources, merged; what is in several comes once.
struct Merged<I: Iterator>(Vec<Peekable<I>>);

impl<'a, I: Iterator<Item = &'a ProcessId>> Merged<I> {
    fn next(&mut self) -> Option<&'a ProcessId> {
        let least = self.0.iter_mut().filter_map(|source| source.peek().copied()).min()?;
        for source in &mut self.0 {
            source.next_if_eq(&least);
        }
        Some(least)
    }
}

impl<'a> Inquiry<'a> {
    /// Checks how large a page shall be.
    pub(super) fn page_size(self, asked: u64) -> Result<usize, Refusal> {
        let most = self.state.config.limits.page;
        if asked > most {
            let told = format!("page_size: {asked}, at most {most}");
            return Err(Refusal::new(Code::TooLarge, told));
        }
        let size = if asked == 0 { PAGE.min(most) } else { asked };
        Ok(usize::try_from(size).unwrap_or(usize::MAX))
    }

    pub(super) fn list_processes(self, list: &ListProcesses) -> Result<ProcessPage, Refusal> {
        if let Some(user) = &list.user
            && *user != self.by.user
            && !self.by.sees_all()
        {
            let told = format!("user_id: only operators ask for others, such as {user}");
            return Err(Refusal::new(Code::PermissionDenied, told));
        }
        let size = self.page_size(list.page_size)?;
        let seal = list.seal(&self.by.user);
        let after = match read_token(seal, &list.page_token)? {
            None => None,
            Some(last) => {
                let wrong = |_| bad_token("page_token: it is none");
                Some(ProcessId::from_bytes(&last).map_err(wrong)?)
            }
        };
        let mut found = self.found(list, after.as_ref()).peekable();
        let mut processes = Vec::new();
        let mut last = None;
        while let Some(pid) = found.next_if(|_| processes.len() < size) {
            if let Some(process) = self.state.process(pid) {
                processes.push(ProcessControlBlock::of(pid, process, self.now));
            }
            last = Some(pid);
        }
        let more = last.filter(|_| found.peek().is_some());
        let next_page_token = more.map(|pid| page_token(seal, &pid.to_bytes()));
        Ok(ProcessPage { processes, next_page_token: next_page_token.unwrap_or_default() })
    }

    /// Goes through the processes that fit and may be seen, in order of pid.
    fn found(
        self,
        list: &ListProcesses,
        after: Option<&ProcessId>,
    ) -> Box<dyn Iterator<Item = &'a ProcessId> + 'a> {
        let user = match self.by.sees_all() {
            true => list.user.as_ref(),
            false => Some(&self.by.user),
        };
        match (user, list.state) {
            (None, None) => {
                let from = after.cloned().map_or(Bound::Unbounded, Bound::Excluded);
                Box::new(self.state.processes.range((from, Bound::Unbounded)).map(|(pid, _)| pid))
            }
            (None, Some(state)) => Box::new(self.state.process_index.in_state(state, after)),
            (Some(user), state) => self.found_of(user, state, (list.user.is_none(), after)),
        }
    }

    /// Those of one user; with those that it runs for others, if nobody's were asked for.
    fn found_of(
        self,
        user: &UserId,
        state: Option<ProcessState>,
        (held, after): (bool, Option<&ProcessId>),
    ) -> Box<dyn Iterator<Item = &'a ProcessId> + 'a> {
        let index = &self.state.process_index;
        let states = ProcessState::ALL.iter().filter(|one| state.is_none_or(|of| of == **one));
        let mut sources: Vec<Peekable<Box<dyn Iterator<Item = &'a ProcessId> + 'a>>> = Vec::new();
        for state in states {
            let source: Box<dyn Iterator<Item = _>> = Box::new(index.of(user, *state, after));
            sources.push(source.peekable());
        }
        if held {
            let fits = move |pid: &&ProcessId| {
                let process = self.state.process(pid);
                process.is_some_and(|process| state.is_none_or(|of| of == process.state))
            };
            let source: Box<dyn Iterator<Item = _>> =
                Box::new(index.held_by(user, after).filter(fits));
            sources.push(source.peekable());
        }
        let mut merged = Merged(sources);
        Box::new(from_fn(move || merged.next()))
    }
}
