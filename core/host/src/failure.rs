//! Why a node does not start, or stopped; and the exit code that says so.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use machines::keeper::io::RefusedStart;
use machines::kernel::Code;
use machines::ledger::fold::Unreadable;
use machines::ledger::recovery::io::Refusal;
use machines::node::io::StopReason;
use runtime::{Gone, RunError};

use crate::config::ConfigError;
use crate::ledger::Unusable;

/// The exit codes of `lockstep`.
///
/// | code | meaning |
/// |---|---|
/// | 0 | ok |
/// | 1 | a failure at run time |
/// | 2 | bad usage, configuration or allowlist |
/// | 3 | the address or the data folder is in use |
/// | 4 | the key cannot be used: missing, readable by others, malformed, held by another process |
/// | 5 | the session file or the ledger is corrupt |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// A failure at run time.
    Runtime = 1,
    /// Bad usage, configuration or allowlist.
    Usage = 2,
    /// The address or the data folder is in use.
    InUse = 3,
    /// The key cannot be used.
    Key = 4,
    /// The session file or the ledger is corrupt.
    Corrupt = 5,
}

/// Why a node does not start, or stopped (C105). Each prints as one line.
#[derive(Debug)]
pub enum Failure {
    /// A value of the configuration, or a relation between values.
    ConfigInvalid(ConfigError),
    /// The key file is missing, readable by others, or no key.
    KeyUnreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// The session file has no valid slot. Nothing was changed (C7).
    SessionCorrupt {
        /// The file.
        path: PathBuf,
    },
    /// The session file cannot be read or written.
    SessionUnusable {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The allowlist cannot be read, or has a wrong line (C24).
    AllowlistInvalid {
        /// The file.
        path: PathBuf,
        /// The line, from 1, if it could be read.
        line: Option<u32>,
        /// What is wrong.
        why: String,
    },
    /// Another process listens there.
    AddrInUse(SocketAddr),
    /// Listening there is not possible.
    Bind {
        /// Where.
        addr: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// Another process uses the data folder (L2).
    FolderInUse {
        /// Which.
        path: PathBuf,
        /// Who, if that is known.
        pid: Option<u32>,
    },
    /// The data folder cannot be used.
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The kernel must not start on what is in the data folder, of which nothing was changed (L33,
    /// L34, L36).
    Unkept(Box<RefusedStart>),
    /// There is no ledger in this data folder.
    NoLedger(PathBuf),
    /// The journal cannot be used as it is; nothing was changed (L33, L34).
    Ledger(Unusable),
    /// A sound record holds what this program cannot read (L36).
    LedgerUnknown {
        /// Which.
        record: u64,
        /// Why.
        why: Unreadable,
    },
    /// The journal has no such record.
    NoRecord {
        /// Which.
        record: u64,
        /// The last one that it has.
        last: u64,
    },
    /// The doctor found so many problems, and has told them.
    Unsound(usize),
    /// What was asked for cannot be printed.
    Printing(io::Error),
    /// The node stopped by itself.
    Stopped(StopReason),
    /// The run loop failed.
    Run(RunError),
    /// The run loop panicked.
    Panicked,
    /// No node runs on this data folder.
    NotRunning(PathBuf),
    /// The node stopped, and had not left its cluster.
    NotLeft,
    /// The node had not stopped after so long, and was ended (K363).
    NotStopped(Duration),
    /// The node did not answer, or answered with an error.
    Control(String),
}

impl Failure {
    /// Returns the exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::ConfigInvalid(_) | Self::AllowlistInvalid { .. } => Exit::Usage,
            Self::KeyUnreadable { .. } | Self::Stopped(StopReason::KeyInUse) => Exit::Key,
            Self::SessionCorrupt { .. } | Self::LedgerUnknown { .. } | Self::Unsound(_) => {
                Exit::Corrupt
            }
            Self::Unkept(why) => unkept(why),
            Self::Ledger(unfit) => unusable(&unfit.refusal),
            Self::AddrInUse(_) | Self::FolderInUse { .. } => Exit::InUse,
            Self::SessionUnusable { .. }
            | Self::Bind { .. }
            | Self::Folder { .. }
            | Self::NoLedger(_)
            | Self::NoRecord { .. }
            | Self::Printing(_)
            | Self::Stopped(StopReason::SessionsExhausted)
            | Self::Run(_)
            | Self::Panicked
            | Self::NotRunning(_)
            | Self::NotLeft
            | Self::NotStopped(_)
            | Self::Control(_) => Exit::Runtime,
        }
    }
}

/// Only a ledger that is damaged, foreign or of a later release is corrupt: a disk that gives no
/// bytes may give them the next time (L33, L34, L36).
fn unkept(why: &RefusedStart) -> Exit {
    match why {
        RefusedStart::Journal(refusal) => unusable(refusal),
        RefusedStart::Record { .. }
        | RefusedStart::Snapshot { .. }
        | RefusedStart::Foreign { .. } => Exit::Corrupt,
        RefusedStart::Unreadable { .. } => Exit::Runtime,
        // Else the disk did not take the first record.
        RefusedStart::Config(refusal) if is_usage(refusal.code) => Exit::Usage,
        RefusedStart::Config(_) => Exit::Runtime,
    }
}

fn is_usage(code: Code) -> bool {
    [Code::BadValue, Code::PolicyNotAllowed].contains(&code)
}

const fn unusable(refusal: &Refusal) -> Exit {
    match refusal {
        Refusal::Unreadable { .. } => Exit::Runtime,
        Refusal::Corrupt { .. }
        | Refusal::Gap { .. }
        | Refusal::Overlap { .. }
        | Refusal::Missing { .. }
        | Refusal::Differs { .. }
        | Refusal::BadHeader { .. }
        | Refusal::UnknownFormat { .. }
        | Refusal::ForeignNode { .. } => Exit::Corrupt,
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConfigInvalid(error) => error.fmt(f),
            Self::KeyUnreadable { path, why } => write!(f, "key file {}: {why}", path.display()),
            Self::SessionCorrupt { path } => session_corrupt(f, path),
            Self::SessionUnusable { path, why } => {
                write!(f, "session file {}: {why}", path.display())
            }
            Self::AllowlistInvalid { path, line, why } => allowlist_invalid(f, path, *line, why),
            Self::Unkept(why) => why.fmt(f),
            Self::AddrInUse(addr) => write!(f, "bind: {addr} is in use by another process"),
            Self::Bind { addr, error } => write!(f, "bind: cannot listen at {addr}: {error}"),
            Self::FolderInUse { path, pid } => folder_in_use(f, path, *pid),
            Self::Folder { path, error } => {
                write!(f, "data: cannot use the folder {}: {error}", path.display())
            }
            Self::NoLedger(path) => {
                write!(f, "there is no ledger in the data folder {}", path.display())
            }
            Self::Ledger(unfit) => unfit.fmt(f),
            Self::LedgerUnknown { record, why } => write!(f, "journal: record {record}: {why}"),
            Self::NoRecord { record, last } => {
                write!(f, "journal: there is no record {record}; the last one is {last}")
            }
            Self::Unsound(problems) => unsound(f, *problems),
            Self::Printing(error) => write!(f, "cannot print: {error}"),
            Self::Stopped(reason) => f.write_str(stopped(*reason)),
            Self::Run(error) => error.fmt(f),
            Self::Panicked => f.write_str("the run loop panicked: this is a defect"),
            Self::NotRunning(path) => {
                write!(f, "no node runs on the data folder {}", path.display())
            }
            Self::NotLeft => {
                f.write_str("the node stopped before it had left: its peers will take it for dead")
            }
            Self::NotStopped(most) => not_stopped(f, *most),
            Self::Control(why) => write!(f, "the node did not answer: {why}"),
        }
    }
}

fn session_corrupt(f: &mut fmt::Formatter<'_>, path: &Path) -> fmt::Result {
    write!(
        f,
        "SessionCorrupt: {} has no valid slot; restore it, or remove it if no node with this key \
         runs: its peers then tell it which sessions are used up",
        path.display()
    )
}

fn allowlist_invalid(
    f: &mut fmt::Formatter<'_>,
    path: &Path,
    line: Option<u32>,
    why: &str,
) -> fmt::Result {
    match line {
        Some(line) => write!(f, "allowlist {}, line {line}: {why}", path.display()),
        None => write!(f, "allowlist {}: {why}", path.display()),
    }
}

fn folder_in_use(f: &mut fmt::Formatter<'_>, path: &Path, pid: Option<u32>) -> fmt::Result {
    match pid {
        Some(pid) => write!(f, "data: process {pid} uses the folder {}", path.display()),
        None => write!(f, "data: another process uses the folder {}", path.display()),
    }
}

fn unsound(f: &mut fmt::Formatter<'_>, problems: usize) -> fmt::Result {
    match problems {
        1 => f.write_str("the ledger is not sound: 1 problem"),
        _ => write!(f, "the ledger is not sound: {problems} problems"),
    }
}

const fn stopped(reason: StopReason) -> &'static str {
    match reason {
        StopReason::KeyInUse => {
            "KeyInUse: another process runs with this key; stop it, or make a new key"
        }
        StopReason::SessionsExhausted => "all sessions of this key are used up; make a new key",
    }
}

fn not_stopped(f: &mut fmt::Formatter<'_>, most: Duration) -> fmt::Result {
    let whole = Duration::from_millis(u64::try_from(most.as_millis()).unwrap_or(u64::MAX));
    let most = humantime::format_duration(whole);
    write!(f, "the node had not stopped in {most}, and was ended like by a crash")
}

impl std::error::Error for Failure {}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::ConfigInvalid(error)
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        Self::Run(error)
    }
}

impl From<Gone> for Failure {
    fn from(gone: Gone) -> Self {
        Self::Control(gone.to_string())
    }
}

#[cfg(test)]
mod tests {
    use machines::keeper::io::Folder;
    use machines::kernel;
    use machines::ledger::journal::io::DiskError;
    use machines::ledger::segment::File;

    use super::*;

    /// L33: scripts that see exit code 5 restore a backup; that a disk did not answer, or that a
    /// value is wrong, is no reason to.
    #[test]
    fn only_what_is_damaged_or_foreign_is_corrupt() {
        let (file, error) = (File::Segment(1), DiskError::Device);
        let unread = Refusal::Unreadable { file: Some(file), offset: 0, error };
        let config = |code| RefusedStart::Config(kernel::Refusal::new(code, "as it is"));
        let why = Unreadable::Tag { tag: 9 };
        let found = [
            RefusedStart::Journal(unread),
            RefusedStart::Unreadable { folder: Folder::Snapshots, error },
            config(Code::DiskFull),
            config(Code::BadValue),
            RefusedStart::Journal(Refusal::Missing { record: 1 }),
            RefusedStart::Record { number: 1, why: why.clone() },
            RefusedStart::Snapshot { record: 1, why },
            RefusedStart::Foreign { record: 1, why: "another node's".to_owned() },
        ]
        .map(|why| Failure::Unkept(Box::new(why)).exit() as u8);
        assert_eq!(found, [1, 1, 1, 2, 5, 5, 5, 5]);
        assert_eq!(Failure::Ledger(unread.into()).exit(), Exit::Runtime);
    }
}
