//! The small values of section 2 on the wire, and the numbers that stand for words.

use std::net::{IpAddr, Ipv6Addr};

use super::{BounceCode, Class, CloseReason, Code, FrameKind, State};
use crate::cluster::ids::{
    ActorId, Addr, Incarnation, Instance, Life, NodeId, Ref, SESSION_RANGE, Session,
};
use crate::codec::{Malformed, Reader, Wire};

impl Wire for NodeId {
    fn encode(&self, out: &mut Vec<u8>) {
        // By its path: through a reference, `to_bytes` is the trait's, which calls this.
        out.extend_from_slice(&Self::to_bytes(*self));
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self::from_bytes(reader.array()?))
    }
}

impl Wire for Session {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let here = reader.clone();
        let session = Self(reader.u32()?);
        match SESSION_RANGE.contains(&session) {
            true => Ok(session),
            false => Err(here.malformed("a session, 1 to 2^32-2")),
        }
    }
}

impl Wire for Life {
    fn encode(&self, out: &mut Vec<u8>) {
        self.session.encode(out);
        out.extend_from_slice(&self.incarnation.0.to_le_bytes());
    }

    /// Takes a life of any state; [`living`] refuses the incarnation of those that left.
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            session: Session::decode(reader)?,
            incarnation: Incarnation(reader.u32()?),
        })
    }
}

/// Takes a life that has not ended by leaving (C8).
pub(super) fn living(reader: &mut Reader<'_>) -> Result<Life, Malformed> {
    let here = reader.clone();
    let life = Life::decode(reader)?;
    match life.incarnation == Incarnation::LEFT {
        true => Err(here.malformed("an incarnation below 2^32-1")),
        false => Ok(life),
    }
}

impl Wire for Instance {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self(reader.u64()?))
    }
}

impl Wire for ActorId {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self(reader.u64()?))
    }
}

impl Wire for Ref {
    fn encode(&self, out: &mut Vec<u8>) {
        self.node.encode(out);
        self.session.encode(out);
        self.actor.encode(out);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            node: NodeId::decode(reader)?,
            session: Session::decode(reader)?,
            actor: ActorId::decode(reader)?,
        })
    }
}

impl Wire for Addr {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.ip().octets());
        out.extend_from_slice(&self.tcp().port().to_le_bytes());
        out.extend_from_slice(&self.udp().port().to_le_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let here = reader.clone();
        let ip = Ipv6Addr::from(reader.array::<16>()?);
        let (tcp, udp) = (reader.u16()?, reader.u16()?);
        Self::new(IpAddr::V6(ip), tcp, udp).ok_or_else(|| here.malformed("a reachable address"))
    }
}

/// Appends an address, or the 20 zero bytes that stand for none (C12).
pub(super) fn put_addr(addr: Option<&Addr>, out: &mut Vec<u8>) {
    match addr {
        Some(addr) => addr.encode(out),
        None => out.extend_from_slice(&[0; ADDR_LEN]),
    }
}

/// Takes an address where none is legal too.
pub(super) fn addr_or_none(reader: &mut Reader<'_>) -> Result<Option<Addr>, Malformed> {
    let mut ahead = reader.clone();
    if ahead.zero(ADDR_LEN).is_ok() {
        *reader = ahead;
        return Ok(None);
    }
    Addr::decode(reader).map(Some)
}

/// What an address takes, in bytes (C12).
const ADDR_LEN: usize = 20;

/// Takes a byte that must stand for a word of `from`.
pub(super) fn word<T>(
    reader: &mut Reader<'_>,
    from: fn(u8) -> Option<T>,
    expected: &'static str,
) -> Result<T, Malformed> {
    let here = reader.clone();
    from(reader.u8()?).ok_or_else(|| here.malformed(expected))
}

impl Code {
    /// All codes, by number.
    pub const ALL: [Self; 17] = [
        Self::BadMagic,
        Self::VersionMismatch,
        Self::SchemaMismatch,
        Self::FeatureMissing,
        Self::WrongCluster,
        Self::Busy,
        Self::NotAllowed,
        Self::SelfConnect,
        Self::WrongPeer,
        Self::StaleSession,
        Self::DuplicateLink,
        Self::BadCrypto,
        Self::Malformed,
        Self::Timeout,
        Self::Downgraded,
        Self::Draining,
        Self::Revoked,
    ];

    /// Returns the code of that number, if there is one.
    #[must_use]
    pub fn from_u8(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|code| *code as u8 == byte)
    }
}

impl CloseReason {
    /// All reasons, by number.
    pub const ALL: [Self; 14] = [
        Self::Idle,
        Self::Shutdown,
        Self::Superseded,
        Self::Replaced,
        Self::Revoked,
        Self::PeerRestarted,
        Self::ProtocolError,
        Self::KeyExpired,
        Self::RekeyFailed,
        Self::Silent,
        Self::MemberDead,
        Self::MemberLeft,
        Self::Reset,
        Self::LinkCap,
    ];

    /// Returns the reason of that number, if there is one.
    #[must_use]
    pub fn from_u8(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u8 == byte)
    }
}

impl BounceCode {
    /// All codes, by number.
    pub const ALL: [Self; 7] = [
        Self::StaleRef,
        Self::NoActor,
        Self::MailboxFull,
        Self::TypeUnknown,
        Self::TooLate,
        Self::Draining,
        Self::Refused,
    ];

    /// Returns the code of that number, if there is one.
    #[must_use]
    pub fn from_u8(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|code| *code as u8 == byte)
    }
}

impl State {
    /// All states, by rank.
    pub const ALL: [Self; 4] = [Self::Alive, Self::Suspect, Self::Dead, Self::Left];

    /// Returns the state of that number, if there is one.
    #[must_use]
    pub fn from_u8(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state as u8 == byte)
    }
}

impl Class {
    /// All classes, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Urgent, Self::Sync, Self::User];

    /// Returns the class of that number, if there is one.
    #[must_use]
    pub fn from_u8(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|class| *class as u8 == byte)
    }
}

impl FrameKind {
    /// All kinds of version 1, by number. Kinds 40–50 need a feature that it does not have.
    pub const ALL: [Self; 20] = [
        Self::Welcome,
        Self::Reject,
        Self::Close,
        Self::Keepalive,
        Self::Rekey1,
        Self::Rekey2,
        Self::Rekey3,
        Self::Rekey4,
        Self::RekeyWanted,
        Self::Swim,
        Self::Sync1,
        Self::Sync2,
        Self::Sync3,
        Self::Send,
        Self::Ask,
        Self::Reply,
        Self::Confirm,
        Self::Bounce,
        Self::NameQuery,
        Self::NameReply,
    ];

    /// Returns the kind of that number, if there is one.
    #[must_use]
    pub fn from_u8(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }

    /// Returns the priority class of its frames (section 2.2).
    #[must_use]
    pub const fn class(self) -> Class {
        match self {
            Self::Welcome
            | Self::Reject
            | Self::Close
            | Self::Keepalive
            | Self::Rekey1
            | Self::Rekey2
            | Self::Rekey3
            | Self::Rekey4
            | Self::RekeyWanted
            | Self::Swim
            | Self::Confirm
            | Self::Bounce => Class::Urgent,
            Self::Sync1 | Self::Sync2 | Self::Sync3 | Self::NameQuery | Self::NameReply => {
                Class::Sync
            }
            Self::Send | Self::Ask | Self::Reply => Class::User,
        }
    }
}
