//! Goal: a value has one canonical form, which reads back as itself, and no bytes do harm.
//! Method: arbitrary values, spelled in arbitrary ways, against another library.

use proptest::prelude::*;
use serde_json::Value;

use super::strategies::{ours, value};
use super::*;

/// Spells a value with white space, escapes and keys in whatever order, as `noise` says.
fn spelled(value: &Value, noise: &mut impl Iterator<Item = u8>) -> String {
    let blank = |noise: &mut dyn Iterator<Item = u8>| {
        let blanks = ["", "", "", " ", "\n", "\t \r"];
        blanks[usize::from(noise.next().unwrap()) % blanks.len()]
    };
    let text = |text: &str, noise: &mut dyn Iterator<Item = u8>| {
        let mut out = String::from("\"");
        for character in text.chars() {
            let must = character < ' ' || matches!(character, '"' | '\\');
            if must || noise.next().unwrap().is_multiple_of(4) {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04X}"));
                }
            } else {
                out.push(character);
            }
        }
        out + "\""
    };
    let before = blank(noise);
    let body = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(string) => text(string, noise),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| spelled(item, noise)).collect();
            format!("[{}{}]", items.join(","), blank(noise))
        }
        Value::Object(entries) => {
            let spell = |(key, value): (&String, &Value)| {
                let key = text(key, noise);
                format!("{}{key}{}:{}", blank(noise), blank(noise), spelled(value, noise))
            };
            let mut entries: Vec<String> = entries.iter().map(spell).collect();
            let turn = entries.len().min(1);
            entries.rotate_left(turn);
            format!("{{{}{}}}", entries.join(","), blank(noise))
        }
    };
    format!("{before}{body}{}", blank(noise))
}

fn parsed(bytes: &[u8]) -> Result<Json, Refusal> {
    Json::parse("payload_json", bytes, &JsonLimits::DEFAULT)
}

proptest! {
    /// parse(canonical(x)) == x, and the canonical form of that is the same bytes.
    #[test]
    fn the_canonical_form_reads_back(value in value()) {
        let value = ours(&value);
        let bytes = value.canonical();
        prop_assert_eq!(bytes.len(), value.length());
        let back = parsed(&bytes).unwrap();
        prop_assert_eq!(&back, &value);
        prop_assert_eq!(back.canonical(), bytes);
        prop_assert_eq!(back.depth(), value.depth());
        prop_assert_eq!(Json::from_bytes(&value.to_bytes()), Ok(value));
    }

    /// However a value is spelled, its canonical form is one, and another library reads it alike.
    #[test]
    fn every_spelling_has_one_canonical_form(
        value in value(), noise in prop::collection::vec(any::<u8>(), 1..50),
    ) {
        let text = spelled(&value, &mut noise.iter().copied().cycle());
        let read = parsed(text.as_bytes()).unwrap();
        prop_assert_eq!(&read, &ours(&value), "{}", text);
        prop_assert_eq!(read.canonical(), ours(&value).canonical());
        let theirs: Value = serde_json::from_slice(&read.canonical()).unwrap();
        prop_assert_eq!(theirs, value);
    }

    /// Values are equal exactly if their canonical bytes are, and equal ones hash alike.
    #[test]
    fn equality_is_that_of_canonical_bytes(left in value(), right in value()) {
        let (left, right) = (ours(&left), ours(&right));
        prop_assert_eq!(left == right, left.canonical() == right.canonical());
        let again = parsed(&left.canonical()).unwrap();
        prop_assert_eq!(crate::digest::Digest::of(&left), crate::digest::Digest::of(&again));
    }

    /// What we take, the other library takes too (but for what it does not look at), and never
    /// the reverse without a reason: only keys given twice and limits are refused beyond it.
    #[test]
    fn damaged_text_is_taken_only_if_it_is_json(
        value in value(), at in any::<prop::sample::Index>(), byte: u8, cut: bool,
    ) {
        let mut bytes = ours(&value).canonical();
        let at = at.index(bytes.len());
        match cut {
            true => bytes.truncate(at),
            false => bytes[at] = byte,
        }
        let theirs: Result<Value, _> = serde_json::from_slice(&bytes);
        match parsed(&bytes) {
            Ok(read) => prop_assert_eq!(ours(&theirs.unwrap()), read),
            Err(refusal) => {
                let twice = refusal.text.contains("duplicate key");
                prop_assert!(twice || theirs.is_err(), "{refusal}");
            }
        }
    }

    /// No bytes panic, whatever the limits; what is taken is within them.
    #[test]
    fn arbitrary_bytes_do_no_harm(
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        text in "[\\[\\]{}\",:0-9eE+.tfn\\\\ud-]{0,40}",
        depth in 1_u32..5, length in 1_u32..30, entries in 1_u32..4,
    ) {
        let limits = JsonLimits { depth, bytes: length, entries };
        for bytes in [bytes.as_slice(), text.as_bytes()] {
            if let Ok(value) = Json::parse("x", bytes, &limits) {
                prop_assert!(value.depth() <= depth);
                prop_assert!(value.length() <= length as usize);
            }
            let mut wire = u32::try_from(bytes.len()).unwrap().to_le_bytes().to_vec();
            wire.extend_from_slice(bytes);
            if let Ok(value) = Json::from_bytes(&wire) {
                prop_assert_eq!(value.to_bytes(), wire);
            }
            let _ = Json::from_bytes(bytes);
        }
    }

    /// A limit that a value just keeps takes it, and one less refuses it.
    #[test]
    fn limits_are_exact(value in value()) {
        let value = ours(&value);
        let bytes = value.canonical();
        let length = u32::try_from(value.length()).unwrap();
        let exact = JsonLimits { depth: value.depth(), bytes: length, entries: 100 };
        prop_assert_eq!(Json::parse("x", &bytes, &exact), Ok(value.clone()));
        let shorter = JsonLimits { bytes: length - 1, ..exact };
        let refusal = Json::parse("x", &bytes, &shorter).unwrap_err();
        prop_assert_eq!(refusal.text, format!("x: more than {} bytes", length - 1));
        if value.depth() > 0 {
            let flatter = JsonLimits { depth: value.depth() - 1, ..exact };
            let refusal = Json::parse("x", &bytes, &flatter).unwrap_err();
            let told = format!("x: depth {}, at most {}", value.depth(), value.depth() - 1);
            prop_assert_eq!(refusal.text, told);
        }
    }
}
