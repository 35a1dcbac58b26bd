//! The checkers of the ledger (ledger.md, section 8): each sees what a user sees, and the platter.
#![expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it judges")]

#[cfg(test)]
mod tests;

use machines::ledger::record::{Frame, Kind};
use machines::ledger::segment::{HEADER_BYTES, Header};
use machines::ledger::snapshot::FileName;

use super::io::Guest;
use super::{Seen, Watch, World};
use crate::files::{Answer, Files, Operation, Rotten};

/// How to make a watch.
pub type Make<G> = fn() -> Box<dyn Watch<G>>;

/// Lists the watches of the ledger's properties.
#[must_use]
pub fn of_ledger<G: Guest>() -> Vec<(&'static str, Make<G>)> {
    vec![
        ("L70", || Box::new(Lost)),
        ("L71", || Box::new(Prefix)),
        ("L72", || Box::new(Roots)),
        ("L73", || Box::new(TooEarly { property: "L73", after: None })),
        ("L74", || Box::new(TornOrCorrupt::default())),
        ("L75", || Box::new(TooEarly { property: "L75", after: Some("failed-sync") })),
        ("L76", || Box::new(FullDisk::default())),
        ("L77", || Box::new(OldFiles)),
        ("L78", || Box::new(Bounded)),
        ("L79", || Box::new(OneProcess)),
    ]
}

/// L70: nothing acknowledged is lost.
#[derive(Clone, Copy, Debug)]
struct Lost;

impl<G: Guest> Watch<G> for Lost {
    fn property(&self) -> &'static str {
        "L70"
    }

    fn see(&mut self, world: &World<G>, seen: &Seen<'_, G>) -> Result<bool, String> {
        let Seen::Recovered(found) = seen else {
            return Ok(false);
        };
        if world.is_disk_broken() {
            return Ok(false); // L61: then a loss may not be noticeable. L74 says when it is.
        }
        let (record, told) = (found.record, world.history().acknowledged());
        if record < told {
            return Err(format!("record {told} was acknowledged, and {record} is the last"));
        }
        let written = world.history().hash(record);
        if found.hash.is_some() && written.is_some() && written != found.hash {
            return Err(format!("record {record} is not the one that was written"));
        }
        Ok(told > 0)
    }
}

/// L71: what is recovered is what was decided up to some record, whole.
#[derive(Clone, Copy, Debug)]
struct Prefix;

impl<G: Guest> Watch<G> for Prefix {
    fn property(&self) -> &'static str {
        "L71"
    }

    fn see(&mut self, world: &World<G>, seen: &Seen<'_, G>) -> Result<bool, String> {
        let Seen::Recovered(found) = seen else {
            return Ok(false);
        };
        let (record, decided) = (found.record, world.history().decided());
        if record > decided {
            return Err(format!("record {record} was never decided, {decided} were"));
        }
        match (found.root, world.history().root(record)) {
            _ if record == 0 => Ok(false),
            (None, _) => Ok(true),
            // Not every keeper tells the root of each record (L72).
            (Some(_), None) => Ok(false),
            (Some(found), Some(left)) if found == left => Ok(true),
            (Some(_), Some(_)) => {
                Err(format!("record {record} did not leave the state that was recovered from it"))
            }
        }
    }
}

/// L72: the root after a recovery is the one that the running node had at that record.
#[derive(Clone, Copy, Debug)]
struct Roots;

impl<G: Guest> Watch<G> for Roots {
    fn property(&self) -> &'static str {
        "L72"
    }

    fn see(&mut self, world: &World<G>, seen: &Seen<'_, G>) -> Result<bool, String> {
        let Seen::Recovered(found) = seen else {
            return Ok(false);
        };
        let record = found.record;
        match (world.history().root(record), found.root) {
            (Some(was), Some(is)) if was != is => Err(format!(
                "the root at record {record} was {was:?}, and is {is:?} after the snapshot of {}",
                found.snapshot
            )),
            (Some(_), Some(_)) => Ok(true),
            (None, _) | (_, None) => Ok(false),
        }
    }
}

/// L73, L75, K445: what a reply, an answer or an effect tells of stands on the platter, at that
/// moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct TooEarly {
    pub(super) property: &'static str,
    /// It counts once this kind of fault has struck.
    pub(super) after: Option<&'static str>,
}

impl<G: Guest> Watch<G> for TooEarly {
    fn property(&self) -> &'static str {
        self.property
    }

    fn see(&mut self, world: &World<G>, seen: &Seen<'_, G>) -> Result<bool, String> {
        let (what, needs) = match seen {
            Seen::Replied { call, needs, .. } => (format!("the reply to call {call}"), *needs),
            Seen::Shown { what, needs } => ((*what).to_owned(), *needs),
            _ => return Ok(false),
        };
        let struck = self.after.is_none_or(|kind| world.has_struck(kind));
        if !struck || world.is_disk_broken() {
            return Ok(false);
        }
        match world.untrue() {
            Some(record) => {
                Err(format!("{what} tells of record {needs}, and {record} is not durable"))
            }
            None => Ok(needs > 0),
        }
    }
}

/// L74: torn is not corrupt, corrupt is not torn.
#[derive(Clone, Debug, Default)]
struct TornOrCorrupt {
    /// Records that are damaged, in which file, and that something proves acknowledged.
    damaged: Vec<(u64, String)>,
    /// Something was changed since the start began.
    changed: bool,
    /// A bit has rotted in the journal, and not in a snapshot alone.
    in_journal: bool,
}

impl<G: Guest> Watch<G> for TornOrCorrupt {
    fn property(&self) -> &'static str {
        "L74"
    }

    fn see(&mut self, world: &World<G>, seen: &Seen<'_, G>) -> Result<bool, String> {
        match seen {
            Seen::Starting => self.changed = false,
            Seen::Does(_, operation) => self.changed |= !operation.only_reads(),
            Seen::Rotted(rotten) => {
                self.in_journal |= first_of(&rotten.file).is_some();
                let record = proved_record(world.files(), rotten);
                self.damaged.extend(record.map(|record| (record, rotten.file.clone())));
            }
            Seen::Refused { reason } => {
                if self.changed {
                    return Err("a start that was refused has changed something".to_owned());
                }
                let damaged = *reason != "unreadable";
                if damaged && !world.is_disk_broken() {
                    return Err(format!("an honest disk, and the start is refused: {reason}"));
                }
                let only_rot = !["misdirected", "lost-sync"].iter().any(|it| world.has_struck(it));
                if damaged && only_rot && !self.in_journal {
                    // The one before it and the records since then are there (L30, L43).
                    return Err(format!(
                        "a snapshot has rotted, and the start is refused: {reason}"
                    ));
                }
                return Ok(true);
            }
            Seen::Recovered(found) => {
                let there = |file: &str| world.files().paths().any(|path| path == file);
                let needed =
                    |(record, file): &&(u64, String)| *record > found.snapshot && there(file);
                if let Some((record, file)) = self.damaged.iter().find(needed) {
                    return Err(format!(
                        "{file}: record {record} is damaged and was acknowledged, and the node \
                         serves from record {}",
                        found.record
                    ));
                }
                return Ok(true);
            }
            _ => {}
        }
        Ok(false)
    }
}

/// Returns the record that rot has struck, if something else proves that it was acknowledged and no
/// later segment supersedes it.
fn proved_record(files: &Files, rotten: &Rotten) -> Option<u64> {
    let own = first_of(&rotten.file)?; // A snapshot holds no record.
    let struck = frames(&rotten.before).find(|frame| frame.range.contains(&rotten.offset))?;
    if struck.kind != Kind::Events {
        return None;
    }
    let firsts = segments(files);
    if firsts.iter().any(|first| *first > own && *first <= struck.number) {
        return None; // Superseded: what stands here is nobody's.
    }
    let later = firsts.iter().any(|first| *first > struck.number);
    let mut proved = later;
    for first in firsts {
        let path = format!("journal/{first:020}.seg");
        let bytes = if path == rotten.file { None } else { files.on_platter(&path) };
        let bytes = bytes.as_deref().unwrap_or(&rotten.before);
        proved |=
            frames(bytes).any(|frame| frame.range != struck.range && frame.synced >= struck.number);
    }
    proved.then_some(struck.number)
}

struct Found {
    kind: Kind,
    number: u64,
    synced: u64,
    range: std::ops::Range<u64>,
}

/// Lists what stands in a segment, one after the other, whatever its hashes.
fn frames(bytes: &[u8]) -> impl Iterator<Item = Found> + '_ {
    let mut at = HEADER_BYTES;
    std::iter::from_fn(move || {
        let frame = Frame::parse(bytes.get(at..)?).ok()?;
        let start = at as u64;
        at += frame.bytes().len();
        let fields = frame.fields;
        let range = start..at as u64;
        Some(Found { kind: fields.kind, number: fields.number, synced: fields.synced, range })
    })
}

fn first_of(path: &str) -> Option<u64> {
    path.strip_prefix("journal/")?.strip_suffix(".seg")?.parse().ok()
}

/// Lists the segments by their first records, in order.
pub(super) fn segments(files: &Files) -> Vec<u64> {
    files.paths().filter_map(first_of).collect()
}

/// Returns where in a segment stands what is no record of its chain, for a saboteur.
#[must_use]
pub fn first_bad(files: &Files, path: &str) -> Option<u64> {
    let bytes = files.on_platter(path)?;
    let header = Header::parse(&bytes).ok()?;
    let (mut at, mut chain) = (HEADER_BYTES, header.chain);
    while let Ok(frame) = Frame::parse(&bytes[at..]) {
        if frame.fields.kind == Kind::Events {
            if !frame.follows(&chain) {
                break;
            }
            chain = frame.stored();
        }
        at += frame.bytes().len();
    }
    Some(at as u64)
}

/// L76: a full disk costs no acknowledged record, and service resumes by itself.
#[derive(Clone, Copy, Debug, Default)]
struct FullDisk {
    quiet: bool,
    /// Since the disk has room again.
    done: u64,
}

impl<G: Guest> Watch<G> for FullDisk {
    fn property(&self) -> &'static str {
        "L76"
    }

    fn see(&mut self, world: &World<G>, seen: &Seen<'_, G>) -> Result<bool, String> {
        if let Seen::Quiet = seen {
            self.quiet = true;
        }
        if let Seen::Replied { reply, .. } = seen {
            self.done += u64::from(self.quiet && G::is_done(reply));
        }
        TooEarly { property: "L76", after: Some("full") }.see(world, seen)
    }

    fn end(&mut self, world: &World<G>) -> Result<bool, String> {
        if !world.has_struck("full") || !self.quiet || world.is_disk_broken() {
            return Ok(false);
        }
        match self.done {
            0 if world.is_left_down() => Ok(false), // Syncs failed, too: somebody has to (L24).
            0 => Err("there is room again, and nothing was done since".to_owned()),
            _ => Ok(true),
        }
    }
}

/// L77: every record that recovery could need is on disk at every instant.
#[derive(Clone, Copy, Debug)]
struct OldFiles;

impl<G: Guest> Watch<G> for OldFiles {
    fn property(&self) -> &'static str {
        "L77"
    }

    fn see(&mut self, world: &World<G>, seen: &Seen<'_, G>) -> Result<bool, String> {
        let Seen::Ended(Operation::Remove { file }, Answer::Done) = seen else {
            return Ok(false);
        };
        match world.is_disk_broken() {
            true => Ok(false),
            false => may_go(world.files(), file, world.history().decided()),
        }
    }
}

/// Says whether a file that went held anything that recovery could need, of so many records.
fn may_go(files: &Files, file: &str, decided: u64) -> Result<bool, String> {
    let sure = files.sure().filter_map(snapshot_of).max().unwrap_or(0);
    if let Some(snapshot) = snapshot_of(file) {
        return match snapshot > sure {
            true => Err(format!("the snapshot of {snapshot} went, and {sure} is durable")),
            false => Ok(true),
        };
    }
    let Some(first) = first_of(file) else {
        return Ok(false);
    };
    let next = segments(files).into_iter().find(|next| *next > first);
    let last = next.map_or(decided, |next| next - 1);
    if last > sure {
        return Err(format!(
            "records {first} to {last} went, and the newest durable snapshot is of {sure}"
        ));
    }
    match named_segments(files).any(|left| left <= sure + 1) {
        true => Ok(true),
        false => Err(format!(
            "segment {first} went, and a power cut may leave none that goes on after the \
             snapshot of {sure}"
        )),
    }
}

/// Lists the segments whose names stay whatever a power cut leaves, by their first records: those
/// that the disk has, and that nobody has removed since.
fn named_segments(files: &Files) -> impl Iterator<Item = u64> + '_ {
    let is_durable = |path: &&str| {
        let inode = files.inode(path);
        inode.is_some_and(|inode| files.is_durable(inode, 0, &[], |name| name == *path))
    };
    files.paths().filter(is_durable).filter_map(first_of)
}

fn snapshot_of(path: &str) -> Option<u64> {
    match FileName::parse(path.strip_prefix("snapshots/")?)? {
        FileName::Snapshot(record) => Some(record),
        FileName::Temporary(_) => None,
    }
}

/// L78: what is held because it is not durable has a bound: by the bytes of the records, as they
/// are told, and by the buffers of the journal.
#[derive(Clone, Copy, Debug)]
struct Bounded;

impl<G: Guest> Watch<G> for Bounded {
    fn property(&self) -> &'static str {
        "L78"
    }

    fn see(&mut self, world: &World<G>, seen: &Seen<'_, G>) -> Result<bool, String> {
        let Seen::Decided(_) = seen else {
            return Ok(false);
        };
        let held = world.guest().map_or(0, G::held).max(world.history().held());
        let most = G::unsynced_max(&world.setup().kind);
        match held > most {
            true => Err(format!("{held} bytes of records wait for the disk, at most {most}")),
            false => Ok(held > most / 4),
        }
    }
}

/// L79: two processes never both write.
#[derive(Clone, Copy, Debug)]
struct OneProcess;

impl<G: Guest> Watch<G> for OneProcess {
    fn property(&self) -> &'static str {
        "L79"
    }

    fn see(&mut self, world: &World<G>, seen: &Seen<'_, G>) -> Result<bool, String> {
        let Seen::Does(process, operation) = seen else {
            return Ok(false);
        };
        if operation.only_reads() {
            return Ok(false);
        }
        match world.files().holder() {
            Some(holder) if holder == *process => Ok(world.has_struck("locked-out")),
            holder => Err(format!("process {process} writes, and {holder:?} has the lock")),
        }
    }
}
