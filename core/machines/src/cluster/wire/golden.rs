//! Goal: the bytes on the wire are those of the specification, and stay so.
//! Method: each case of `scenarios/golden/wire/` has its value below; both ways must agree.

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::{
    AnyFrame, Body, BounceCode, ClearReject, CloseReason, Code, Control, DatagramHeader, Entry,
    Fact, Features, Frame, FrameHeader, FrameKind, HandshakeKind, Hello, MemberRow, Message, Meta,
    Name, NameDigest, NameEntry, Offer, Preface, Reject, State, SyncBody, UserFrame, prologue,
    ref_bytes,
};
use crate::cluster::ids::{ActorId, Addr, Incarnation, Instance, Life, NodeId, Ref, Session};
use crate::codec::{Reader, Wire};

const EXAMPLES: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../scenarios/golden/wire/examples.json"));
const RECORDED: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../scenarios/golden/wire/recorded.json"));

/// The cases of a file, each to be asked for once.
struct Golden(BTreeMap<String, Vec<u8>>);

impl Golden {
    fn of(text: &str) -> Self {
        let file: serde_json::Value = serde_json::from_str(text).unwrap();
        let cases = file["cases"].as_array().unwrap().iter().map(|case| {
            let text = |key: &str| case[key].as_str().unwrap();
            (text("name").to_owned(), unhex(text("hex")))
        });
        Self(cases.collect())
    }

    fn take(&mut self, name: &str) -> Vec<u8> {
        self.0.remove(name).unwrap_or_else(|| panic!("no case {name}"))
    }

    fn value<T: Wire + PartialEq + Debug>(&mut self, name: &str, value: &T) {
        let bytes = self.take(name);
        assert_eq!(hex(&value.to_bytes()), hex(&bytes), "{name}");
        assert_eq!(T::from_bytes(&bytes).as_ref(), Ok(value), "{name}");
    }

    fn body(&mut self, name: &str, frame: &AnyFrame) {
        let bytes = self.take(name);
        let mut body = Vec::new();
        frame.encode_body(&mut body);
        assert_eq!(hex(&body), hex(&bytes), "{name}");
        let decoded = AnyFrame::decode_body(frame.kind(), &bytes);
        assert_eq!(decoded.as_ref(), Ok(frame), "{name}");
    }

    fn finish(self) {
        assert!(self.0.is_empty(), "cases without a value: {:?}", self.0.keys());
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = (0..text.len()).step_by(2);
    pairs.map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn a() -> NodeId {
    NodeId::parse("521f8f5d132ea5fb81be5786a868d693").unwrap()
}

fn b() -> NodeId {
    NodeId::parse("cb28f22877eb7dca05d55c8ceb9d398e").unwrap()
}

fn addr(last: u8) -> Addr {
    Addr::new([10, 0, 0, last].into(), 7400, 7400).unwrap()
}

fn life(session: u32, incarnation: u32) -> Life {
    Life { session: Session(session), incarnation: Incarnation(incarnation) }
}

fn alive() -> Fact {
    Fact::Alive { node: b(), life: life(7, 2), addr: addr(2), meta: Meta::EMPTY }
}

fn left() -> Fact {
    Fact::Left { node: b(), session: Session(7) }
}

fn clock() -> NameEntry {
    NameEntry {
        name: Name::new("clock").unwrap(),
        owner: b(),
        session: Session(7),
        actor: Some(ActorId(9)),
        version: 1,
        serial: 3,
        ttl_ms: 60_000,
        age_ms: 250,
    }
}

fn clock_gone() -> NameEntry {
    NameEntry { actor: None, serial: 4, age_ms: 0, ..clock() }
}

fn schema_hash() -> [u8; 16] {
    Preface::schema_hash_of("example schema text")
}

fn bare(body: Body) -> Message {
    Message { body, entries: Vec::new() }
}

/// T52: the bytes are those of `scenarios/golden/`.
///
/// C6, C13, section 2.5: what is sent before there are keys.
#[test]
fn the_examples_before_keys_are_encoded_as_specified() {
    let mut golden = Golden::of(EXAMPLES);
    let preface = Preface {
        version: 1,
        cluster_tag: Preface::cluster_tag_of("demo"),
        schema_hash: schema_hash(),
        features: Features(0),
        required: Features(0),
    };
    let bytes: [u8; Preface::LEN] = preface.to_bytes().try_into().unwrap();
    assert_eq!(hex(&prologue(&bytes)), hex(&golden.take("prologue")));
    assert_eq!(Preface::from_bytes(&bytes), Ok(preface));
    golden.value(
        "hello_of_a",
        &Hello {
            life: life(7, 2),
            instance: Instance(0x0102_0304_0506_0708),
            seen: 0,
            ordinal: 1,
            link_index: 0x1122_3344,
            addr: addr(1),
            version_max: 1,
        },
    );

    let reject = ClearReject {
        code: Code::SchemaMismatch,
        version_min: 1,
        version_max: 1,
        schema_hash: schema_hash(),
    };
    let record = golden.take("clear_reject");
    let mut out = Vec::new();
    HandshakeKind::Reject.put_record(&reject.to_bytes(), &mut out);
    assert_eq!(hex(&out), hex(&record));
    let mut reader = Reader::new(&record);
    assert_eq!(HandshakeKind::decode(&mut reader), Ok(HandshakeKind::Reject));
    assert_eq!(ClearReject::from_bytes(reader.rest()), Ok(reject));
}

/// C11: a Ref is NodeId 16 · Session 4 · ActorId 8. C14–C17, section 2.5: records, messages and
/// entries.
#[test]
fn the_examples_under_keys_are_encoded_as_specified() {
    let mut golden = Golden::of(EXAMPLES);
    for before_keys in ["prologue", "hello_of_a", "clear_reject"] {
        golden.take(before_keys);
    }
    let whole = |kind, total| FrameHeader { kind, first: true, last: true, total };
    golden.value("keepalive", &whole(FrameKind::Keepalive, 0));
    let send = golden.take("send");
    let mut reader = Reader::new(&send);
    assert_eq!(FrameHeader::decode(&mut reader), Ok(whole(FrameKind::Send, 33)));
    let frame = UserFrame::Send {
        number: 1,
        to: ActorId(9),
        from: ActorId(4),
        tag: 0x11,
        payload: b"hello".to_vec(),
    };
    let body = reader.rest();
    assert_eq!(Frame::decode_body(FrameKind::Send, body), Ok(Frame::User(frame.clone())));
    let mut out = whole(FrameKind::Send, 33).to_bytes();
    frame.encode_body(&mut out);
    assert_eq!(hex(&out), hex(&send));

    golden.value("ping", &bare(Body::Ping { seq: 42 }));
    golden.value("ack", &bare(Body::Ack { seq: 42 }));
    golden.value("nack", &bare(Body::Nack { seq: 42 }));
    let ping_req =
        Body::PingReq { seq: 42, wait_ms: 300, target: b(), session: Session(7), addr: addr(2) };
    golden.value("ping_req", &bare(ping_req));
    golden.value("datagram_header", &DatagramHeader { link_index: 0x5566_7788, counter: 0 });
    golden.value("alive", &alive());
    let (node, life, accuser) = (b(), life(7, 2), a());
    golden.value("suspect", &Fact::Suspect { node, life, accuser });
    golden.value("dead", &Fact::Dead { node, life, accuser });
    golden.value("left", &left());
    golden.value("name", &clock());
    golden.value("name_gone", &clock_gone());
    let actor = Ref { node: b(), session: Session(7), actor: ActorId(9) };
    assert_eq!(actor.to_bytes(), ref_bytes(actor));
    golden.value("ref", &actor);
    golden.finish();
}

fn row(node: NodeId, life: Life, state: State, age_ms: u32, addr: Option<Addr>) -> MemberRow {
    MemberRow { node, life, state, age_ms, addr, meta: Meta::EMPTY }
}

#[test]
fn the_formats_without_an_example_are_encoded_as_first_recorded() {
    let mut golden = Golden::of(RECORDED);
    golden.value(
        "offer",
        &Offer {
            version_min: 1,
            version_max: 1,
            features: Features(0b011),
            required: Features(0b001),
        },
    );
    let alive_row = MemberRow {
        meta: Meta::new(b"eu1").unwrap(),
        ..row(b(), life(7, 2), State::Alive, 0, Some(addr(2)))
    };
    let two_ports = Addr::new([10, 0, 0, 1].into(), 7401, 7402).unwrap();
    let dead_row = row(a(), life(7, 1), State::Dead, 1_500, None);
    let left_life = life(7, Incarnation::LEFT.0);
    golden.value("row_alive", &alive_row);
    golden.value("row_suspect", &row(a(), life(8, 0), State::Suspect, 0, Some(two_ports)));
    golden.value("row_dead", &dead_row);
    golden.value("row_left", &row(a(), left_life, State::Left, 90_000, Some(addr(1))));
    let digest = NameDigest { owner: b(), session: Session(7), serial: 3, age_ms: 0 };
    golden.value("digest", &digest);
    let sync = SyncBody { rows: vec![alive_row, dead_row], digests: vec![digest] };
    for (name, frame) in [
        ("sync1", Frame::Sync1(sync.clone())),
        ("sync2", Frame::Sync2(sync, vec![clock(), clock_gone()])),
        ("sync3", Frame::Sync3(vec![clock()])),
        ("sync3_empty", Frame::Sync3(Vec::new())),
        ("name_query", Frame::NameQuery { query: 5, name: clock().name }),
        ("name_reply", Frame::NameReply { query: 5, entry: Some(clock()) }),
        ("name_reply_none", Frame::NameReply { query: 5, entry: None }),
    ] {
        golden.body(name, &AnyFrame::Frame(frame));
    }
    user_frames(&mut golden);
    links_own_frames(&mut golden);
    golden.value("gossip_empty", &bare(Body::Gossip));
    let entries = vec![Entry::Fact(alive()), Entry::Fact(left()), Entry::Name(clock())];
    let body = Body::Ping { seq: 42 };
    golden.value("ping_with_entries", &Message { body, entries });
    golden.finish();
}

fn user_frames(golden: &mut Golden) {
    let ask = UserFrame::Ask {
        number: 2,
        to: ActorId(9),
        from: ActorId(4),
        request: 77,
        wait_ms: 1_500,
        tag: 0x12,
        payload: b"time?".to_vec(),
    };
    let reply = UserFrame::Reply {
        number: 1,
        request: 77,
        status: 0,
        tag: 0x13,
        payload: b"noon".to_vec(),
    };
    let bounce = UserFrame::Bounce { number: 3, code: BounceCode::MailboxFull };
    for (name, frame) in [
        ("ask", ask),
        ("reply", reply),
        ("confirm", UserFrame::Confirm { upto: 64 }),
        ("bounce", bounce),
    ] {
        golden.body(name, &AnyFrame::Frame(Frame::User(frame)));
    }
}

fn links_own_frames(golden: &mut Golden) {
    let stale = Reject { code: Code::StaleSession, detail: 9 };
    golden.body("reject", &AnyFrame::Control(Control::Reject(stale)));
    golden.body("close", &AnyFrame::Control(Control::Close(CloseReason::Shutdown)));
    golden.value(
        "welcome_header",
        &FrameHeader { kind: FrameKind::Welcome, first: true, last: true, total: 56 },
    );
    golden.value(
        "sync1_first_fragment_header",
        &FrameHeader { kind: FrameKind::Sync1, first: true, last: false, total: 20_000 },
    );
}
