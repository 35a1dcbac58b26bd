//! Everything that crosses a wire, as types that cannot be wrong, and its one encoding (C13–C19).
//!
//! The layouts are the tables of the cluster's specification, section 2; `scenarios/golden/`
//! holds the bytes that they must give.

use super::ids::{ActorId, Addr, Instance, Life, NodeId, Ref, Session};

mod frames;
mod gossip;
mod handshake;
mod lanes;
pub mod schema;
mod sync;
mod values;

#[cfg(test)]
pub(crate) mod strategies;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod props;
#[cfg(test)]
mod tests;

pub use frames::AnyFrame;
pub use handshake::{HandshakeKind, prologue};
pub use lanes::{Control, DatagramHeader, FrameHeader, Reject};

/// The version of the wire formats that this build speaks.
pub const VERSION: u16 = 1;
/// The longest datagram, in bytes (C15).
pub const DATAGRAM_MAX: usize = 1_200;
/// What sealing adds to a datagram's plaintext, in bytes (C15).
pub const DATAGRAM_OVERHEAD: usize = 32;
/// The longest membership message, in bytes (section 2.4).
pub const MESSAGE_MAX: usize = DATAGRAM_MAX - DATAGRAM_OVERHEAD;
/// The shortest membership message, in bytes: Gossip without entries.
pub const MESSAGE_MIN: usize = 4;
/// The shortest ciphertext of a stream record, in bytes: an empty body (C14).
pub const RECORD_MIN: usize = 24;
/// The longest ciphertext of a stream record, in bytes (C14).
pub const RECORD_MAX: usize = 16_400;
/// How long copies of a name may live, in ms: 1 s … 1 h (C72).
pub const TTL_MS: std::ops::RangeInclusive<u32> = 1_000..=3_600_000;
/// The longest metadata of a member, in bytes.
pub const META_MAX: usize = 64;
/// The longest name, in bytes (C70).
pub const NAME_MAX: usize = 128;
/// The most body bytes that one stream record holds (C14).
pub const FRAGMENT_MAX: usize = 16_376;

/// Feature bits of section 2.1. None is needed in version 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Features(pub u32);

impl Features {
    /// All bits that version 1 knows: remote lifecycle, rotation, load reports.
    pub const KNOWN: Self = Self(0b111);
}

/// What the dialler says first, in clear (C13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Preface {
    /// The greatest version the dialler proposes.
    pub version: u16,
    /// First 8 bytes of BLAKE3 of the cluster's name.
    pub cluster_tag: [u8; 8],
    /// First 16 bytes of BLAKE3 of the wire schema of that version.
    pub schema_hash: [u8; 16],
    /// Features offered.
    pub features: Features,
    /// Features without which the dialler goes away; a subset of those offered.
    pub required: Features,
}

/// The acceptor's side of the negotiation, payload of message 2 (C13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Offer {
    /// The least version spoken.
    pub version_min: u16,
    /// The greatest version spoken.
    pub version_max: u16,
    /// Features offered.
    pub features: Features,
    /// Features required; a subset of those offered.
    pub required: Features,
}

/// What each side tells of itself once the link is authenticated (C13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hello {
    /// The sender's life.
    pub life: Life,
    /// The sender's process.
    pub instance: Instance,
    /// The highest user frame number accepted from the receiver's instance (C83).
    pub seen: u64,
    /// The sender's ordinal for the receiver (C25).
    pub ordinal: u32,
    /// What the sender wants in the datagrams that it receives on this link; not 0.
    pub link_index: u32,
    /// Where the sender listens.
    pub addr: Addr,
    /// The greatest version that the sender speaks.
    pub version_max: u16,
}

/// A refusal before there are keys: a hint, never trusted (C22).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClearReject {
    /// Why.
    pub code: Code,
    /// The least version spoken.
    pub version_min: u16,
    /// The greatest version spoken.
    pub version_max: u16,
    /// The sender's schema hash.
    pub schema_hash: [u8; 16],
}

/// Why a handshake ended without a link (C23).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Code {
    /// The first four bytes are another protocol's.
    BadMagic = 1,
    /// No version in common.
    VersionMismatch = 2,
    /// The same version with another schema.
    SchemaMismatch = 3,
    /// A required feature is missing.
    FeatureMissing = 4,
    /// A node of another cluster.
    WrongCluster = 5,
    /// Too many handshakes.
    Busy = 6,
    /// The key is not on the allowlist.
    NotAllowed = 7,
    /// The peer has our own key.
    SelfConnect = 8,
    /// Another node answered than the one dialled.
    WrongPeer = 9,
    /// The peer's session is over.
    StaleSession = 10,
    /// There is a link already.
    DuplicateLink = 11,
    /// A seal did not open.
    BadCrypto = 12,
    /// Bytes that are no handshake.
    Malformed = 13,
    /// Too slow.
    Timeout = 14,
    /// The negotiation was tampered with.
    Downgraded = 15,
    /// The node is leaving.
    Draining = 16,
    /// The key was taken off the allowlist.
    Revoked = 17,
}

/// Why a link closed (C39).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum CloseReason {
    /// No traffic for `link_idle`.
    Idle = 1,
    /// The node leaves or stops.
    Shutdown = 2,
    /// The other of two crossing dials won.
    Superseded = 3,
    /// The peer opened a newer link.
    Replaced = 4,
    /// The peer's key was revoked.
    Revoked = 5,
    /// The peer came with a higher session.
    PeerRestarted = 6,
    /// Bytes that no correct peer sends.
    ProtocolError = 7,
    /// An epoch lived too long.
    KeyExpired = 8,
    /// The rekey failed or was slow.
    RekeyFailed = 9,
    /// Nothing was heard for three keepalives.
    Silent = 10,
    /// Membership declared the peer dead.
    MemberDead = 11,
    /// The peer left.
    MemberLeft = 12,
    /// The stream was reset or ended.
    Reset = 14,
    /// The least recently used link made room.
    LinkCap = 16,
}

/// The kind of a stream frame, R1 (section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// The acceptor's Hello: the link is up.
    Welcome = 0x01,
    /// The acceptor's refusal, sealed.
    Reject = 0x02,
    /// The link ends.
    Close = 0x03,
    /// Nothing to say, still here.
    Keepalive = 0x04,
    /// Noise message 1 of a rekey.
    Rekey1 = 0x05,
    /// Noise message 2 of a rekey.
    Rekey2 = 0x06,
    /// Noise message 3 of a rekey, the dialler's last record under its old key.
    Rekey3 = 0x07,
    /// The acceptor's last record under its old key.
    Rekey4 = 0x08,
    /// The acceptor asks for a rekey.
    RekeyWanted = 0x09,
    /// A membership message on the stream lane.
    Swim = 0x10,
    /// First message of a push-pull sync.
    Sync1 = 0x12,
    /// Second message of a sync.
    Sync2 = 0x13,
    /// Third message of a sync.
    Sync3 = 0x14,
    /// A message to an actor.
    Send = 0x20,
    /// A request to an actor.
    Ask = 0x21,
    /// The answer to a request.
    Reply = 0x22,
    /// All user frames up to a number were accepted.
    Confirm = 0x23,
    /// A user frame was not delivered.
    Bounce = 0x24,
    /// Who holds a name?
    NameQuery = 0x30,
    /// The answer.
    NameReply = 0x31,
}

/// The priority class of a frame (C37).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// Goes before everything.
    Urgent = 0,
    /// Reconciliation and control.
    Sync = 1,
    /// Users' messages.
    User = 2,
}

/// The state of a member, in the order of rank (C41).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum State {
    /// It answers.
    Alive = 0,
    /// It did not answer someone.
    Suspect = 1,
    /// It was declared dead.
    Dead = 2,
    /// It left, for the rest of its session.
    Left = 3,
}

/// A member's own words about itself, at most [`META_MAX`] bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Meta {
    len: u8,
    bytes: [u8; META_MAX],
}

impl Meta {
    /// No metadata.
    pub const EMPTY: Self = Self {
        len: 0,
        bytes: [0; META_MAX],
    };

    /// Makes metadata of `bytes`, or `None` if there are more than [`META_MAX`].
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let len = u8::try_from(bytes.len()).ok()?;
        let mut meta = Self { len, ..Self::EMPTY };
        meta.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(meta)
    }

    /// Returns the bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl std::fmt::Debug for Meta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}

/// A fact about a member, as gossiped (C17, C41).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fact {
    /// The member says so itself.
    Alive {
        /// About whom.
        node: NodeId,
        /// Which life.
        life: Life,
        /// Where it listens.
        addr: Addr,
        /// Its own words.
        meta: Meta,
    },
    /// Its accuser's round failed.
    Suspect {
        /// About whom.
        node: NodeId,
        /// Which life.
        life: Life,
        /// The member whose own round failed.
        accuser: NodeId,
    },
    /// A suspicion ran out.
    Dead {
        /// About whom.
        node: NodeId,
        /// Which life.
        life: Life,
        /// The member whose suspicion ran out.
        accuser: NodeId,
    },
    /// It left.
    Left {
        /// About whom.
        node: NodeId,
        /// In which session.
        session: Session,
    },
}

/// A registration or its end, as it travels (C17, C71–C78).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NameEntry {
    /// 1–128 bytes of 0x21–0x7E.
    pub name: Name,
    /// The node of the actor.
    pub owner: NodeId,
    /// The owner's session.
    pub session: Session,
    /// The actor, or `None` when this ends the registration (NameGone).
    pub actor: Option<ActorId>,
    /// Orders the registrations of one name.
    pub version: u32,
    /// The owner's serial at this change.
    pub serial: u32,
    /// How long a copy lives after it was vouched for, in ms: 1 s … 1 h.
    pub ttl_ms: u32,
    /// How long ago it was vouched for (Name) or made (NameGone), in ms.
    pub age_ms: u32,
}

/// A name: 1–128 bytes of printable ASCII without spaces (C70).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

impl Name {
    /// Makes a name of `text`, or `None` if C70 does not allow it.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let fits = (1..=NAME_MAX).contains(&text.len());
        (fits && text.bytes().all(|b| (0x21..=0x7E).contains(&b))).then(|| Self(text.into()))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a membership message can carry besides its body (C17).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// A fact about a member.
    Fact(Fact),
    /// A change of a name.
    Name(NameEntry),
}

/// The body of a membership message (C16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// Are you there?
    Ping {
        /// Comes back in the answer.
        seq: u32,
    },
    /// Yes.
    Ack {
        /// Of the Ping.
        seq: u32,
    },
    /// Ping this one for me.
    PingReq {
        /// Comes back in the answer.
        seq: u32,
        /// How long the asker waits, in ms.
        wait_ms: u32,
        /// Whom to ping.
        target: NodeId,
        /// The session the asker holds it in.
        session: Session,
        /// Where the asker thinks it is.
        addr: Addr,
    },
    /// The target of your PingReq does not answer, but I do.
    Nack {
        /// Of the PingReq.
        seq: u32,
    },
    /// Only entries.
    Gossip,
}

/// A membership message: the plaintext of a datagram, or the body of frame kind 10 (section 2.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// What it is.
    pub body: Body,
    /// What it carries along: at most 255, within [`MESSAGE_MAX`] bytes in all.
    pub entries: Vec<Entry>,
}

/// One row of the membership table as synced (section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MemberRow {
    /// Whom it is about.
    pub node: NodeId,
    /// Its life; the incarnation of a Left row is [`Incarnation::LEFT`](super::ids::Incarnation).
    pub life: Life,
    /// Its state.
    pub state: State,
    /// Since when it is Dead or Left, in ms; else 0.
    pub age_ms: u32,
    /// Where it listens; `None` only for Dead and Left.
    pub addr: Option<Addr>,
    /// Its own words.
    pub meta: Meta,
}

/// "This owner vouches for all its entries up to this serial" (C76).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NameDigest {
    /// The owner.
    pub owner: NodeId,
    /// Its session.
    pub session: Session,
    /// Up to which serial.
    pub serial: u32,
    /// How long ago it said so, in ms.
    pub age_ms: u32,
}

/// The body of Sync1, and the first part of Sync2. Rotation statements follow in R2: none here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SyncBody {
    /// The table, the sender's own row first.
    pub rows: Vec<MemberRow>,
    /// What the sender knows of each owner's names.
    pub digests: Vec<NameDigest>,
}

/// The body of a stream frame that the links do not keep for themselves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Frame {
    /// Kind 10.
    Swim(Message),
    /// Kind 12.
    Sync1(SyncBody),
    /// Kind 13.
    Sync2(SyncBody, Vec<NameEntry>),
    /// Kind 14.
    Sync3(Vec<NameEntry>),
    /// Kinds 20–24.
    User(UserFrame),
    /// Kind 30.
    NameQuery {
        /// Comes back in the reply.
        query: u32,
        /// The name asked for.
        name: Name,
    },
    /// Kind 31.
    NameReply {
        /// Of the query.
        query: u32,
        /// The live entry, if the sender has one.
        entry: Option<NameEntry>,
    },
}

/// What routers say to each other (C82–C88).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum UserFrame {
    /// A message to an actor.
    Send {
        /// Counts the user frames from this instance to that one.
        number: u64,
        /// The receiving actor.
        to: ActorId,
        /// The sending actor.
        from: ActorId,
        /// What the payload is.
        tag: u32,
        /// The message.
        payload: Vec<u8>,
    },
    /// A request to an actor.
    Ask {
        /// As in Send.
        number: u64,
        /// The receiving actor.
        to: ActorId,
        /// The asking actor.
        from: ActorId,
        /// Unique in the asker's session.
        request: u64,
        /// How long the asker waits, in ms.
        wait_ms: u32,
        /// What the payload is.
        tag: u32,
        /// The request.
        payload: Vec<u8>,
    },
    /// The answer to a request.
    Reply {
        /// As in Send.
        number: u64,
        /// Of the Ask.
        request: u64,
        /// The answering actor's status; 0 is success.
        status: u8,
        /// What the payload is.
        tag: u32,
        /// The answer.
        payload: Vec<u8>,
    },
    /// Everything up to this number was accepted.
    Confirm {
        /// The highest number accepted in order.
        upto: u64,
    },
    /// A user frame was not delivered.
    Bounce {
        /// Its number.
        number: u64,
        /// Why.
        code: BounceCode,
    },
}

/// Why a user frame was not delivered (C88).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum BounceCode {
    /// The actor was of an earlier session.
    StaleRef = 1,
    /// There is no such actor.
    NoActor = 2,
    /// Its mailbox is full.
    MailboxFull = 3,
    /// The tag is unknown there.
    TypeUnknown = 4,
    /// The asker no longer waits.
    TooLate = 5,
    /// The node is leaving.
    Draining = 6,
    /// The actor refused.
    Refused = 7,
}

/// Returns `r` as the 28 bytes of C11.
#[must_use]
pub fn ref_bytes(r: Ref) -> [u8; 28] {
    let mut bytes = [0; 28];
    bytes[..16].copy_from_slice(&r.node.to_bytes());
    bytes[16..20].copy_from_slice(&r.session.0.to_le_bytes());
    bytes[20..].copy_from_slice(&r.actor.0.to_le_bytes());
    bytes
}
