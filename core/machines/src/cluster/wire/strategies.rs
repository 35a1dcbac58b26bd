//! Arbitrary values of everything that crosses a wire, edges often.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::collection::vec;
use proptest::prelude::*;

use super::{
    AnyFrame, Body, BounceCode, ClearReject, CloseReason, Code, Control, DatagramHeader, Entry,
    Fact, Features, Frame, FrameHeader, FrameKind, Hello, MESSAGE_MAX, META_MAX, MemberRow,
    Message, Meta, NAME_MAX, Name, NameDigest, NameEntry, Offer, Preface, Reject, State, SyncBody,
    TTL_MS, UserFrame, VERSION,
};
use crate::cluster::ids::{ActorId, Addr, Incarnation, Instance, Life, NodeId, Ref, Session};

pub(crate) fn node() -> impl Strategy<Value = NodeId> {
    prop_oneof![
        3 => (0..4_u8).prop_map(|n| NodeId::from_bytes([n; 16])),
        1 => any::<[u8; 16]>().prop_map(NodeId::from_bytes),
    ]
}

pub(crate) fn session() -> impl Strategy<Value = Session> {
    prop_oneof![
        4 => 1..5_u32,
        1 => Just(Session::MAX.0),
        2 => Session::FIRST.0..=Session::MAX.0,
    ]
    .prop_map(Session)
}

pub(crate) fn incarnation() -> impl Strategy<Value = Incarnation> {
    prop_oneof![4 => 0..5_u32, 1 => Just(Incarnation::MAX.0), 2 => 0..=Incarnation::MAX.0]
        .prop_map(Incarnation)
}

pub(crate) fn life() -> impl Strategy<Value = Life> {
    (session(), incarnation()).prop_map(|(session, incarnation)| Life {
        session,
        incarnation,
    })
}

pub(crate) fn addr() -> impl Strategy<Value = Addr> {
    let ip = prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from(bits))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from(bits))),
    ];
    (ip, 1..=u16::MAX, 1..=u16::MAX)
        .prop_filter_map("reachable", |(ip, tcp, udp)| Addr::new(ip, tcp, udp))
}

pub(crate) fn meta() -> impl Strategy<Value = Meta> {
    vec(any::<u8>(), 0..=META_MAX).prop_map(|bytes| Meta::new(&bytes).expect("at most 64 bytes"))
}

pub(crate) fn fact() -> impl Strategy<Value = Fact> {
    prop_oneof![
        (node(), life(), addr(), meta()).prop_map(|(node, life, addr, meta)| Fact::Alive {
            node,
            life,
            addr,
            meta
        }),
        (node(), life(), node()).prop_map(|(node, life, accuser)| Fact::Suspect {
            node,
            life,
            accuser
        }),
        (node(), life(), node()).prop_map(|(node, life, accuser)| Fact::Dead {
            node,
            life,
            accuser
        }),
        (node(), session()).prop_map(|(node, session)| Fact::Left { node, session }),
    ]
}

pub(crate) fn name() -> impl Strategy<Value = Name> {
    let short = vec(0x21..=0x7E_u8, 1..=8);
    let long = vec(0x21..=0x7E_u8, NAME_MAX - 2..=NAME_MAX);
    prop_oneof![4 => short, 1 => long].prop_map(|bytes| {
        let text = String::from_utf8(bytes).expect("ASCII");
        Name::new(&text).expect("1 to 128 printable characters")
    })
}

pub(crate) fn name_entry() -> impl Strategy<Value = NameEntry> {
    let actor = proptest::option::of((1..=u64::MAX).prop_map(ActorId));
    let numbers = (any::<u32>(), any::<u32>(), TTL_MS, any::<u32>());
    (name(), node(), session(), actor, numbers).prop_map(
        |(name, owner, session, actor, (version, serial, ttl_ms, age_ms))| NameEntry {
            name,
            owner,
            session,
            actor,
            version,
            serial,
            ttl_ms,
            age_ms,
        },
    )
}

pub(crate) fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        fact().prop_map(Entry::Fact),
        name_entry().prop_map(Entry::Name)
    ]
}

pub(crate) fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        any::<u32>().prop_map(|seq| Body::Ping { seq }),
        any::<u32>().prop_map(|seq| Body::Ack { seq }),
        any::<u32>().prop_map(|seq| Body::Nack { seq }),
        (any::<u32>(), any::<u32>(), node(), session(), addr()).prop_map(
            |(seq, wait_ms, target, session, addr)| Body::PingReq {
                seq,
                wait_ms,
                target,
                session,
                addr
            }
        ),
        Just(Body::Gossip),
    ]
}

/// Messages that fit a datagram.
pub(crate) fn message() -> impl Strategy<Value = Message> {
    (body(), vec(entry(), 0..40)).prop_map(|(body, entries)| {
        let mut message = Message { body, entries };
        while message.encoded_len() > MESSAGE_MAX {
            message.entries.pop();
        }
        message
    })
}

pub(crate) fn member_row() -> impl Strategy<Value = MemberRow> {
    let state = prop::sample::select(State::ALL.to_vec());
    let addrs = (addr(), any::<bool>());
    (node(), life(), state, any::<u32>(), addrs, meta()).prop_map(
        |(node, mut life, state, mut age_ms, (addr, known), meta)| {
            let over = matches!(state, State::Dead | State::Left);
            if state == State::Left {
                life.incarnation = Incarnation::LEFT;
            }
            if !over {
                age_ms = 0;
            }
            MemberRow {
                node,
                life,
                state,
                age_ms,
                addr: (known || !over).then_some(addr),
                meta,
            }
        },
    )
}

pub(crate) fn name_digest() -> impl Strategy<Value = NameDigest> {
    (node(), session(), any::<u32>(), any::<u32>()).prop_map(|(owner, session, serial, age_ms)| {
        NameDigest {
            owner,
            session,
            serial,
            age_ms,
        }
    })
}

pub(crate) fn sync_body() -> impl Strategy<Value = SyncBody> {
    (vec(member_row(), 0..6), vec(name_digest(), 0..6))
        .prop_map(|(rows, digests)| SyncBody { rows, digests })
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..40)
}

pub(crate) fn user_frame() -> impl Strategy<Value = UserFrame> {
    let four = || (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
    prop_oneof![
        (four(), any::<u32>(), payload()).prop_map(|((number, to, from, _), tag, payload)| {
            UserFrame::Send {
                number,
                to: ActorId(to),
                from: ActorId(from),
                tag,
                payload,
            }
        }),
        (four(), any::<(u32, u32)>(), payload()).prop_map(
            |((number, to, from, request), (wait_ms, tag), payload)| UserFrame::Ask {
                number,
                to: ActorId(to),
                from: ActorId(from),
                request,
                wait_ms,
                tag,
                payload,
            }
        ),
        (any::<(u64, u64, u8, u32)>(), payload()).prop_map(
            |((number, request, status, tag), payload)| UserFrame::Reply {
                number,
                request,
                status,
                tag,
                payload,
            }
        ),
        any::<u64>().prop_map(|upto| UserFrame::Confirm { upto }),
        (any::<u64>(), prop::sample::select(BounceCode::ALL.to_vec()))
            .prop_map(|(number, code)| UserFrame::Bounce { number, code }),
    ]
}

pub(crate) fn frame() -> impl Strategy<Value = Frame> {
    let entries = || vec(name_entry(), 0..4);
    prop_oneof![
        message().prop_map(Frame::Swim),
        sync_body().prop_map(Frame::Sync1),
        (sync_body(), entries()).prop_map(|(body, entries)| Frame::Sync2(body, entries)),
        entries().prop_map(Frame::Sync3),
        user_frame().prop_map(Frame::User),
        (any::<u32>(), name()).prop_map(|(query, name)| Frame::NameQuery { query, name }),
        (any::<u32>(), proptest::option::of(name_entry()))
            .prop_map(|(query, entry)| Frame::NameReply { query, entry }),
    ]
}

pub(crate) fn hello() -> impl Strategy<Value = Hello> {
    let numbers = (any::<u64>(), any::<u64>(), any::<u32>(), 1..=u32::MAX);
    (life(), numbers, addr(), 1..=u16::MAX).prop_map(
        |(life, (instance, seen, ordinal, link_index), addr, version_max)| Hello {
            life,
            instance: Instance(instance),
            seen,
            ordinal,
            link_index,
            addr,
            version_max,
        },
    )
}

/// Features offered, and some of them required, by a node of that version.
fn features(version: u16) -> impl Strategy<Value = (Features, Features)> {
    let known = if version <= VERSION {
        Features::KNOWN.0
    } else {
        u32::MAX
    };
    any::<(u32, u32)>().prop_map(move |(offered, required)| {
        let offered = offered & known;
        (Features(offered), Features(offered & required))
    })
}

fn version() -> impl Strategy<Value = u16> {
    prop_oneof![Just(VERSION), 1..=u16::MAX]
}

fn versions() -> impl Strategy<Value = (u16, u16)> {
    (version(), version()).prop_map(|(a, b)| (a.min(b), a.max(b)))
}

pub(crate) fn preface() -> impl Strategy<Value = Preface> {
    let with = |version| {
        (
            Just(version),
            any::<[u8; 8]>(),
            any::<[u8; 16]>(),
            features(version),
        )
    };
    version().prop_flat_map(with).prop_map(
        |(version, cluster_tag, schema_hash, (features, required))| Preface {
            version,
            cluster_tag,
            schema_hash,
            features,
            required,
        },
    )
}

pub(crate) fn offer() -> impl Strategy<Value = Offer> {
    versions()
        .prop_flat_map(|(min, max)| (Just((min, max)), features(max)))
        .prop_map(|((version_min, version_max), (features, required))| Offer {
            version_min,
            version_max,
            features,
            required,
        })
}

pub(crate) fn clear_reject() -> impl Strategy<Value = ClearReject> {
    let codes = vec![
        Code::VersionMismatch,
        Code::SchemaMismatch,
        Code::FeatureMissing,
        Code::WrongCluster,
        Code::Draining,
    ];
    (prop::sample::select(codes), versions(), any::<[u8; 16]>()).prop_map(
        |(code, (version_min, version_max), schema_hash)| ClearReject {
            code,
            version_min,
            version_max,
            schema_hash,
        },
    )
}

pub(crate) fn reject() -> impl Strategy<Value = Reject> {
    (prop::sample::select(Code::ALL.to_vec()), session()).prop_map(|(code, session)| Reject {
        code,
        detail: if code == Code::StaleSession {
            session.0
        } else {
            0
        },
    })
}

pub(crate) fn control() -> impl Strategy<Value = Control> {
    prop_oneof![
        hello().prop_map(Control::Welcome),
        reject().prop_map(Control::Reject),
        prop::sample::select(CloseReason::ALL.to_vec()).prop_map(Control::Close),
        Just(Control::Keepalive),
        any::<[u8; 32]>().prop_map(Control::Rekey1),
        any::<u8>().prop_map(|byte| Control::Rekey2([byte; 100])),
        any::<u8>().prop_map(|byte| Control::Rekey3([byte; 68])),
        Just(Control::Rekey4),
        Just(Control::RekeyWanted),
    ]
}

pub(crate) fn any_frame() -> impl Strategy<Value = AnyFrame> {
    prop_oneof![
        1 => control().prop_map(AnyFrame::Control),
        2 => frame().prop_map(AnyFrame::Frame),
    ]
}

pub(crate) fn frame_header() -> impl Strategy<Value = FrameHeader> {
    let kind = prop::sample::select(FrameKind::ALL.to_vec());
    (kind, any::<(bool, bool, u32)>()).prop_map(|(kind, (first, last, total))| FrameHeader {
        kind,
        first,
        last,
        total,
    })
}

pub(crate) fn datagram_header() -> impl Strategy<Value = DatagramHeader> {
    (any::<u32>(), 0..=DatagramHeader::COUNTER_MAX).prop_map(|(link_index, counter)| {
        DatagramHeader {
            link_index,
            counter,
        }
    })
}

pub(crate) fn reference() -> impl Strategy<Value = Ref> {
    (node(), session(), any::<u64>()).prop_map(|(node, session, actor)| Ref {
        node,
        session,
        actor: ActorId(actor),
    })
}

/// One change of some bytes: to be made to a valid encoding.
#[derive(Clone, Debug)]
pub(crate) enum Damage {
    Set(usize, u8),
    Insert(usize, u8),
    Remove(usize),
    Truncate(usize),
    Append(Vec<u8>),
}

/// Changes that leave many encodings nearly valid.
pub(crate) fn damage() -> impl Strategy<Value = Vec<Damage>> {
    let byte = || prop_oneof![0..8_u8, any::<u8>()];
    let at = || any::<usize>();
    let one = prop_oneof![
        6 => (at(), byte()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        1 => (at(), byte()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        1 => at().prop_map(Damage::Remove),
        1 => at().prop_map(Damage::Truncate),
        1 => vec(byte(), 1..30).prop_map(Damage::Append),
    ];
    vec(one, 1..4)
}

/// Makes the changes; places wrap around.
pub(crate) fn damaged(mut bytes: Vec<u8>, damage: &[Damage]) -> Vec<u8> {
    for change in damage {
        let len = bytes.len().max(1);
        match change {
            Damage::Set(at, byte) => {
                if let Some(old) = bytes.get_mut(at % len) {
                    *old = *byte;
                }
            }
            Damage::Insert(at, byte) => bytes.insert((at % len).min(bytes.len()), *byte),
            Damage::Remove(at) => {
                if !bytes.is_empty() {
                    bytes.remove(at % len);
                }
            }
            Damage::Truncate(at) => bytes.truncate(at % len),
            Damage::Append(more) => bytes.extend_from_slice(more),
        }
    }
    bytes
}
