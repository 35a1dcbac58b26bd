//! Who writes notes: callers that write, erase and read, and do the same again when nobody answers.

use std::sync::Arc;

use machines::Choices;

use super::io::{Crowd, Heard, Work};
use super::ledger::{Ledger, Reply};
use super::notes::{Request, Text};

/// See the file's header.
#[derive(Clone, Debug)]
pub struct Writers {
    work: Work,
    /// Of each caller: what it asks again.
    again: Vec<Option<Request>>,
    done: u64,
}

impl Crowd<Ledger> for Writers {
    fn new(work: &Work) -> Self {
        Self { work: work.clone(), again: vec![None; work.callers as usize], done: 0 }
    }

    fn next(&mut self, caller: u32, _: u64, choices: &mut Choices) -> Option<Request> {
        if let Some(again) = self.again[caller as usize].take() {
            return Some(again);
        }
        if self.work.records.is_some_and(|records| self.done >= records) {
            return None;
        }
        let who = [u64::from(caller), 0];
        let key = choices.choose("writer.key", who, self.work.keys);
        Some(match choices.choose("writer.deed", who, 8) {
            0..=5 => {
                let length = choices.choose("writer.bytes", who, self.work.bytes) + 1;
                let letter = char::from(b'a' + u8::try_from(key % 26).expect("a letter"));
                let text: String = std::iter::repeat_n(letter, usize_of(length)).collect();
                Request::Write { key, text: Text { bytes: Arc::from(text) } }
            }
            6 => Request::Erase { key },
            _ => Request::Read { key },
        })
    }

    fn heard(&mut self, caller: u32, request: &Request, heard: Heard<'_, Reply>) {
        match heard {
            Heard::Reply(Reply::Done(_)) => self.done += 1,
            Heard::Reply(Reply::Count(_) | Reply::Missing) => {}
            Heard::Reply(Reply::Busy(_)) | Heard::Nothing => {
                self.again[caller as usize] = Some(request.clone());
            }
        }
    }
}

fn usize_of(length: u64) -> usize {
    usize::try_from(length).expect("a text is short")
}
