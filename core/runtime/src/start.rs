//! What must be durable before a node opens a socket: its new session (C7).

use std::fmt;
use std::io;

use machines::cluster::identity::{SessionError, next_session, session_slot};
use machines::cluster::ids::{NodeId, Session};

use crate::ports::Disk;

/// Why a start has no session. The node must not open a socket.
#[derive(Debug)]
pub enum NoSession {
    /// The file says so; it is as it was.
    Refused(SessionError),
    /// The file cannot be read; it is as it was.
    Read(io::Error),
    /// The session could not be made durable.
    Write(io::Error),
}

impl fmt::Display for NoSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => error.fmt(f),
            Self::Read(error) => write!(f, "it cannot be read: {error}"),
            Self::Write(error) => write!(f, "it cannot be written: {error}"),
        }
    }
}

impl std::error::Error for NoSession {}

/// Takes the next session of `node`, and returns it once it is durable.
///
/// # Errors
///
/// See [`NoSession`].
pub async fn burn_session(disk: &mut impl Disk, node: NodeId) -> Result<Session, NoSession> {
    let file = disk.read().await.map_err(NoSession::Read)?;
    let session = next_session(file.as_deref(), node).map_err(NoSession::Refused)?;
    let (offset, bytes) = session_slot(session, node);
    disk.write(offset, bytes.to_vec());
    disk.written().await.map_err(NoSession::Write)?;
    Ok(session)
}
