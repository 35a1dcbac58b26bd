//! What waits for a link's stream: three classes, cut into fragments (C14, C37).
//!
//! The writer picks at each record: class 0, then 1, then 2; after four records of class 1 in a
//! row one of class 2 goes. Per class one body at the most is unfinished: the front of its queue.

use std::collections::VecDeque;

use crate::cluster::ids::Session;
use crate::cluster::wire::{
    AnyFrame, Class, FRAGMENT_MAX, Frame, FrameHeader, FrameKind, UserFrame,
};

/// Records of class 1 in a row after which one of class 2 goes (C37).
const SYNC_ROW_MAX: u8 = 4;

/// A frame that waits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Queued {
    pub(crate) kind: FrameKind,
    pub(crate) body: Vec<u8>,
    /// How much of the body was given to the stream.
    sent: usize,
    /// The number of a user frame.
    pub(crate) number: Option<u64>,
    /// The session of the receiver that it is meant for; 0 if it is for any.
    pub(crate) session: Session,
}

impl Queued {
    /// Encodes `frame`, for a receiver in `session`.
    pub(crate) fn new(frame: &AnyFrame, session: Session) -> Self {
        let number = match frame {
            AnyFrame::Frame(Frame::User(user)) => number(user),
            AnyFrame::Frame(_) | AnyFrame::Control(_) => None,
        };
        let mut body = Vec::new();
        if let AnyFrame::Frame(frame) = frame {
            body.reserve_exact(frame.body_len());
        }
        frame.encode_body(&mut body);
        Self { kind: frame.kind(), body, sent: 0, number, session }
    }

    /// Says whether a part of it was given to a stream: it may not go to another one (C83).
    pub(crate) const fn started(&self) -> bool {
        self.sent > 0
    }
}

/// Returns the number of a frame that counts (C82).
pub(crate) const fn number(user: &UserFrame) -> Option<u64> {
    match user {
        UserFrame::Send { number, .. }
        | UserFrame::Ask { number, .. }
        | UserFrame::Reply { number, .. } => Some(*number),
        UserFrame::Confirm { .. } | UserFrame::Bounce { .. } => None,
    }
}

/// What a fragment completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// The kind of the frame.
    pub(crate) kind: FrameKind,
    /// The number, if this was the last fragment of a user frame.
    pub(crate) written: Option<u64>,
}

/// The queues of one link.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Outbox {
    queues: [VecDeque<Queued>; 3],
    bytes: [usize; 3],
    /// Records of class 1 since the last of class 2.
    sync_row: u8,
}

impl Outbox {
    /// Appends a frame to the queue of its class.
    pub(crate) fn push(&mut self, queued: Queued) {
        let class = queued.kind.class() as usize;
        self.bytes[class] += queued.body.len();
        self.queues[class].push_back(queued);
    }

    /// Returns how many bytes wait in `class`.
    pub(crate) const fn bytes(&self, class: Class) -> usize {
        self.bytes[class as usize]
    }

    /// Returns how many frames wait in `class`.
    pub(crate) fn items(&self, class: Class) -> usize {
        self.queues[class as usize].len()
    }

    /// Says whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queues.iter().all(VecDeque::is_empty)
    }

    /// Returns how large the next record's plaintext is, or `None` if nothing waits.
    pub(crate) fn next_len(&self) -> Option<usize> {
        let front = self.queues[self.pick()?].front()?;
        Some(FrameHeader::LEN + (front.body.len() - front.sent).min(FRAGMENT_MAX))
    }

    /// Appends the next record's plaintext to `out`.
    pub(crate) fn take(&mut self, out: &mut Vec<u8>) -> Option<Taken> {
        let class = self.pick()?;
        self.sync_row = match class {
            1 => (self.sync_row + 1).min(SYNC_ROW_MAX),
            2 => 0,
            _ => self.sync_row,
        };
        let front = self.queues[class].front_mut()?;
        let end = front.body.len().min(front.sent + FRAGMENT_MAX);
        let last = end == front.body.len();
        let header = FrameHeader {
            kind: front.kind,
            first: front.sent == 0,
            last,
            total: u32::try_from(front.body.len()).expect("bodies are at most max_message long"),
        };
        out.extend_from_slice(&header.to_array());
        out.extend_from_slice(&front.body[front.sent..end]);
        self.bytes[class] -= end - front.sent;
        front.sent = end;
        let mut taken = Taken { kind: front.kind, written: None };
        if last {
            taken.written = front.number;
            self.queues[class].pop_front();
        }
        Some(taken)
    }

    /// Takes the user frames that no stream has seen, and the number of one that was cut off.
    pub(crate) fn into_users(mut self) -> (VecDeque<Queued>, Option<u64>) {
        let mut users = std::mem::take(&mut self.queues[Class::User as usize]);
        let cut = match users.front() {
            Some(front) if front.started() => users.pop_front().and_then(|front| front.number),
            Some(_) | None => None,
        };
        (users, cut)
    }

    fn pick(&self) -> Option<usize> {
        let [urgent, sync, user] = &self.queues;
        if !urgent.is_empty() {
            return Some(0);
        }
        match (sync.is_empty(), user.is_empty()) {
            (true, true) => None,
            (false, true) => Some(1),
            (true, false) => Some(2),
            (false, false) if self.sync_row >= SYNC_ROW_MAX => Some(2),
            (false, false) => Some(1),
        }
    }
}
