//! How events stand in a record, and what a program says of those that it does not know.

use super::demo::{Command, Event, Key, Notes, NotesPart, Refusal, Text};
use super::{Fold, Frame, Part, Unreadable, put_event};
use crate::codec::Malformed;

fn events() -> Vec<Event> {
    vec![
        Event::Wrote { key: Key(3), text: Text(b"abc".to_vec()) },
        Event::Counted { key: Key(3), by: Key(1) },
        Event::Erased { key: Key(3) },
    ]
}

fn body(events: &[Event]) -> Vec<u8> {
    let mut out = Vec::new();
    events.iter().for_each(|event| put_event::<NotesPart>(&mut out, event));
    out
}

/// L15: tag, schema version, length and body of each.
#[test]
fn l15_events_stand_one_after_the_other_each_with_tag_version_and_length() {
    let golden = [
        &[7, 0, 2, 0, 12, 0, 0, 0][..],
        &[2, 3, 0, 0, 0, 3, 0, 0, 0, b'a', b'b', b'c'],
        &[7, 0, 2, 0, 9, 0, 0, 0, 1, 3, 0, 0, 0, 1, 0, 0, 0],
        &[7, 0, 2, 0, 5, 0, 0, 0, 3, 3, 0, 0, 0],
    ];
    let body = body(&events());
    assert_eq!(body, golden.concat());
    let frames = Frame::split(&body, 3).unwrap();
    let read: Vec<_> = frames.iter().map(|frame| frame.read::<NotesPart>().unwrap()).collect();
    assert_eq!(read, events());
}

#[test]
fn l15_a_body_has_exactly_the_events_that_the_record_counts() {
    let body = body(&events());
    for count in [0, 1, 2, 4, u32::MAX] {
        assert!(Frame::split(&body, count).is_err(), "{count}");
    }
    for length in 0..body.len() {
        assert!(Frame::split(&body[..length], 3).is_err(), "{length}");
    }
    assert_eq!(Frame::split(&[], 0), Ok(vec![]));
}

#[test]
fn l36_an_unknown_tag_is_named() {
    let frame = Frame { tag: 8, version: 2, body: &[] };
    let refused = frame.read::<NotesPart>().unwrap_err();
    assert_eq!(refused, Unreadable::Tag { tag: 8 });
    assert_eq!(refused.to_string(), "upgrade needed: event tag 8 is unknown");
}

#[test]
fn l36_an_unknown_schema_version_is_named() {
    for version in [0, 3, u16::MAX] {
        let refused = Frame { tag: 7, version, body: &[] }.read::<NotesPart>().unwrap_err();
        let text = format!(
            "upgrade needed: schema version {version} of notes (tag 7) is unknown, \
             this program writes 2"
        );
        assert_eq!(refused.to_string(), text);
    }
}

#[test]
fn l36_an_event_of_an_older_schema_version_is_read_in_todays_words() {
    // The golden vector of version 1: a key, a length byte, a text.
    let golden = [7, 0, 1, 0, 7, 0, 0, 0, 3, 0, 0, 0, 2, b'h', b'i'];
    let frames = Frame::split(&golden, 1).unwrap();
    let event = Event::Wrote { key: Key(3), text: Text(b"hi".to_vec()) };
    assert_eq!(frames[0].read::<NotesPart>(), Ok(event));
}

#[test]
fn an_event_that_is_too_short_or_too_long_for_its_version_is_malformed() {
    let text = |body| Frame { tag: 7, version: 1, body }.read::<NotesPart>();
    let why = Malformed { offset: 7, expected: "the end" };
    let malformed = Unreadable::Malformed { part: "notes", version: 1, table: None, why };
    assert_eq!(text(&[3, 0, 0, 0, 2, b'h', b'i', 0]).unwrap_err(), malformed.clone());
    let told = "event of notes, schema version 1: at byte 7: expected the end";
    assert_eq!(malformed.to_string(), told);
    assert!(text(&[3, 0, 0, 0, 2, b'h']).is_err());
    assert!(Frame { tag: 7, version: 2, body: &[4] }.read::<NotesPart>().is_err());
}

#[test]
fn older_versions_come_in_order_and_below_todays() {
    assert!(NotesPart::OLDER.is_sorted_by(|a, b| a.version < b.version));
    assert!(NotesPart::OLDER.iter().all(|older| older.version < NotesPart::VERSION));
}

/// L4: deciding changes nothing, applying alone does, and the root is of what was applied.
#[test]
fn l72_what_was_decided_and_what_is_read_back_come_to_the_same_root() {
    let (mut live, mut journal) = (Notes::default(), Vec::new());
    let mut decide = |state: &mut Notes, command| {
        let before = NotesPart::root(state);
        let decided = NotesPart::decide(state, &command);
        assert_eq!(NotesPart::root(state), before, "deciding changes nothing");
        decided.map(|events| {
            journal.push((body(&events), u32::try_from(events.len()).unwrap()));
            events.iter().for_each(|event| NotesPart::apply(state, event));
        })
    };
    let text = || Text(b"x".to_vec());
    assert_eq!(decide(&mut live, Command::Write { key: Key(1), text: text() }), Ok(()));
    let again = Command::Write { key: Key(1), text: text() };
    assert_eq!(decide(&mut live, again), Err(Refusal::Taken));
    assert_eq!(decide(&mut live, Command::Erase { key: Key(2) }), Err(Refusal::Missing));
    assert_eq!(decide(&mut live, Command::Erase { key: Key(1) }), Ok(()));
    let mut back = Notes::default();
    for (body, count) in journal {
        for frame in Frame::split(&body, count).unwrap() {
            NotesPart::apply(&mut back, &frame.read::<NotesPart>().unwrap());
        }
    }
    assert_eq!(NotesPart::root(&mut back), NotesPart::root(&mut live));
    assert_eq!(back, live);
}
