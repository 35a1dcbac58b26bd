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

/// Processes in order of pid.
type Source<'a> = Peekable<Box<dyn Iterator<Item = &'a ProcessId> + 'a>>;

/// Merges sorted sources; what is in several comes once.
fn merged<'a>(mut sources: Vec<Source<'a>>) -> Box<dyn Iterator<Item = &'a ProcessId> + 'a> {
    Box::new(from_fn(move || {
        let least = sources.iter_mut().filter_map(|source| source.peek().copied()).min()?;
        for source in &mut sources {
            source.next_if_eq(&least);
        }
        Some(least)
    }))
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

    /// Goes through the processes that fit and may be seen (K27), in order of pid.
    fn found(
        self,
        list: &ListProcesses,
        after: Option<&ProcessId>,
    ) -> Box<dyn Iterator<Item = &'a ProcessId> + 'a> {
        if !self.by.sees_all() {
            return self.found_by(list, after);
        }
        match (&list.user, list.state) {
            (None, None) => {
                let from = after.cloned().map_or(Bound::Unbounded, Bound::Excluded);
                Box::new(self.state.processes.range((from, Bound::Unbounded)).map(|(pid, _)| pid))
            }
            (None, Some(state)) => Box::new(self.state.process_index.in_state(state, after)),
            (Some(user), state) => merged(self.owned(user, state, after)),
        }
    }

    /// Those of who asks, and those that it runs for others.
    fn found_by(
        self,
        list: &ListProcesses,
        after: Option<&ProcessId>,
    ) -> Box<dyn Iterator<Item = &'a ProcessId> + 'a> {
        let (me, user, state) = (&self.by.user, list.user.clone(), list.state);
        let mut sources = match &user {
            Some(user) if user != me => Vec::new(),
            Some(_) | None => self.owned(me, state, after),
        };
        if user.as_ref() != Some(me) {
            let held = self.state.process_index.held_by(me, after).filter(move |pid| {
                self.state.process(pid).is_some_and(|process| {
                    user.as_ref().is_none_or(|user| *user == process.user)
                        && state.is_none_or(|state| state == process.state)
                })
            });
            let held: Box<dyn Iterator<Item = &'a ProcessId> + 'a> = Box::new(held);
            sources.push(held.peekable());
        }
        merged(sources)
    }

    /// Those of one user: a source for each state.
    fn owned(
        self,
        user: &UserId,
        state: Option<ProcessState>,
        after: Option<&ProcessId>,
    ) -> Vec<Source<'a>> {
        let states = ProcessState::ALL.iter().filter(|one| state.is_none_or(|of| of == **one));
        let source = |state: &ProcessState| -> Source<'a> {
            let of: Box<dyn Iterator<Item = _>> =
                Box::new(self.state.process_index.of(user, *state, after));
            of.peekable()
        };
        states.map(source).collect()
    }
}
