//! Why a node does not start, or stopped; and the exit code that says so.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use machines::keeper::io::RefusedStart;
use machines::ledger::fold::Unreadable;
use machines::ledger::recovery::io::Refusal;
use machines::node::io::StopReason;
use runtime::{Gone, RunError};

use crate::config::ConfigError;

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
    Ledger(Refusal),
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
    /// The node did not answer, or answered with an error.
    Control(String),
}

impl Failure {
    /// Returns the exit code.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::ConfigInvalid(_) | Self::AllowlistInvalid { .. } => Exit::Usage,
            Self::KeyUnreadable { .. } | Self::Stopped(StopReason::KeyInUse) => Exit::Key,
            Self::SessionCorrupt { .. }
            | Self::Unkept(_)
            | Self::LedgerUnknown { .. }
            | Self::Unsound(_) => Exit::Corrupt,
            Self::Ledger(Refusal::Unreadable { .. }) => Exit::Runtime,
            Self::Ledger(_) => Exit::Corrupt,
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
            | Self::Control(_) => Exit::Runtime,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConfigInvalid(error) => error.fmt(f),
            Self::KeyUnreadable { path, why } => write!(f, "key file {}: {why}", path.display()),
            Self::SessionCorrupt { path } => write!(
                f,
                "SessionCorrupt: {} has no valid slot; restore it, or remove it if no node with \
                 this key runs: its peers then tell it which sessions are used up",
                path.display()
            ),
            Self::SessionUnusable { path, why } => {
                write!(f, "session file {}: {why}", path.display())
            }
            Self::AllowlistInvalid { path, line, why } => match line {
                Some(line) => write!(f, "allowlist {}, line {line}: {why}", path.display()),
                None => write!(f, "allowlist {}: {why}", path.display()),
            },
            Self::Unkept(why) => why.fmt(f),
            Self::AddrInUse(addr) => write!(f, "bind: {addr} is in use by another process"),
            Self::Bind { addr, error } => write!(f, "bind: cannot listen at {addr}: {error}"),
            Self::FolderInUse { path, pid: Some(pid) } => {
                write!(f, "data: process {pid} uses the folder {}", path.display())
            }
            Self::FolderInUse { path, pid: None } => {
                write!(f, "data: another process uses the folder {}", path.display())
            }
            Self::Folder { path, error } => {
                write!(f, "data: cannot use the folder {}: {error}", path.display())
            }
            Self::NoLedger(path) => {
                write!(f, "there is no ledger in the data folder {}", path.display())
            }
            Self::Ledger(refusal) => refusal.fmt(f),
            Self::LedgerUnknown { record, why } => write!(f, "journal: record {record}: {why}"),
            Self::NoRecord { record, last } => {
                write!(f, "journal: there is no record {record}; the last one is {last}")
            }
            Self::Unsound(1) => f.write_str("the ledger is not sound: 1 problem"),
            Self::Unsound(problems) => write!(f, "the ledger is not sound: {problems} problems"),
            Self::Printing(error) => write!(f, "cannot print: {error}"),
            Self::Stopped(StopReason::KeyInUse) => f.write_str(
                "KeyInUse: another process runs with this key; stop it, or make a new key",
            ),
            Self::Stopped(StopReason::SessionsExhausted) => {
                f.write_str("all sessions of this key are used up; make a new key")
            }
            Self::Run(error) => error.fmt(f),
            Self::Panicked => f.write_str("the run loop panicked: this is a defect"),
            Self::NotRunning(path) => {
                write!(f, "no node runs on the data folder {}", path.display())
            }
            Self::NotLeft => {
                f.write_str("the node stopped before it had left: its peers will take it for dead")
            }
            Self::Control(why) => write!(f, "the node did not answer: {why}"),
        }
    }
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
