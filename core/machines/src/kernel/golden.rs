//! Goal: what events do to the state, and what the events of a command are, stays as it is (L52).
//! Method: each story of [`scripts`] has its events and roots in `scenarios/golden/fold/`: the
//! events give the roots, with nothing but `apply`; and the kernel still decides those events.
//!
//! A vector is `{about, source, config, records: [{kinds, events, root}]}`: the configuration and
//! each event are hexadecimal digits of their binary standard form, and the root is that after the
//! record. `kinds` is for readers. A change to one is a change of the format (CONTRIBUTING.md).

mod scripts;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

use super::Kernel;
use super::config::KernelConfig;
use super::event::{Body, Event};
use super::rig::Rig;
use crate::codec::{Reader, Wire};
use scripts::SCRIPTS;

const SOURCE: &str = "First recorded by this implementation from section 10 of kernel.md and L50.";

/// The events of one decision, and the root after them.
struct Record {
    events: Vec<Vec<u8>>,
    root: String,
}

struct Vector {
    config: Vec<u8>,
    records: Vec<Record>,
}

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../scenarios/golden/fold"].iter().collect()
}

/// All files of the folder, by name.
fn files() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder()).expect("there are vectors") {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        files.insert(name, fs::read_to_string(&path).unwrap());
    }
    files
}

fn vectors() -> BTreeMap<String, Vector> {
    let parse = |(name, text): (String, String)| (name, parsed(&text));
    files().into_iter().map(parse).collect()
}

fn parsed(text: &str) -> Vector {
    let file: serde_json::Value = serde_json::from_str(text).unwrap();
    let list = |value: &serde_json::Value| value.as_array().unwrap().clone();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let records = list(&file["records"]).into_iter().map(|record| Record {
        events: list(&record["events"]).iter().map(|event| unhex(&text(event))).collect(),
        root: text(&record["root"]),
    });
    Vector { config: unhex(&text(&file["config"])), records: records.collect() }
}

fn hex(bytes: &[u8]) -> String {
    let digits = |mut text: String, byte: &u8| {
        write!(text, "{byte:02x}").unwrap();
        text
    };
    bytes.iter().fold(String::new(), digits)
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = (0..text.len()).step_by(2);
    pairs.map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// Writes a story as its vector.
fn told(about: &str, rig: &Rig) -> String {
    let mut text = String::new();
    let quoted = |items: Vec<String>, between: &str| {
        let items: Vec<_> = items.iter().map(|item| format!("\"{item}\"")).collect();
        items.join(between)
    };
    let config = hex(&KernelConfig::new().to_bytes());
    writeln!(text, "{{\n  \"about\": \"{about}\",\n  \"source\": \"{SOURCE}\",").unwrap();
    writeln!(text, "  \"config\": \"{config}\",\n  \"records\": [").unwrap();
    let mut from = 0;
    for (number, (end, root)) in rig.records.iter().enumerate() {
        let events = &rig.events[from..*end];
        from = *end;
        let kinds = events.iter().map(|event| event.body.kind().to_owned()).collect();
        let bytes = events.iter().map(|event| hex(&event.to_bytes())).collect();
        let comma = if number + 1 == rig.records.len() { "" } else { "," };
        writeln!(text, "    {{\n      \"kinds\": [{}],", quoted(kinds, ", ")).unwrap();
        writeln!(text, "      \"events\": [\n        {}\n      ],", quoted(bytes, ",\n        "))
            .unwrap();
        writeln!(text, "      \"root\": \"{root}\"\n    }}{comma}").unwrap();
    }
    text.push_str("  ]\n}\n");
    text
}

/// Applies a vector; says at which record another root came out.
fn apply(vector: &Vector) -> Result<(), String> {
    let config = KernelConfig::from_bytes(&vector.config).map_err(|why| why.to_string())?;
    let mut kernel = Kernel::new(config).map_err(|refusal| refusal.to_string())?;
    for (number, record) in vector.records.iter().enumerate() {
        for bytes in &record.events {
            let event = Event::from_bytes(bytes).map_err(|why| format!("{number}: {why}"))?;
            assert_eq!(hex(&event.to_bytes()), hex(bytes), "one encoding");
            kernel.apply(&event);
        }
        let root = kernel.root().to_string();
        if root != record.root {
            return Err(format!("record {number}: root {root}, not {}", record.root));
        }
    }
    Ok(())
}

/// L52, L36, K3: the roots follow from the events alone.
#[test]
fn the_events_of_every_vector_lead_to_its_roots() {
    let vectors = vectors();
    assert!(vectors.len() >= 12, "{} vectors", vectors.len());
    for (name, vector) in vectors {
        assert!(!vector.records.is_empty(), "{name}: nothing happens");
        assert_eq!(apply(&vector), Ok(()), "{name}");
    }
}

/// L52, K435: on every platform, today and later, the same commands make the same events.
#[test]
fn the_kernel_still_decides_what_the_vectors_say() {
    let (mut files, mut differing) = (files(), Vec::new());
    let found = env::temp_dir().join("lockstep-golden-fold");
    for (name, about, script) in SCRIPTS {
        let text = told(about, &script());
        if files.remove(*name).as_deref() != Some(text.as_str()) {
            fs::create_dir_all(&found).unwrap();
            fs::write(found.join(format!("{name}.json")), text).unwrap();
            differing.push(*name);
        }
    }
    assert!(differing.is_empty(), "{differing:?} differ; what came out is in {}", found.display());
    assert!(files.is_empty(), "vectors without a story: {:?}", files.keys());
}

/// Lists the events that this program can read: their area's tag and their own.
fn known() -> BTreeSet<(u8, u8)> {
    let pairs = (0..=u8::MAX).flat_map(|area| (0..=u8::MAX).map(move |tag| (area, tag)));
    let known = |(area, tag): &(u8, u8)| match Body::decode(&mut Reader::new(&[*area, *tag])) {
        Ok(_) => true,
        // It is what comes after the tags that is missing.
        Err(why) => why.offset == 2,
    };
    pairs.filter(known).collect()
}

/// L52, K330: what can happen is in some vector, every kind of it.
#[test]
fn every_kind_of_event_is_in_some_vector() {
    let mut kinds: BTreeMap<(u8, u8), &str> = BTreeMap::new();
    for vector in vectors().values() {
        for bytes in vector.records.iter().flat_map(|record| &record.events) {
            let event = Event::from_bytes(bytes).unwrap();
            let body = event.body.to_bytes();
            kinds.insert((body[0], body[1]), event.body.kind());
        }
    }
    let known = known();
    assert!(known.len() >= 60, "{} kinds are known", known.len());
    let missing: Vec<_> = known.iter().filter(|tags| !kinds.contains_key(tags)).collect();
    assert!(missing.is_empty(), "in no vector, by area and tag: {missing:?}");
}

/// A vector that any change of its events leaves as it is would prove nothing.
#[test]
fn an_event_that_is_left_out_leads_to_another_root() {
    for (name, mut vector) in vectors() {
        let record = vector.records.last_mut().unwrap();
        record.events.pop();
        assert!(apply(&vector).is_err(), "{name}");
    }
}
