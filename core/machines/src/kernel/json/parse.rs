//! The parser of JSON: strict, without recursion, and within limits at every step (K24, K25).
//!
//! One pass over the bytes. Open lists and objects stand on a stack of their own, never on the
//! thread's, and each limit is checked before what would pass it is built: so what is allocated is
//! bounded by the limits, and by the bytes that were sent.

use std::fmt;
use std::sync::Arc;

use super::number::Number;
use super::{DEPTH_MAX, Json, Value, punctuation, write};
use crate::kernel::refusal::{Code, Refusal};

/// How much of a key or character is told in a fault.
const TOLD_CHARS_MAX: usize = 64;

/// What a payload may be, at most (K25).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JsonLimits {
    /// Lists and objects within each other: `[[7]]` is 2 deep.
    pub depth: u32,
    /// Bytes of the canonical form.
    pub bytes: u32,
    /// Entries of one list or object.
    pub entries: u32,
}

impl JsonLimits {
    /// The limits of K25 by default.
    pub const DEFAULT: Self = Self { depth: 64, bytes: 1 << 20, entries: 1_024 };
    /// The most that configuration can ask for: ten times the defaults.
    pub const CEILING: Self = Self { depth: 640, bytes: 10 << 20, entries: 10_240 };
}

/// Why bytes are not a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They are not JSON, or have a key twice.
    Syntax {
        /// The line, from 1.
        line: usize,
        /// The character of the line, from 1.
        column: usize,
        /// What is wrong there.
        what: String,
    },
    /// It is nested deeper than this.
    Depth(u32),
    /// Its canonical form has more bytes than this.
    Bytes(u32),
    /// A list or object has more entries than this.
    Entries(u32),
}

impl Fault {
    /// Makes the refusal of what was sent in `field`.
    #[must_use]
    pub fn refusal(&self, field: &str) -> Refusal {
        let code = match self {
            Self::Syntax { .. } => Code::BadJson,
            Self::Depth(_) => Code::TooDeep,
            Self::Bytes(_) => Code::TooLarge,
            Self::Entries(_) => Code::TooMany,
        };
        Refusal::of_field(code, field, format!("{field}: {self}"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { line, column, what } => {
                write!(f, "line {line} column {column}: {what}")
            }
            Self::Depth(most) => write!(f, "depth {}, at most {most}", most + 1),
            Self::Bytes(most) => write!(f, "more than {most} bytes"),
            Self::Entries(most) => write!(f, "more than {most} entries"),
        }
    }
}

impl std::error::Error for Fault {}

/// Parses one value with nothing but white space around it.
pub(super) fn parse(bytes: &[u8], limits: &JsonLimits) -> Result<Json, Fault> {
    let text = str::from_utf8(bytes).map_err(|error| {
        let sound = str::from_utf8(&bytes[..error.valid_up_to()]).expect("it is valid up to there");
        syntax(sound, sound.len(), "invalid UTF-8".to_owned())
    })?;
    let limits = Bounds {
        depth: limits.depth.min(DEPTH_MAX),
        bytes: limits.bytes as usize,
        entries: limits.entries as usize,
    };
    Parser { text, at: 0, length: 0, limits, canonical: false }.whole()
}

/// Takes a value in its canonical form and in no other.
pub(super) fn canonical(bytes: &[u8]) -> Result<Json, Fault> {
    let text = str::from_utf8(bytes).map_err(|_| Fault::Bytes(0))?;
    let limits = Bounds { depth: DEPTH_MAX, bytes: usize::MAX, entries: usize::MAX };
    Parser { text, at: 0, length: 0, limits, canonical: true }.whole()
}

/// [`JsonLimits`] in the types of lengths.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    depth: u32,
    bytes: usize,
    entries: usize,
}

/// A list or object that has begun and not ended.
enum Open {
    List(Vec<Json>),
    Object(Vec<Entry>, Key),
}

/// A key, and where it began.
type Key = (Arc<str>, usize);

struct Entry {
    key: Key,
    value: Json,
}

impl Entry {
    fn text(&self) -> &str {
        &self.key.0
    }
}

struct Parser<'a> {
    text: &'a str,
    /// The next byte to read.
    at: usize,
    /// Bytes of the canonical form of what was read so far.
    length: usize,
    limits: Bounds,
    /// Whether nothing but the canonical form is taken.
    canonical: bool,
}

/// Makes the fault at byte `at` of `text`.
fn syntax(text: &str, at: usize, what: String) -> Fault {
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    Fault::Syntax { line, column: before[start..].chars().count() + 1, what }
}

impl Parser<'_> {
    fn whole(mut self) -> Result<Json, Fault> {
        let mut open: Vec<Open> = Vec::new();
        loop {
            self.blank();
            let mut value = match self.peek() {
                Some(b'[') => match self.open_list(&open)? {
                    Some(list) => {
                        open.push(list);
                        continue;
                    }
                    None => Json::list(Vec::new()),
                },
                Some(b'{') => match self.open_object(&open)? {
                    Some(object) => {
                        open.push(object);
                        continue;
                    }
                    None => Json::sorted(Vec::new()),
                },
                Some(_) | None => self.scalar()?,
            };
            // A value has ended, and so may what is around it.
            while let Some(around) = open.pop() {
                match self.attach(around, value)? {
                    Attached::Open(around) => {
                        open.push(around);
                        value = Json::NULL;
                        break;
                    }
                    Attached::Closed(closed) => value = closed,
                }
            }
            if open.is_empty() {
                return self.end(value);
            }
        }
    }

    /// Nothing may follow the value.
    fn end(mut self, value: Json) -> Result<Json, Fault> {
        self.blank();
        match self.at == self.text.len() {
            true => Ok(value),
            false => Err(self.fault("text after the value")),
        }
    }

    fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    fn peek(&self) -> Option<u8> {
        self.bytes().get(self.at).copied()
    }

    /// Skips white space, of which the canonical form has none.
    fn blank(&mut self) {
        while !self.canonical && matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn fault(&self, what: impl Into<String>) -> Fault {
        syntax(self.text, self.at, what.into())
    }

    fn fault_at(&mut self, at: usize, what: impl Into<String>) -> Fault {
        self.at = at;
        self.fault(what)
    }

    /// What stands here cannot.
    fn unexpected(&self) -> Fault {
        match self.text[self.at..].chars().next() {
            Some(character) => self.fault(format!("unexpected {character:?}")),
            None => self.fault("unexpected end"),
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Fault> {
        match self.peek() {
            Some(next) if next == byte => {
                self.at += 1;
                Ok(())
            }
            Some(_) | None => Err(self.unexpected()),
        }
    }

    /// Counts bytes of the canonical form.
    fn count(&mut self, bytes: usize) -> Result<(), Fault> {
        self.length = self.length.saturating_add(bytes);
        match self.length <= self.limits.bytes {
            true => Ok(()),
            false => Err(Fault::Bytes(u32::try_from(self.limits.bytes).unwrap_or(u32::MAX))),
        }
    }

    /// Takes an opening bracket. One more may not be too deep.
    fn open(&mut self, open: &[Open]) -> Result<(), Fault> {
        if open.len() >= self.limits.depth as usize {
            return Err(Fault::Depth(self.limits.depth));
        }
        self.at += 1;
        self.count(punctuation(0))?;
        self.blank();
        Ok(())
    }

    /// Begins a list; `None` if it is empty and has ended already.
    fn open_list(&mut self, open: &[Open]) -> Result<Option<Open>, Fault> {
        self.open(open)?;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(None);
        }
        Ok(Some(Open::List(Vec::new())))
    }

    /// Begins an object and its first entry; `None` if it is empty and has ended already.
    fn open_object(&mut self, open: &[Open]) -> Result<Option<Open>, Fault> {
        self.open(open)?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(None);
        }
        let key = self.key()?;
        Ok(Some(Open::Object(Vec::new(), key)))
    }

    /// Takes a key and the colon after it.
    fn key(&mut self) -> Result<Key, Fault> {
        let start = self.at;
        if self.peek() != Some(b'"') {
            return Err(self.unexpected());
        }
        let text = self.string()?;
        self.blank();
        self.expect(b':')?;
        self.count(1)?;
        Ok((text, start))
    }

    /// Puts a value into the list or object around it, and reads on to the next value or the end.
    fn attach(&mut self, around: Open, value: Json) -> Result<Attached, Fault> {
        self.blank();
        match around {
            Open::List(mut items) => {
                items.push(value);
                match self.peek() {
                    Some(b',') => self.comma(items.len())?,
                    Some(b']') => {
                        self.at += 1;
                        return Ok(Attached::Closed(Json::list(items)));
                    }
                    Some(_) | None => return Err(self.unexpected()),
                }
                Ok(Attached::Open(Open::List(items)))
            }
            Open::Object(mut entries, key) => {
                entries.push(Entry { key, value });
                match self.peek() {
                    Some(b',') => self.comma(entries.len())?,
                    Some(b'}') => {
                        self.at += 1;
                        return self.close_object(entries).map(Attached::Closed);
                    }
                    Some(_) | None => return Err(self.unexpected()),
                }
                self.blank();
                let key = self.key()?;
                Ok(Attached::Open(Open::Object(entries, key)))
            }
        }
    }

    /// Takes the comma after so many entries. One more may not be too many.
    fn comma(&mut self, entries: usize) -> Result<(), Fault> {
        if entries >= self.limits.entries {
            let most = u32::try_from(self.limits.entries).unwrap_or(u32::MAX);
            return Err(Fault::Entries(most));
        }
        self.at += 1;
        self.count(1)
    }

    fn close_object(&mut self, mut entries: Vec<Entry>) -> Result<Json, Fault> {
        let ascends = entries.is_sorted_by(|left, right| left.text() < right.text());
        if !ascends && self.canonical {
            return Err(self.fault("keys out of order"));
        }
        if !ascends {
            // By key and then by place, so that the second of two comes second.
            entries.sort_by(|left, right| left.key.cmp(&right.key));
            let pairs = entries.windows(2).filter(|pair| pair[0].text() == pair[1].text());
            if let Some(twice) = pairs.map(|pair| &pair[1].key).min_by_key(|key| key.1) {
                let told: String = twice.0.chars().take(TOLD_CHARS_MAX).collect();
                let at = twice.1;
                return Err(self.fault_at(at, format!("duplicate key {told:?}")));
            }
        }
        let entries = entries.into_iter().map(|entry| (entry.key.0, entry.value));
        Ok(Json::sorted(entries.collect()))
    }

    /// Takes a value that is neither list nor object.
    fn scalar(&mut self) -> Result<Json, Fault> {
        match self.peek() {
            Some(b'"') => Ok(Json::from(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Json::from(true)),
            Some(b'f') => self.word("false", Json::from(false)),
            Some(b'n') => self.word("null", Json::NULL),
            Some(_) | None => Err(self.unexpected()),
        }
    }

    fn word(&mut self, word: &str, value: Json) -> Result<Json, Fault> {
        for byte in word.bytes() {
            self.expect(byte)?;
        }
        self.count(word.len())?;
        Ok(value)
    }

    /// Takes digits, of which there must be one.
    fn digits(&mut self) -> Result<(), Fault> {
        if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return Err(self.unexpected());
        }
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Json, Fault> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(_) | None => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let literal = &self.text[start..self.at];
        let Some(number) = Number::of_literal(literal) else {
            return Err(self.fault_at(start, "a number out of range"));
        };
        if self.canonical && number.to_string() != literal {
            return Err(self.fault_at(start, "another spelling of a number"));
        }
        self.count(number.length())?;
        Ok(Json(Value::Number(number)))
    }

    /// Takes text in quotes.
    fn string(&mut self) -> Result<Arc<str>, Fault> {
        let quote = self.at;
        self.at += 1;
        let start = self.at;
        self.plain();
        if self.peek() == Some(b'"') {
            self.at += 1;
            self.count(self.at - quote)?;
            return Ok(Arc::from(&self.text[start..self.at - 1]));
        }
        let mut text = self.text[start..self.at].to_owned();
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => text.push(self.escape()?),
                Some(0x00..=0x1f) => return Err(self.fault("a control character in text")),
                Some(_) => {
                    let start = self.at;
                    self.plain();
                    text.push_str(&self.text[start..self.at]);
                }
                None => return Err(self.unexpected()),
            }
        }
        self.at += 1;
        let length = write::text_length(&text);
        self.count(length)?;
        let text: Arc<str> = text.into();
        if self.canonical {
            let mut spelled = Vec::with_capacity(length);
            write::text(&text, &mut spelled);
            if spelled != self.bytes()[quote..self.at] {
                return Err(self.fault_at(quote, "another spelling of text"));
            }
        }
        Ok(text)
    }

    /// Skips what stands for itself in text.
    fn plain(&mut self) {
        while !matches!(self.peek(), Some(b'"' | b'\\' | 0x00..=0x1f) | None) {
            self.at += 1;
        }
    }

    /// Takes an escape.
    fn escape(&mut self) -> Result<char, Fault> {
        let start = self.at;
        self.at += 1;
        let plain = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode(start);
            }
            Some(_) => return Err(self.fault_at(start, "an unknown escape")),
            None => return Err(self.unexpected()),
        };
        self.at += 1;
        Ok(plain)
    }

    /// Takes what follows `\u`, and the second half of a pair.
    fn unicode(&mut self, start: usize) -> Result<char, Fault> {
        let first = self.hexadecimal()?;
        let point = match first {
            0xd800..=0xdbff if self.bytes()[self.at..].starts_with(b"\\u") => {
                self.at += 2;
                match self.hexadecimal()? {
                    second @ 0xdc00..=0xdfff => {
                        0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                    }
                    _ => return Err(self.fault_at(start, "a lone surrogate")),
                }
            }
            other => other,
        };
        match char::from_u32(point) {
            Some(character) => Ok(character),
            None => Err(self.fault_at(start, "a lone surrogate")),
        }
    }

    /// Takes four hexadecimal digits.
    fn hexadecimal(&mut self) -> Result<u32, Fault> {
        let mut value = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            let Some(digit) = digit else {
                return Err(self.unexpected());
            };
            value = value * 16 + digit;
            self.at += 1;
        }
        Ok(value)
    }
}

/// What became of the list or object around a value.
enum Attached {
    /// Another value follows in it.
    Open(Open),
    /// It has ended.
    Closed(Json),
}
