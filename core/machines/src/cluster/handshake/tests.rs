//! Goal: the handshake gives the bytes of section 2.5, and each check its code, in its order.
//! Method: A dials B with the keys of the examples; what comes out is compared with
//! `scenarios/golden/handshake.json`; then one thing at a time is made wrong.

use std::collections::BTreeMap;

use super::*;
use crate::cluster::ids::{Addr, Incarnation, Instance, Life, Session};
use crate::cluster::wire::{Body, DatagramHeader, Message};
use crate::digest::Digest;

const GOLDEN: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../scenarios/golden/handshake.json"));

fn golden() -> BTreeMap<String, String> {
    let file: serde_json::Value = serde_json::from_str(GOLDEN).unwrap();
    let cases = file["cases"].as_array().unwrap();
    let text = |case: &serde_json::Value, key: &str| case[key].as_str().unwrap().to_owned();
    cases.iter().map(|case| (text(case, "name"), text(case, "hex"))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn terms(suite: Suite, secret: u8) -> Terms {
    let key = StaticKey::from_secret([secret; 32]);
    Terms {
        suite,
        node: key.node(),
        key,
        version_min: 1,
        version_max: 1,
        features: Features(0),
        required: Features(0),
        cluster_tag: Preface::cluster_tag_of("demo"),
        schemas: [(1, Preface::schema_hash_of("example schema text"))].into(),
    }
}

fn hello() -> Hello {
    Hello {
        life: Life { session: Session(7), incarnation: Incarnation(2) },
        instance: Instance(0x0102_0304_0506_0708),
        seen: 0,
        ordinal: 1,
        link_index: 0x1122_3344,
        addr: Addr::new([10, 0, 0, 1].into(), 7400, 7400).unwrap(),
        version_max: 1,
    }
}

/// Both ends after message 3, or why there is none.
fn run(a: &Terms, b: &Terms, hello: &Hello) -> Result<(AwaitWelcome, Greeted), Failed> {
    let mut out = Vec::new();
    let dialler = AwaitOffer::start(a, a.version_max, Key::new([0xC3; 32]), &mut out);
    let (preface, record) = out.split_first_chunk::<40>().unwrap();
    let mut answer = Vec::new();
    let acceptor =
        AwaitPreface::new(Key::new([0xD4; 32])).answer(b, preface, &record[3..], &mut answer)?;
    let offered = dialler.offer(a, &Allowed::Any, Some(b.node), &answer[3..])?;
    let mut third = Vec::new();
    let dialler = offered.greet(a, hello, &mut third);
    let greeted = acceptor.hello(b, &Allowed::Any, &third[3..])?;
    Ok((dialler, greeted))
}

/// C20: the pattern, its prologue and its keys.
#[test]
fn the_examples_of_the_specification_come_out_bit_for_bit() {
    let golden = golden();
    let (a, b) = (terms(Suite::Noise, 0xA1), terms(Suite::Noise, 0xB2));
    assert_eq!(hex(&a.key.public()), golden["public_key_of_a"]);
    assert_eq!(a.node.to_string(), golden["node_id_of_a"]);
    assert_eq!(hex(&b.key.public()), golden["public_key_of_b"]);
    assert_eq!(b.node.to_string(), golden["node_id_of_b"]);

    let mut out = Vec::new();
    let _ = AwaitOffer::start(&a, 1, Key::new([0xC3; 32]), &mut out);
    assert_eq!(hex(&out[43..]), golden["message_1"]);

    let (mut dialler, greeted) = run(&a, &b, &hello()).unwrap();
    assert_eq!(hex(&dialler.agreed.hash), golden["handshake_hash"]);
    assert_eq!(dialler.agreed.hash, greeted.agreed.hash);
    assert_eq!(hex(dialler.sealer.tx.expose()), golden["key_a_to_b"]);
    assert_eq!(hex(dialler.sealer.rx.expose()), golden["key_b_to_a"]);
    assert_eq!(hex(greeted.sealer.rx.expose()), golden["key_a_to_b"]);
    assert_eq!(greeted.hello, hello());

    let mut record = Vec::new();
    dialler.sealer.seal_control(&Control::Keepalive, &mut record);
    assert_eq!(hex(&record), golden["keepalive_record"]);

    let ping = Message { body: Body::Ping { seq: 42 }, entries: Vec::new() };
    let mut datagram = vec![0; DatagramHeader::LEN];
    ping.encode(&mut datagram);
    dialler.sealer.seal_datagram(0x5566_7788, &mut datagram);
    assert_eq!(hex(&datagram), golden["ping_datagram"]);
}

/// C5, C6, C20: an id is what the key that completed the handshake hashes to.
#[test]
fn both_suites_give_both_ends_the_same_keys_and_each_other_s_id() {
    for suite in [Suite::Noise, Suite::Null] {
        let (a, b) = (terms(suite, 1), terms(suite, 2));
        let (dialler, greeted) = run(&a, &b, &hello()).unwrap();
        assert_eq!(dialler.sealer.tx, greeted.sealer.rx);
        assert_eq!(dialler.sealer.rx, greeted.sealer.tx);
        assert_ne!(dialler.sealer.rx, dialler.sealer.tx);
        assert_eq!(dialler.agreed.peer, b.node);
        assert_eq!(greeted.agreed.peer, a.node);
        assert_eq!(dialler.agreed.hash, greeted.agreed.hash);
    }
}

/// C4: a copy made at any point goes on as the original does.
#[test]
fn a_handshake_that_was_cloned_between_messages_ends_with_the_same_keys() {
    for suite in [Suite::Noise, Suite::Null] {
        let (a, b) = (terms(suite, 1), terms(suite, 2));
        let prologue = [7; 56];
        let ephemeral = |byte| Key::new([byte; 32]);
        let mut dialler = Noise::new(suite, Role::Initiator, &a.key, ephemeral(3), &prologue);
        let mut acceptor = Noise::new(suite, Role::Responder, &b.key, ephemeral(4), &prologue);
        let mut message = Vec::new();
        dialler.write(&[], &mut message);
        assert_eq!(Digest::of(&dialler), Digest::of(&dialler.clone()));
        dialler = dialler.clone();
        acceptor.read(&message, &mut [0; 32]).unwrap();
        acceptor = acceptor.clone();
        message.clear();
        acceptor.write(&[1, 2], &mut message);
        let mut payload = [0; 2];
        dialler.read(&message, &mut payload).unwrap();
        assert_eq!(payload, [1, 2]);
        (dialler, acceptor) = (dialler.clone(), acceptor.clone());
        message.clear();
        dialler.write(&[5], &mut message);
        acceptor.read(&message, &mut [0; 1]).unwrap();
        let keys = dialler.clone().keys();
        assert_eq!(keys, dialler.keys());
        assert_eq!(keys, acceptor.clone().keys());
        assert_eq!(dialler.remote(), Some(b.key.public()));
        assert_eq!(acceptor.remote(), Some(a.key.public()));
    }
}

/// C4: no secret is printed.
#[test]
fn secrets_print_as_dots() {
    let (dialler, _) = run(&terms(Suite::Noise, 1), &terms(Suite::Noise, 2), &hello()).unwrap();
    let text = format!("{dialler:?} {:?}", terms(Suite::Noise, 1));
    assert!(text.contains("tx: …"));
    assert!(!text.contains("secret: [1"));
}

/// C21, C22: each mismatch has its code, and those before the keys are told with own values.
#[test]
fn each_mismatch_of_the_preface_ends_with_its_code() {
    let (a, b) = (terms(Suite::Null, 1), terms(Suite::Null, 2));
    let code = |a: &Terms, b: &Terms| {
        let failed = run(a, b, &hello()).unwrap_err();
        assert_eq!(failed.clear.map(|clear| clear.code), Some(failed.code));
        failed.code
    };
    let other = Terms { cluster_tag: Preface::cluster_tag_of("other"), ..a.clone() };
    assert_eq!(code(&other, &b), Code::WrongCluster);
    let mut other = a.clone();
    other.schemas.insert(1, [0; 16]);
    assert_eq!(code(&other, &b), Code::SchemaMismatch);
    let mut other = a.clone();
    other.version_max = 2;
    assert_eq!(code(&other, &b), Code::VersionMismatch);
    let needs = Terms { features: Features(1), required: Features(1), ..a.clone() };
    assert_eq!(code(&needs, &b), Code::FeatureMissing);
    assert_eq!(code(&a, &Terms { node: b.node, ..needs }), Code::FeatureMissing);
    let offers = Terms { features: Features(3), ..a.clone() };
    let has = Terms { features: Features(1), ..b };
    let (dialler, greeted) = run(&offers, &has, &hello()).unwrap();
    assert_eq!(dialler.agreed.features, Features(1));
    assert_eq!(greeted.agreed.features, Features(1));
}

/// C22: a preface that was changed on the way breaks message 2.
#[test]
fn a_changed_preface_breaks_message_two() {
    for suite in [Suite::Noise, Suite::Null] {
        let (mut a, b) = (terms(suite, 1), terms(suite, 2));
        a.features = Features(1);
        let mut out = Vec::new();
        let dialler = AwaitOffer::start(&a, 1, Key::new([3; 32]), &mut out);
        out[32] = 0; // The features offered.
        let (preface, record) = out.split_first_chunk::<40>().unwrap();
        let mut answer = Vec::new();
        let state = AwaitPreface::new(Key::new([4; 32]));
        state.answer(&b, preface, &record[3..], &mut answer).unwrap();
        let failed = dialler.offer(&a, &Allowed::Any, None, &answer[3..]);
        assert_eq!(failed.unwrap_err().code, Code::BadCrypto);
    }
}

/// C22: a dial that was talked down to a lower version notices it, on either side.
#[test]
fn a_version_below_the_common_greatest_is_a_downgrade() {
    let both = |secret| {
        let mut terms = terms(Suite::Null, secret);
        terms.version_max = 2;
        terms.schemas.insert(2, [2; 16]);
        terms
    };
    let (a, b) = (both(1), both(2));
    let mut out = Vec::new();
    let dialler = AwaitOffer::start(&a, 1, Key::new([3; 32]), &mut out);
    let (preface, record) = out.split_first_chunk::<40>().unwrap();
    let mut answer = Vec::new();
    let state = AwaitPreface::new(Key::new([4; 32]));
    let acceptor = state.answer(&b, preface, &record[3..], &mut answer).unwrap();
    let failed = dialler.clone().offer(&a, &Allowed::Any, None, &answer[3..]);
    assert_eq!(failed.unwrap_err().code, Code::Downgraded);

    // A dialler that does not check is caught by the acceptor.
    let blind = Terms { version_max: 1, ..a.clone() };
    let offered = dialler.offer(&blind, &Allowed::Any, None, &answer[3..]).unwrap();
    let honest = Hello { version_max: 2, ..hello() };
    let mut third = Vec::new();
    let _ = offered.greet(&blind, &honest, &mut third);
    let failed = acceptor.hello(&b, &Allowed::Any, &third[3..]).unwrap_err();
    assert_eq!(failed.code, Code::Downgraded);
    assert!(failed.sealer.is_some(), "told under keys (C23)");
}

/// The dialler's checks, each after the one before it (section 3, D1).
#[test]
fn the_first_check_that_fails_decides() {
    let (a, b) = (terms(Suite::Null, 1), terms(Suite::Null, 2));
    let offer = |a: &Terms, b: &Terms, allowed: &Allowed, expected| {
        let mut out = Vec::new();
        let dialler = AwaitOffer::start(a, 1, Key::new([3; 32]), &mut out);
        let (preface, record) = out.split_first_chunk::<40>().unwrap();
        let mut answer = Vec::new();
        let state = AwaitPreface::new(Key::new([4; 32]));
        let _ = state.answer(b, preface, &record[3..], &mut answer).unwrap();
        let offered = dialler.offer(a, allowed, expected, &answer[3..]);
        offered.map(|offered| offered.peer).map_err(|failed| failed.code)
    };
    let nobody = Allowed::only([]);
    assert_eq!(offer(&a, &b, &Allowed::Any, Some(b.node)), Ok(b.node));
    assert_eq!(offer(&a, &b, &Allowed::Any, None), Ok(b.node));
    let own = offer(&a, &a, &nobody, Some(b.node));
    assert_eq!(own, Err(Code::SelfConnect));
    assert_eq!(offer(&a, &b, &nobody, Some(a.node)), Err(Code::WrongPeer));
    assert_eq!(offer(&a, &b, &nobody, Some(b.node)), Err(Code::NotAllowed));
}

#[test]
fn an_acceptor_refuses_strangers_and_itself_under_keys() {
    let (a, b) = (terms(Suite::Noise, 1), terms(Suite::Noise, 2));
    let mut out = Vec::new();
    let dialler = AwaitOffer::start(&a, 1, Key::new([3; 32]), &mut out);
    let (preface, record) = out.split_first_chunk::<40>().unwrap();
    let mut answer = Vec::new();
    let state = AwaitPreface::new(Key::new([4; 32]));
    let acceptor = state.answer(&b, preface, &record[3..], &mut answer).unwrap();
    let offered = dialler.offer(&a, &Allowed::Any, None, &answer[3..]).unwrap();
    let mut third = Vec::new();
    let mut dialler = offered.greet(&a, &hello(), &mut third);

    let mut failed = acceptor.clone().hello(&b, &Allowed::only([]), &third[3..]).unwrap_err();
    assert_eq!(failed.code, Code::NotAllowed);
    assert_eq!(failed.peer, Some(a.node));
    let mut sealer = failed.sealer.take().unwrap();
    let reject = Reject { code: Code::NotAllowed, detail: 0 };
    let mut record = Vec::new();
    sealer.seal_control(&Control::Reject(reject), &mut record);
    let answer = dialler.answer(&mut record[2..]);
    assert_eq!(answer, Ok(Answer::Reject(reject)));

    third[50] ^= 1;
    let failed = acceptor.hello(&b, &Allowed::Any, &third[3..]).unwrap_err();
    assert_eq!(failed.code, Code::BadCrypto);
}
