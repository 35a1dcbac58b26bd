//! JSON as the kernel keeps it: parsed strictly, immutable, shared, one spelling a value (K24).
//!
//! # The canonical form
//!
//! Two values are equal exactly if their canonical bytes are. Those are UTF-8 and
//!
//! - have no white space;
//! - have each object's keys once, in ascending order of their UTF-8 bytes;
//! - spell numbers as [`number`] says: integers that fit `i64` or `u64` by their digits, all others
//!   as RFC 8785 spells the nearest binary64;
//! - escape in text only what must be: `\"`, `\\`, `\b`, `\f`, `\n`, `\r`, `\t`, and any other
//!   character below U+0020 as `\u00` and two digits in lower case. All else stands for itself.
//!
//! That is RFC 8785 but for two things: keys are ordered by UTF-8 and not by UTF-16, and integers
//! above 2⁵³ keep all their digits.
//!
//! # Known limits
//!
//! A number that is neither an integer of 64 bits nor a binary64 is rounded to the nearest
//! binary64; what passes its range is refused. `\u0000` in the text of a payload is data and is
//! kept: only the kernel's own text fields are without NUL.

#[macro_use]
pub mod document;
pub mod number;
mod parse;
#[cfg(test)]
mod props;
#[cfg(test)]
pub(crate) mod strategies;
#[cfg(test)]
mod tests;
mod write;

use std::fmt;
use std::sync::Arc;

use self::number::Number;
pub use self::parse::{Fault, JsonLimits};
pub use self::write::Sink;
use super::refusal::Refusal;
use crate::codec::{Malformed, Reader, Wire, put_count};

/// How deep a value may be, however it was made: ten times what configuration has by default (K25),
/// and room for what the kernel wraps around payloads. It keeps every recursion over values short.
pub const DEPTH_MAX: u32 = 1_024;

/// A JSON value. A clone shares everything.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(Value);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Value {
    Null,
    Bool(bool),
    Number(Number),
    Text(Arc<str>),
    List(Arc<List>),
    Object(Arc<Object>),
}

/// What a container knows of itself. First in order, so that unequal containers differ soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Extent {
    /// Bytes of the canonical form.
    length: usize,
    /// Containers on the longest way down, this one included.
    depth: u32,
}

#[derive(PartialEq, Eq, Hash)]
struct List {
    extent: Extent,
    items: Box<[Json]>,
}

/// The entries of a JSON object, in order of their keys.
#[derive(PartialEq, Eq, Hash)]
pub struct Object {
    extent: Extent,
    entries: Box<[(Arc<str>, Json)]>,
}

/// What a value is, to match on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number.
    Number(Number),
    /// Text.
    Text(&'a Arc<str>),
    /// A list.
    List(&'a [Json]),
    /// An object.
    Object(&'a Object),
}

impl View<'_> {
    /// Returns the name that JSON Schema has for the type.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Number(_) => "number",
            Self::Text(_) => "string",
            Self::List(_) => "array",
            Self::Object(_) => "object",
        }
    }
}

impl Extent {
    /// Measures a container of `items` whose brackets, keys, colons and commas take `around` bytes.
    fn around<'a>(around: usize, items: impl Iterator<Item = &'a Json>) -> Self {
        let mut extent = Self { length: around, depth: 1 };
        for item in items {
            extent.length += item.length();
            extent.depth = extent.depth.max(item.depth() + 1);
        }
        assert!(extent.depth <= DEPTH_MAX, "a value is at most {DEPTH_MAX} deep");
        extent
    }
}

/// Brackets and the commas between `count` things.
const fn punctuation(count: usize) -> usize {
    if count == 0 { 2 } else { count + 1 }
}

impl Json {
    /// `null`
    pub const NULL: Self = Self(Value::Null);

    /// Parses `bytes`, which a stranger sent in `field`.
    ///
    /// # Errors
    ///
    /// `bad_json`, `too_deep`, `too_large` or `too_many`, told as K410 has it:
    /// `payload_json: line 1 column 17: unexpected end`.
    pub fn parse(field: &str, bytes: &[u8], limits: &JsonLimits) -> Result<Self, Refusal> {
        parse::parse(bytes, limits).map_err(|fault| fault.refusal(field))
    }

    /// Makes a list.
    ///
    /// # Panics
    ///
    /// If it is deeper than [`DEPTH_MAX`], which parsed values are not by far.
    #[must_use]
    pub fn list(items: Vec<Self>) -> Self {
        let extent = Extent::around(punctuation(items.len()), items.iter());
        Self(Value::List(Arc::new(List { extent, items: items.into() })))
    }

    /// Makes an object. Of entries with equal keys the last is taken.
    ///
    /// # Panics
    ///
    /// If it is deeper than [`DEPTH_MAX`], which parsed values are not by far.
    #[must_use]
    pub fn object<K: Into<Arc<str>>>(entries: impl IntoIterator<Item = (K, Self)>) -> Self {
        let entries = entries.into_iter().map(|(key, value)| (key.into(), value));
        let mut entries: Vec<(Arc<str>, Self)> = entries.collect();
        entries.sort_by(|left, right| left.0.cmp(&right.0));
        // The later of two equal keys is moved to where the earlier stays.
        entries.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                std::mem::swap(&mut later.1, &mut earlier.1);
            }
            same
        });
        Self::sorted(entries)
    }

    /// Makes an object of entries whose keys ascend.
    fn sorted(entries: Vec<(Arc<str>, Self)>) -> Self {
        let keys: usize = entries.iter().map(|(key, _)| write::text_length(key) + 1).sum();
        let around = punctuation(entries.len()) + keys;
        let extent = Extent::around(around, entries.iter().map(|(_, value)| value));
        Self(Value::Object(Arc::new(Object { extent, entries: entries.into() })))
    }

    /// Shows what it is.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        match &self.0 {
            Value::Null => View::Null,
            Value::Bool(value) => View::Bool(*value),
            Value::Number(number) => View::Number(*number),
            Value::Text(text) => View::Text(text),
            Value::List(list) => View::List(&list.items),
            Value::Object(object) => View::Object(object),
        }
    }

    /// Returns the name that JSON Schema has for its type: `expected an object, got array`.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        self.view().name()
    }

    /// Says whether it is `null`.
    #[must_use]
    pub const fn is_null(&self) -> bool {
        matches!(self.0, Value::Null)
    }

    /// Returns it as a truth value, if it is one.
    #[must_use]
    pub const fn as_bool(&self) -> Option<bool> {
        if let Value::Bool(value) = self.0 { Some(value) } else { None }
    }

    /// Returns it as a number, if it is one.
    #[must_use]
    pub const fn as_number(&self) -> Option<Number> {
        if let Value::Number(number) = self.0 { Some(number) } else { None }
    }

    /// Returns it as a signed integer, if it is one.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        self.as_number().and_then(Number::as_i64)
    }

    /// Returns it as an unsigned integer, if it is one.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        self.as_number().and_then(Number::as_u64)
    }

    /// Returns its text, if it is text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Value::Text(text) = &self.0 { Some(text) } else { None }
    }

    /// Returns its items, if it is a list.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Self]> {
        if let Value::List(list) = &self.0 { Some(&list.items) } else { None }
    }

    /// Returns its entries, if it is an object.
    #[must_use]
    pub fn as_object(&self) -> Option<&Object> {
        if let Value::Object(object) = &self.0 { Some(object) } else { None }
    }

    /// Returns the value of `key`, if it is an object that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.as_object()?.get(key)
    }

    /// Follows keys down through objects.
    #[must_use]
    pub fn at<S: AsRef<str>>(&self, path: &[S]) -> Option<&Self> {
        path.iter().try_fold(self, |value, key| value.get(key.as_ref()))
    }

    /// Returns how many bytes the canonical form has. Costs nothing for lists and objects.
    #[must_use]
    pub fn length(&self) -> usize {
        match &self.0 {
            Value::Null | Value::Bool(true) => 4,
            Value::Bool(false) => 5,
            Value::Number(number) => number.length(),
            Value::Text(text) => write::text_length(text),
            Value::List(list) => list.extent.length,
            Value::Object(object) => object.extent.length,
        }
    }

    /// Returns how many lists and objects are around the innermost value, this one included: 0 for
    /// `7`, 1 for `[]` and `[7]`. Costs nothing.
    #[must_use]
    pub fn depth(&self) -> u32 {
        match &self.0 {
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => 0,
            Value::List(list) => list.extent.depth,
            Value::Object(object) => object.extent.depth,
        }
    }

    /// Writes the canonical form to `sink`.
    pub fn write(&self, sink: &mut impl Sink) {
        write::value(self, sink);
    }

    /// Returns the canonical form in a buffer of its own.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.length());
        self.write(&mut bytes);
        bytes
    }

    /// Returns the BLAKE3 hash of the canonical form.
    #[must_use]
    pub fn blake3(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        self.write(&mut hasher);
        *hasher.finalize().as_bytes()
    }
}

impl Object {
    /// Returns the value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Json> {
        let place = self.entries.binary_search_by(|(other, _)| other.as_ref().cmp(key)).ok()?;
        Some(&self.entries[place].1)
    }

    /// Says whether there is such a key.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Goes through the entries, in order of their keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &Json)> {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    /// Returns how many entries there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Says whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns an object of these entries and, in place of those with the same keys, `others`.
    #[must_use]
    pub fn with(&self, others: &Self) -> Json {
        let all = self.entries.iter().chain(&others.entries);
        Json::object(all.cloned())
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self(Value::Bool(value))
    }
}

impl From<Number> for Json {
    fn from(number: Number) -> Self {
        Self(Value::Number(number))
    }
}

impl From<i64> for Json {
    fn from(integer: i64) -> Self {
        Self(Value::Number(integer.into()))
    }
}

impl From<u64> for Json {
    fn from(natural: u64) -> Self {
        Self(Value::Number(natural.into()))
    }
}

impl From<u32> for Json {
    fn from(natural: u32) -> Self {
        Self::from(u64::from(natural))
    }
}

impl From<Arc<str>> for Json {
    fn from(text: Arc<str>) -> Self {
        Self(Value::Text(text))
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self(Value::Text(text.into()))
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Self(Value::Text(text.into()))
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8(self.canonical()).expect("the canonical form is UTF-8");
        f.write_str(&text)
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// A count and the canonical form; nothing else decodes.
impl Wire for Json {
    fn encode(&self, out: &mut Vec<u8>) {
        put_count(out, self.length());
        self.write(out);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = reader.count(1)?;
        let here = reader.clone();
        let bytes = reader.take(count)?;
        parse::canonical(bytes).map_err(|_| here.malformed("canonical JSON"))
    }
}
