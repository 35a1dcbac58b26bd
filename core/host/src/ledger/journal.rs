//! `lockstep journal cat`, `verify` and `root`: a look at the records of a ledger.

use std::io::{self, BufWriter, Write};

use machines::kernel::part::KernelPart;
use machines::ledger::fold::{Frame, Part};
use machines::ledger::recovery::io::{Entry, Head, Recovered};
use machines::ledger::root::StateRoot;
use serde_json::{Value, json};

use super::Ledger;
use super::replay::frames;
use crate::cluster::hex;
use crate::failure::Failure;

impl Ledger {
    /// Prints the records from `from` on to `out`, one line each and one for each event, or one
    /// JSON object each. Whoever does not read on ends it.
    ///
    /// # Errors
    ///
    /// The journal is not sound; what comes before that was printed.
    pub fn cat(&self, from: u64, as_json: bool, out: impl Write) -> Result<(), Failure> {
        let mut out = BufWriter::new(out);
        let scanned = self.scan(self.before(from), |entry| {
            if entry.number < from {
                return Ok(());
            }
            let shown = match as_json {
                true => writeln!(out, "{}", json_of(entry)?),
                false => show(&mut out, entry)?,
            };
            shown.map_err(Failure::Printing)
        });
        let flushed = out.flush().map_err(Failure::Printing);
        match scanned.and_then(|scanned| flushed.map(|()| scanned)) {
            Ok(scanned) => scanned.map(|_| ()).map_err(Failure::Ledger),
            Err(Failure::Printing(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Checks the chain of all records that are there.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn verify(&self) -> Result<Verified, Failure> {
        let before = self.before(0);
        let scanned = self.scan(before, |_| Ok(()))?;
        let recovered = scanned.map_err(Failure::Ledger)?;
        Ok(Verified { before: before.record, recovered })
    }

    /// Returns the state root after record `at`, or after the last one, and which record that is.
    /// It begins with the newest sound snapshot that is not younger.
    ///
    /// # Errors
    ///
    /// The journal is not sound, holds what this program cannot read, or ends before `at`.
    pub fn root(&self, at: Option<u64>) -> Result<Rooted, Failure> {
        let begun = self.begin(at.unwrap_or(u64::MAX));
        let (start, mut replay) = begun.map_err(Failure::Unkept)?;
        let mut last = start;
        let scanned = self.scan(start, |entry| {
            if at.is_none_or(|at| entry.number <= at) {
                replay.apply(entry)?;
                last = Head { record: entry.number, hash: entry.hash };
            }
            Ok(())
        })?;
        match (scanned, at) {
            (Err(unusable), _) => Err(Failure::Ledger(unusable)),
            (Ok(_), Some(at)) if at != last.record => {
                Err(Failure::NoRecord { record: at, last: last.record })
            }
            (Ok(_), Some(_) | None) => Ok(Rooted { from: start, head: last, root: replay.root() }),
        }
    }
}

/// What is in a sound journal.
#[derive(Clone, Debug)]
pub struct Verified {
    /// The record before the first that is there.
    before: u64,
    recovered: Recovered,
}

impl Verified {
    /// Shows it to programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let Self { before, recovered } = self;
        json!({
            "first": (recovered.head.record > *before).then_some(before + 1),
            "last": recovered.head.record,
            "head": hex(&recovered.head.hash),
            "durable": recovered.durable,
            "segments": recovered.segments.len(),
            "torn": recovered.torn.map(|torn| json!({
                "file": torn.file.to_string(),
                "offset": torn.offset,
                "record": torn.record,
            })),
            "strangers": recovered.strangers,
        })
    }
}

impl std::fmt::Display for Verified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { before, recovered } = self;
        let (head, segments) = (recovered.head, recovered.segments.len());
        if head.record == *before {
            write!(f, "sound: no record, {segments} segments")?;
        } else {
            let first = before + 1;
            write!(f, "sound: records {first} to {}, {segments} segments", head.record)?;
        }
        write!(f, "\nhead {} {}", head.record, hex(&head.hash))?;
        if let Some(torn) = recovered.torn {
            let (file, offset, record) = (torn.file, torn.offset, torn.record);
            write!(f, "\ntorn journal/{file}: at byte {offset}, where record {record} would be")?;
        }
        recovered.strangers.iter().try_for_each(|name| write!(f, "\nnot ours journal/{name}"))
    }
}

/// The state at one record.
#[derive(Clone, Copy, Debug)]
pub struct Rooted {
    from: Head,
    head: Head,
    root: StateRoot,
}

impl Rooted {
    /// Returns the root.
    #[must_use]
    pub const fn root(&self) -> StateRoot {
        self.root
    }

    /// Shows it to programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "record": self.head.record,
            "head": hex(&self.head.hash),
            "root": self.root.to_string(),
            "snapshot": (self.from.record > 0).then_some(self.from.record),
        })
    }
}

impl std::fmt::Display for Rooted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.head.record, self.root)
    }
}

fn show(out: &mut impl Write, entry: &Entry) -> Result<io::Result<()>, Failure> {
    let Entry { number, time_ms, count, hash, .. } = entry;
    let events = frames(entry)?;
    let mut write = || {
        let plural = if *count == 1 { "" } else { "s" };
        let hash = &hex(hash)[..16];
        writeln!(out, "{number} {} {count} event{plural} {hash}", time(*time_ms))?;
        events.iter().try_for_each(|frame| writeln!(out, "    {}", line_of(frame)))
    };
    Ok(write())
}

/// Shows a moment as people write it, if it is one that they would.
fn time(millis: u64) -> String {
    let at = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_millis(millis));
    // Humantime ends with the year 9999.
    match at.filter(|_| millis < 253_402_300_800_000) {
        Some(at) => humantime::format_rfc3339_millis(at).to_string(),
        None => format!("{millis}ms"),
    }
}

/// Shows an event on one line; one of another part, or of a later version, as its bytes.
fn line_of(frame: &Frame<'_>) -> String {
    match frame.read::<KernelPart>() {
        Ok(event) => {
            let subject = &event.subject;
            let pid = subject.pid.as_ref().map(|pid| format!(" {pid}")).unwrap_or_default();
            format!("{}{pid} {:?}", event.body.kind(), event.body)
        }
        Err(why) => {
            let Frame { tag, version, body } = frame;
            format!("tag {tag} version {version} {} bytes {} ({why})", body.len(), hex(body))
        }
    }
}

fn json_of(entry: &Entry) -> Result<Value, Failure> {
    let events: Vec<Value> = frames(entry)?.iter().map(event_json).collect();
    Ok(json!({
        "record": entry.number,
        "time_ms": entry.time_ms,
        "hash": hex(&entry.hash),
        "events": events,
    }))
}

fn event_json(frame: &Frame<'_>) -> Value {
    let Frame { tag, version, body } = frame;
    match frame.read::<KernelPart>() {
        Ok(event) => {
            let subject = &event.subject;
            json!({
                "part": KernelPart::NAME,
                "version": version,
                "kind": event.body.kind(),
                "time_ms": event.time.as_millis(),
                "pid": subject.pid.as_ref().map(ToString::to_string),
                "user": subject.user.as_ref().map(ToString::to_string),
                "session": subject.session.as_ref().map(ToString::to_string),
                "request": subject.request.as_ref().map(ToString::to_string),
                "body": format!("{:?}", event.body),
            })
        }
        Err(why) => json!({
            "tag": tag,
            "version": version,
            "bytes": hex(body),
            "unreadable": why.to_string(),
        }),
    }
}
