//! One node as the world holds it: its process, clock, disk and address, and what strikes it.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use machines::cluster::ids::{Addr, NodeId, Session};
use machines::node::io::Input;

use crate::boot::Refusal;
use crate::clock::Clock;
use crate::disk::Disk;

/// What a node's process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It was not started yet.
    Off,
    /// It writes its session.
    Booting,
    /// It runs.
    Up,
    /// It crashed, or was stopped.
    Down,
    /// It could not start.
    Refused(Refusal),
    /// It left the cluster and ended.
    Left,
}

/// One node.
#[derive(Clone, Debug)]
pub struct Host<G> {
    pub(crate) guest: Option<G>,
    pub(crate) state: State,
    /// Starts and ends of the process so far; names the present process.
    pub(crate) epoch: u32,
    pub(crate) session: Session,
    pub(crate) id: NodeId,
    pub(crate) secret: [u8; 32],
    pub(crate) clock: Clock,
    pub(crate) disk: Disk,
    /// Moves of the address so far.
    pub(crate) moves: u8,
    /// When the next timer event fires; `u64::MAX` if none is pending.
    pub(crate) timer_at: u64,
    /// When the machine wants to be called.
    pub(crate) wanted: u64,
    /// The process does nothing before this.
    pub(crate) busy_until: u64,
    /// What each step costs.
    pub(crate) slow: u64,
    /// What waits for a busy process.
    pub(crate) inbox: VecDeque<Input>,
    pub(crate) datagrams_waiting: u32,
    /// The process's streams: name → stream and end.
    pub(crate) conns: BTreeMap<u64, (u32, usize)>,
    pub(crate) next_accept: u64,
    pub(crate) drawn: u64,
    /// Sessions burnt while running that are not durable yet, with their slots: written in turn.
    pub(crate) stores: VecDeque<(Session, u64, [u8; 16])>,
    /// The whole machine is without power: nobody answers for it.
    pub(crate) dark: bool,
    pub(crate) started_at: u64,
    pub(crate) ended_at: u64,
}

impl<G> Host<G> {
    /// Makes a node that was never started.
    #[must_use]
    pub fn new(secret: [u8; 32], id: NodeId) -> Self {
        Self {
            guest: None,
            state: State::Off,
            epoch: 0,
            session: Session(0),
            id,
            secret,
            clock: Clock::new(0),
            disk: Disk::default(),
            moves: 0,
            timer_at: u64::MAX,
            wanted: u64::MAX,
            busy_until: 0,
            slow: 0,
            inbox: VecDeque::new(),
            datagrams_waiting: 0,
            conns: BTreeMap::new(),
            next_accept: 1,
            drawn: 0,
            stores: VecDeque::new(),
            dark: false,
            started_at: 0,
            ended_at: 0,
        }
    }

    /// Says whether the process runs.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self.state, State::Up)
    }

    /// What the process is doing.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Who it is.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// The session of its newest start, or of none yet.
    #[must_use]
    pub const fn session(&self) -> Session {
        self.session
    }

    /// Starts and ends of the process so far; names the present process.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// True time of the newest start.
    #[must_use]
    pub const fn started_at(&self) -> u64 {
        self.started_at
    }

    /// True time of the newest end.
    #[must_use]
    pub const fn ended_at(&self) -> u64 {
        self.ended_at
    }

    /// Until when the process does nothing; in the past if it is not held up.
    #[must_use]
    pub const fn busy_until(&self) -> u64 {
        self.busy_until
    }

    /// What each step costs now; 0 if the node is not slow.
    #[must_use]
    pub const fn slow(&self) -> u64 {
        self.slow
    }

    /// Its disk.
    #[must_use]
    pub const fn disk(&self) -> &Disk {
        &self.disk
    }
}

/// The port that every node listens at.
pub const PORT: u16 = 7_400;

/// Returns the address of node `node` after `moves` moves: `10.moves.high.low`.
///
/// # Panics
///
/// If there are more than 65,535 nodes; scenarios are checked for that.
#[must_use]
pub fn address(node: u32, moves: u8) -> Addr {
    let place = u16::try_from(node + 1).expect("at most 65,535 nodes");
    let [high, low] = place.to_be_bytes();
    let ip = IpAddr::V4(Ipv4Addr::new(10, moves, high, low));
    Addr::new(ip, PORT, PORT).expect("10.0.0.0/8 is reachable")
}

/// Returns which node and which move an address stands for.
#[must_use]
#[inline(always)]
pub fn place_of(ip: IpAddr) -> Option<(u32, u8)> {
    match ip {
        IpAddr::V4(v4) => match v4.octets() {
            [10, moves, high, low] => {
                let place = u32::from(u16::from_be_bytes([high, low]));
                place.checked_sub(1).map(|node| (node, moves))
            }
            _ => None,
        },
        IpAddr::V6(v6) => v6.to_ipv4_mapped().and_then(|v4| place_of(IpAddr::V4(v4))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_tells_its_node() {
        for (node, moves) in [(0, 0), (127, 3), (300, 0), (65_534, 255)] {
            assert_eq!(place_of(address(node, moves).udp().ip()), Some((node, moves)));
        }
        assert_eq!(place_of(IpAddr::V4(Ipv4Addr::LOCALHOST)), None);
    }
}
