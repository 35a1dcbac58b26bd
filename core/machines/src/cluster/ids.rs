//! Who and where: the small values that every part of the cluster speaks in (C6–C12).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use zeroize::Zeroize;

/// A node, for ever: the first 16 bytes of BLAKE3 of its X25519 static public key (C6).
///
/// Held big-endian, so that the order of the numbers is the order of the bytes. Two words, not one
/// `u128`: its alignment would make every input and output longer, and slower to move.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    high: u64,
    low: u64,
}

impl NodeId {
    /// Derives the id of the node that holds `public_key`.
    #[must_use]
    pub fn of_key(public_key: &[u8; 32]) -> Self {
        let hash = blake3::hash(public_key);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.as_bytes()[..16]);
        Self::from_bytes(bytes)
    }

    /// Makes an id of its bytes.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the two halves are what is wanted")]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        let all = u128::from_be_bytes(bytes);
        Self { high: (all >> 64) as u64, low: all as u64 }
    }

    /// Returns its bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        ((self.high as u128) << 64 | self.low as u128).to_be_bytes()
    }

    /// Returns the first 8 bytes as a number, as an entity of [`Choices`](crate::Choices).
    #[must_use]
    pub const fn entity(self) -> u64 {
        self.high
    }

    /// Parses 32 lower-case hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() != 32 || !text.bytes().all(lower) {
            return None;
        }
        let all = u128::from_str_radix(text, 16).ok()?;
        Some(Self::from_bytes(all.to_be_bytes()))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.high, self.low)
    }
}

impl fmt::Debug for NodeId {
    /// The first 8 digits: enough for a person to tell nodes apart.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.high >> 32)
    }
}

/// The durable count of a node's starts, 1 … 2³²−2 (C7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Session(pub u32);

impl Session {
    /// The first session of a node.
    pub const FIRST: Self = Self(1);
    /// The greatest session.
    pub const MAX: Self = Self(u32::MAX - 1);

    /// Returns the session of the next start, or `None` if they are used up.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        (self < Self::MAX).then(|| Self(self.0 + 1))
    }
}

/// All sessions that a node can be in.
pub const SESSION_RANGE: std::ops::RangeInclusive<Session> = Session::FIRST..=Session::MAX;

/// Refutations and changes within a session (C8). [`Incarnation::LEFT`] is reserved for "left".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u32);

impl Incarnation {
    /// What a member that left has for ever in its session.
    pub const LEFT: Self = Self(u32::MAX);
    /// The greatest that a living member can have.
    pub const MAX: Self = Self(u32::MAX - 1);

    /// Returns the incarnation with which a node that is in this one refutes what is said about
    /// it with `heard` (C43), or `None` if the node must burn a new session instead (C8).
    #[must_use]
    pub fn above(self, heard: Self) -> Option<Self> {
        let most = self.max(heard);
        (most < Self::MAX).then(|| Self(most.0 + 1))
    }
}

/// How new what is said about a node is: session first, then incarnation (C8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Life {
    /// The session.
    pub session: Session,
    /// The incarnation in it.
    pub incarnation: Incarnation,
}

impl Life {
    /// The first life of `session`.
    #[must_use]
    pub const fn first_of(session: Session) -> Self {
        Self { session, incarnation: Incarnation(0) }
    }
}

/// Random, drawn at each start; tells two processes with one key and one session apart (C9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instance(pub u64);

/// An actor of one session of one node, ≥ 1; 0 is the node itself (C10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorId(pub u64);

impl ActorId {
    /// The node itself.
    pub const NODE: Self = Self(0);
}

/// A location: an actor of one session of one node. It carries no authority (C11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ref {
    /// The node.
    pub node: NodeId,
    /// The session of the node that the reference is bound to.
    pub session: Session,
    /// The actor.
    pub actor: ActorId,
}

/// Where a node listens: one address with a TCP and a UDP port (C12).
///
/// Always well-formed: no port is 0, and the address is neither unspecified nor multicast.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Addr {
    ip: Ipv6Addr,
    tcp: u16,
    udp: u16,
}

impl Addr {
    /// Makes an address, or `None` if it could not be reached by anyone.
    #[must_use]
    pub fn new(ip: IpAddr, tcp: u16, udp: u16) -> Option<Self> {
        let ip = match ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let plain = ip.to_canonical();
        let reachable = !plain.is_unspecified() && !plain.is_multicast();
        (reachable && tcp != 0 && udp != 0).then_some(Self { ip, tcp, udp })
    }

    /// Returns the IPv6 or IPv4-mapped address.
    #[must_use]
    pub const fn ip(&self) -> Ipv6Addr {
        self.ip
    }

    /// Returns where streams are accepted.
    #[must_use]
    pub fn tcp(&self) -> SocketAddr {
        SocketAddr::new(self.ip.to_canonical(), self.tcp)
    }

    /// Returns where datagrams are received.
    #[must_use]
    pub fn udp(&self) -> SocketAddr {
        SocketAddr::new(self.ip.to_canonical(), self.udp)
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.tcp())?;
        if self.udp != self.tcp {
            write!(f, "/udp {}", self.udp)?;
        }
        Ok(())
    }
}

/// One process of a node in one session: numbers of user frames count for it alone (C82, C145).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Process {
    /// The session that it is in.
    pub session: Session,
    /// Its instance.
    pub instance: Instance,
}

/// A TCP connection of one node, named by whoever opened it: dials by `Links`, with an even
/// number, accepted ones by the driver, with an odd number. Never used twice in one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Conn(pub u64);

/// One call of the node's user, named by the driver; its answer carries it back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Fresh random bytes for one handshake: an ephemeral key and a link index. Wiped when dropped, and
/// never printed (C4).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Entropy(pub [u8; 64]);

impl Drop for Entropy {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests;
