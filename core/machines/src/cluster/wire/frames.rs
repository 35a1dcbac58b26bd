//! The bodies of stream frames, by kind (section 2.2).

use super::sync::{put_entries, take_entries};
use super::values::word;
use super::{
    BounceCode, Class, CloseReason, Control, Frame, FrameKind, Hello, Message, Name, NameEntry,
    Reject, SyncBody, UserFrame,
};
use crate::cluster::ids::ActorId;
use crate::codec::{Malformed, Reader, Wire};

/// Any frame of version 1.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AnyFrame {
    /// For the link itself.
    Control(Control),
    /// For the machines above it.
    Frame(Frame),
}

impl AnyFrame {
    /// Returns its kind.
    #[must_use]
    pub const fn kind(&self) -> FrameKind {
        match self {
            Self::Control(control) => control.kind(),
            Self::Frame(frame) => frame.kind(),
        }
    }

    /// Appends its body; the kind goes into the frame header.
    pub fn encode_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::Control(control) => control.encode_body(out),
            Self::Frame(frame) => frame.encode_body(out),
        }
    }

    /// Decodes a whole body of `kind`.
    ///
    /// # Errors
    ///
    /// [`Malformed`]: the link closes with a protocol error (C112).
    pub fn decode_body(kind: FrameKind, body: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let frame = Self::take(kind, &mut reader)?;
        reader.finish()?;
        Ok(frame)
    }

    fn take(kind: FrameKind, reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let control = match kind {
            FrameKind::Welcome => Control::Welcome(Hello::decode(reader)?),
            FrameKind::Reject => Control::Reject(Reject::decode(reader)?),
            FrameKind::Close => Control::Close(CloseReason::decode(reader)?),
            FrameKind::Keepalive => Control::Keepalive,
            FrameKind::Rekey1 => Control::Rekey1(reader.array()?),
            FrameKind::Rekey2 => Control::Rekey2(reader.array()?),
            FrameKind::Rekey3 => Control::Rekey3(reader.array()?),
            FrameKind::Rekey4 => Control::Rekey4,
            FrameKind::RekeyWanted => Control::RekeyWanted,
            FrameKind::Swim => return frame(Frame::Swim(Message::decode(reader)?)),
            FrameKind::Sync1 => return frame(Frame::Sync1(SyncBody::decode(reader)?)),
            FrameKind::Sync2 => {
                let body = SyncBody::decode(reader)?;
                return frame(Frame::Sync2(body, take_entries(reader)?));
            }
            FrameKind::Sync3 => return frame(Frame::Sync3(take_entries(reader)?)),
            FrameKind::Send => return frame(Frame::User(take_send(reader)?)),
            FrameKind::Ask => return frame(Frame::User(take_ask(reader)?)),
            FrameKind::Reply => return frame(Frame::User(take_reply(reader)?)),
            FrameKind::Confirm => {
                let upto = reader.u64()?;
                return frame(Frame::User(UserFrame::Confirm { upto }));
            }
            FrameKind::Bounce => return frame(Frame::User(take_bounce(reader)?)),
            FrameKind::NameQuery => {
                return frame(Frame::NameQuery {
                    query: reader.u32()?,
                    name: Name::decode(reader)?,
                });
            }
            FrameKind::NameReply => return frame(take_name_reply(reader)?),
        };
        Ok(Self::Control(control))
    }
}

const fn frame(frame: Frame) -> Result<AnyFrame, Malformed> {
    Ok(AnyFrame::Frame(frame))
}

impl Frame {
    /// Returns its kind.
    #[must_use]
    pub const fn kind(&self) -> FrameKind {
        match self {
            Self::Swim(_) => FrameKind::Swim,
            Self::Sync1(_) => FrameKind::Sync1,
            Self::Sync2(..) => FrameKind::Sync2,
            Self::Sync3(_) => FrameKind::Sync3,
            Self::User(user) => user.kind(),
            Self::NameQuery { .. } => FrameKind::NameQuery,
            Self::NameReply { .. } => FrameKind::NameReply,
        }
    }

    /// Returns its priority class.
    #[must_use]
    pub const fn class(&self) -> Class {
        self.kind().class()
    }

    /// Appends its body; the kind goes into the frame header.
    pub fn encode_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::Swim(message) => message.encode(out),
            Self::Sync1(body) => body.encode(out),
            Self::Sync2(body, entries) => {
                body.encode(out);
                put_entries(entries, out);
            }
            Self::Sync3(entries) => put_entries(entries, out),
            Self::User(user) => user.encode_body(out),
            Self::NameQuery { query, name } => {
                out.extend_from_slice(&query.to_le_bytes());
                name.encode(out);
            }
            Self::NameReply { query, entry } => {
                out.extend_from_slice(&query.to_le_bytes());
                out.push(u8::from(entry.is_some()));
                if let Some(entry) = entry {
                    entry.encode(out);
                }
            }
        }
    }

    /// Returns how many bytes its body takes.
    #[must_use]
    pub fn body_len(&self) -> usize {
        let entries =
            |entries: &[NameEntry]| 4 + entries.iter().map(NameEntry::encoded_len).sum::<usize>();
        match self {
            Self::Swim(message) => message.encoded_len(),
            Self::Sync1(body) => body.encoded_len(),
            Self::Sync2(body, names) => body.encoded_len() + entries(names),
            Self::Sync3(names) => entries(names),
            Self::User(user) => user.body_len(),
            Self::NameQuery { name, .. } => 5 + name.as_str().len(),
            Self::NameReply { entry, .. } => 5 + entry.as_ref().map_or(0, NameEntry::encoded_len),
        }
    }

    /// Decodes a whole body of `kind`.
    ///
    /// # Errors
    ///
    /// [`Malformed`] too if `kind` is one that links keep for themselves.
    pub fn decode_body(kind: FrameKind, body: &[u8]) -> Result<Self, Malformed> {
        match AnyFrame::decode_body(kind, body)? {
            AnyFrame::Frame(frame) => Ok(frame),
            AnyFrame::Control(_) => Err(Reader::new(body).malformed("a frame of kind 10 to 31")),
        }
    }
}

impl UserFrame {
    /// Returns its kind.
    #[must_use]
    pub const fn kind(&self) -> FrameKind {
        match self {
            Self::Send { .. } => FrameKind::Send,
            Self::Ask { .. } => FrameKind::Ask,
            Self::Reply { .. } => FrameKind::Reply,
            Self::Confirm { .. } => FrameKind::Confirm,
            Self::Bounce { .. } => FrameKind::Bounce,
        }
    }

    /// Returns how many bytes its body takes.
    #[must_use]
    pub fn body_len(&self) -> usize {
        match self {
            Self::Send { payload, .. } => 28 + payload.len(),
            Self::Ask { payload, .. } => 40 + payload.len(),
            Self::Reply { payload, .. } => 24 + payload.len(),
            Self::Confirm { .. } => 8,
            Self::Bounce { .. } => 16,
        }
    }

    /// Appends its body; the kind goes into the frame header.
    pub fn encode_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::Send {
                number,
                to,
                from,
                tag,
                payload,
            } => {
                put_u64s(&[*number, to.0, from.0], out);
                out.extend_from_slice(&tag.to_le_bytes());
                out.extend_from_slice(payload);
            }
            Self::Ask {
                number,
                to,
                from,
                request,
                wait_ms,
                tag,
                payload,
            } => {
                put_u64s(&[*number, to.0, from.0, *request], out);
                out.extend_from_slice(&wait_ms.to_le_bytes());
                out.extend_from_slice(&tag.to_le_bytes());
                out.extend_from_slice(payload);
            }
            Self::Reply {
                number,
                request,
                status,
                tag,
                payload,
            } => {
                put_u64s(&[*number, *request], out);
                out.extend_from_slice(&[*status, 0, 0, 0]);
                out.extend_from_slice(&tag.to_le_bytes());
                out.extend_from_slice(payload);
            }
            Self::Confirm { upto } => put_u64s(&[*upto], out),
            Self::Bounce { number, code } => {
                put_u64s(&[*number], out);
                out.extend_from_slice(&[*code as u8, 0, 0, 0, 0, 0, 0, 0]);
            }
        }
    }
}

fn put_u64s(numbers: &[u64], out: &mut Vec<u8>) {
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn take_send(reader: &mut Reader<'_>) -> Result<UserFrame, Malformed> {
    Ok(UserFrame::Send {
        number: reader.u64()?,
        to: ActorId::decode(reader)?,
        from: ActorId::decode(reader)?,
        tag: reader.u32()?,
        payload: reader.rest().to_vec(),
    })
}

fn take_ask(reader: &mut Reader<'_>) -> Result<UserFrame, Malformed> {
    Ok(UserFrame::Ask {
        number: reader.u64()?,
        to: ActorId::decode(reader)?,
        from: ActorId::decode(reader)?,
        request: reader.u64()?,
        wait_ms: reader.u32()?,
        tag: reader.u32()?,
        payload: reader.rest().to_vec(),
    })
}

fn take_reply(reader: &mut Reader<'_>) -> Result<UserFrame, Malformed> {
    let (number, request, status) = (reader.u64()?, reader.u64()?, reader.u8()?);
    reader.zero(3)?;
    Ok(UserFrame::Reply {
        number,
        request,
        status,
        tag: reader.u32()?,
        payload: reader.rest().to_vec(),
    })
}

fn take_bounce(reader: &mut Reader<'_>) -> Result<UserFrame, Malformed> {
    let number = reader.u64()?;
    let code = word(reader, BounceCode::from_u8, "a bounce code")?;
    reader.zero(7)?;
    Ok(UserFrame::Bounce { number, code })
}

fn take_name_reply(reader: &mut Reader<'_>) -> Result<Frame, Malformed> {
    let query = reader.u32()?;
    let here = reader.clone();
    let entry = match reader.u8()? {
        0 => None,
        1 => Some(NameEntry::decode(reader)?),
        _ => return Err(here.malformed("0 or 1 entries")),
    };
    Ok(Frame::NameReply { query, entry })
}
