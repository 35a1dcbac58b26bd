//! The headers of both lanes, and the frames that links keep for themselves (C14, C15).

use super::values::word;
use super::{CloseReason, Code, DATAGRAM_MAX, DATAGRAM_OVERHEAD, FrameKind, Hello, MESSAGE_MIN};
use crate::cluster::ids::{SESSION_RANGE, Session};
use crate::codec::{Malformed, Reader, Wire};

/// What each stream record's plaintext starts with (C14). Its class is that of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameHeader {
    /// The kind of the message.
    pub kind: FrameKind,
    /// Whether this is the message's first fragment.
    pub first: bool,
    /// Whether this is the message's last fragment.
    pub last: bool,
    /// How many bytes the body of the whole message has.
    pub total: u32,
}

impl FrameHeader {
    /// What it takes, in bytes.
    pub const LEN: usize = 8;

    const FIRST: u8 = 1;
    const LAST: u8 = 2;

    /// Returns it as bytes.
    #[must_use]
    pub fn to_array(self) -> [u8; Self::LEN] {
        let class = (self.kind.class() as u8) << 2;
        let first = if self.first { Self::FIRST } else { 0 };
        let last = if self.last { Self::LAST } else { 0 };
        let [a, b, c, d] = self.total.to_le_bytes();
        [self.kind as u8, class | first | last, 0, 0, a, b, c, d]
    }
}

impl Wire for FrameHeader {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_array());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let kind = word(reader, FrameKind::from_u8, "a frame kind")?;
        let here = reader.clone();
        let flags = reader.u8()?;
        if flags & !(Self::FIRST | Self::LAST) != (kind.class() as u8) << 2 {
            return Err(here.malformed("the class of that kind and no unknown flag"));
        }
        reader.zero(2)?;
        Ok(Self {
            kind,
            first: flags & Self::FIRST != 0,
            last: flags & Self::LAST != 0,
            total: reader.u32()?,
        })
    }
}

/// What a datagram starts with (C15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DatagramHeader {
    /// What the receiver called this link.
    pub link_index: u32,
    /// The nonce without its bit 63: 0 … 2⁶³−2 (C33).
    pub counter: u64,
}

impl DatagramHeader {
    /// What it takes, in bytes.
    pub const LEN: usize = 16;

    /// The bit that keeps the nonces of datagrams apart from those of the stream.
    pub const LANE_BIT: u64 = 1 << 63;

    /// The highest counter: 2⁶⁴−1 as a nonce is Noise's own.
    pub const COUNTER_MAX: u64 = u64::MAX - 1 - Self::LANE_BIT;

    const TYPE: u8 = 1;

    /// Returns the nonce.
    #[must_use]
    pub const fn nonce(self) -> u64 {
        self.counter | Self::LANE_BIT
    }

    /// Returns it as bytes.
    ///
    /// # Panics
    ///
    /// If the counter passes [`DatagramHeader::COUNTER_MAX`]: a link closes long before.
    #[must_use]
    pub fn to_array(self) -> [u8; Self::LEN] {
        assert!(
            self.counter <= Self::COUNTER_MAX,
            "an epoch ends before its counters"
        );
        let mut bytes = [0; Self::LEN];
        bytes[0] = Self::TYPE;
        bytes[4..8].copy_from_slice(&self.link_index.to_le_bytes());
        bytes[8..].copy_from_slice(&self.nonce().to_le_bytes());
        bytes
    }

    /// Parts a datagram into its header and what is sealed, if its length is one of C15.
    ///
    /// # Errors
    ///
    /// [`Malformed`]: counted as `dg_malformed` and dropped (C113).
    pub fn split(datagram: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let mut reader = Reader::new(datagram);
        if !(MESSAGE_MIN + DATAGRAM_OVERHEAD..=DATAGRAM_MAX).contains(&datagram.len()) {
            return Err(reader.malformed("36 to 1,200 bytes"));
        }
        let header = Self::decode(&mut reader)?;
        Ok((header, reader.rest()))
    }
}

impl Wire for DatagramHeader {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_array());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let here = reader.clone();
        if reader.u8()? != Self::TYPE {
            return Err(here.malformed("datagram type 1"));
        }
        reader.zero(3)?;
        let link_index = reader.u32()?;
        let here = reader.clone();
        let nonce = reader.u64()?;
        match nonce & Self::LANE_BIT != 0 && nonce != u64::MAX {
            true => Ok(Self {
                link_index,
                counter: nonce & !Self::LANE_BIT,
            }),
            false => Err(here.malformed("a nonce of the datagram lane")),
        }
    }
}

/// A refusal under keys (C23).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reject {
    /// Why.
    pub code: Code,
    /// With [`Code::StaleSession`] the highest session known of the peer, else 0.
    pub detail: u32,
}

impl Wire for Reject {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.code as u8, 0, 0, 0]);
        out.extend_from_slice(&self.detail.to_le_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let code = word(reader, Code::from_u8, "a reject code")?;
        reader.zero(3)?;
        let here = reader.clone();
        let detail = reader.u32()?;
        let session = SESSION_RANGE.contains(&Session(detail));
        match session == (code == Code::StaleSession) && (session || detail == 0) {
            true => Ok(Self { code, detail }),
            false => Err(here.malformed("a session with StaleSession, else 0")),
        }
    }
}

impl Wire for CloseReason {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[*self as u8, 0, 0, 0]);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let reason = word(reader, Self::from_u8, "a close reason")?;
        reader.zero(3)?;
        Ok(reason)
    }
}

/// A frame that links keep for themselves: kinds 01–09.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Control {
    /// Kind 01.
    Welcome(Hello),
    /// Kind 02.
    Reject(Reject),
    /// Kind 03.
    Close(CloseReason),
    /// Kind 04.
    Keepalive,
    /// Kind 05: a Noise message.
    Rekey1([u8; 32]),
    /// Kind 06: a Noise message whose payload is a link index.
    Rekey2([u8; 100]),
    /// Kind 07: a Noise message whose payload is a link index.
    Rekey3([u8; 68]),
    /// Kind 08.
    Rekey4,
    /// Kind 09.
    RekeyWanted,
}

impl Control {
    /// Returns its kind.
    #[must_use]
    pub const fn kind(&self) -> FrameKind {
        match self {
            Self::Welcome(_) => FrameKind::Welcome,
            Self::Reject(_) => FrameKind::Reject,
            Self::Close(_) => FrameKind::Close,
            Self::Keepalive => FrameKind::Keepalive,
            Self::Rekey1(_) => FrameKind::Rekey1,
            Self::Rekey2(_) => FrameKind::Rekey2,
            Self::Rekey3(_) => FrameKind::Rekey3,
            Self::Rekey4 => FrameKind::Rekey4,
            Self::RekeyWanted => FrameKind::RekeyWanted,
        }
    }

    /// Appends its body; the kind goes into the frame header.
    pub fn encode_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::Welcome(hello) => hello.encode(out),
            Self::Reject(reject) => reject.encode(out),
            Self::Close(reason) => reason.encode(out),
            Self::Rekey1(message) => out.extend_from_slice(message),
            Self::Rekey2(message) => out.extend_from_slice(message),
            Self::Rekey3(message) => out.extend_from_slice(message),
            Self::Keepalive | Self::Rekey4 | Self::RekeyWanted => {}
        }
    }
}
