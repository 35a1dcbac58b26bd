//! A disk that tears writes and loses syncs.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::sync::Arc;

use machines::Choices;
use runtime::Disk;

use super::{Faults, assert_rates};

/// How often writes are struck, per mille, each below 1,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskRates {
    /// A prefix is written and the write then fails, as if power was lost in the middle. Of a file
    /// that a read did not find nothing is written: the port promises that it is made whole.
    pub torn: u32,
    /// The write is told durable and is not there. This breaks the port's promise:
    /// [`Faults::broken`] counts it.
    pub lost_sync: u32,
}

/// A decorated disk.
#[derive(Debug)]
pub struct Faulty<D> {
    pub(super) inner: D,
    rates: DiskRates,
    choices: Choices,
    faults: Arc<Faults>,
    /// Writes not yet told, oldest first.
    writing: VecDeque<Write>,
    /// Whether there is a file, for all that was told.
    there: bool,
}

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Write {
    Honest,
    /// A prefix is being written.
    Torn,
    /// Not a byte of it was written.
    TornAtOnce,
    Lost,
}

impl<D: Disk> Faulty<D> {
    /// Wraps `inner`.
    ///
    /// # Panics
    ///
    /// If a rate is 1,000 or more.
    pub fn new(inner: D, rates: DiskRates, choices: Choices, faults: Arc<Faults>) -> Self {
        assert_rates(&[rates.torn, rates.lost_sync]);
        Self { inner, rates, choices, faults, writing: VecDeque::new(), there: true }
    }
}

impl<D: Disk> Disk for Faulty<D> {
    async fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let file = self.inner.read().await?;
        self.there = file.is_some();
        Ok(file)
    }

    fn write(&mut self, offset: u64, mut bytes: Vec<u8>) {
        let who = [offset, 0];
        let Self { choices, rates, .. } = self;
        let write = if self.faults.asks(choices, "faulty.torn", who, rates.torn) {
            self.faults.strike();
            let bound = (bytes.len() as u64).max(1);
            let kept = choices.choose("faulty.torn.length", who, bound);
            bytes.truncate(usize::try_from(kept).expect("an answer is below its bound"));
            match bytes.is_empty() || !self.there {
                true => Write::TornAtOnce,
                false => Write::Torn,
            }
        } else if self.faults.asks(choices, "faulty.lost_sync", who, rates.lost_sync) {
            self.faults.break_promise();
            Write::Lost
        } else {
            Write::Honest
        };
        match write {
            Write::Honest | Write::Torn => self.inner.write(offset, bytes),
            Write::TornAtOnce | Write::Lost => {}
        }
        self.writing.push_back(write);
    }

    async fn written(&mut self) -> io::Result<()> {
        let Some(write) = self.writing.front() else {
            return pending().await;
        };
        // Nothing is awaited after the write is forgotten: a dropped call loses nothing.
        let told = match write {
            Write::Honest => self.inner.written().await,
            Write::Torn => self.inner.written().await.and_then(|()| torn()),
            Write::TornAtOnce => torn(),
            Write::Lost => Ok(()),
        };
        self.there |= *write == Write::Honest && told.is_ok();
        self.writing.pop_front();
        told
    }
}

fn torn() -> io::Result<()> {
    Err(io::Error::other("the write was torn"))
}
