//! Configuration read from JSON and written to it: unknown fields and wrong types are told by their
//! paths, all together (K24, K232).
//!
//! What is absent takes its default, and so does `null`, where `null` is not a value of the field.
//! What is written has every field, defaults included, but not what is absent: so documents that
//! mean the same are written as the same bytes.

use std::fmt;
use std::sync::Arc;

use super::{Json, Object};
use crate::codec::{Malformed, Reader, Wire};
use crate::kernel::refusal::{Code, Refusal, Violation};

/// How much of a wrong value is told.
const TOLD_CHARS_MAX: usize = 64;

/// Where in a document: `stages[2].retry.jitter_pct`.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// The whole; named, or empty.
    Root(&'a str),
    /// A field of an object.
    Field(&'a Place<'a>, &'a str),
    /// An item of a list.
    Item(&'a Place<'a>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(name) | Self::Field(Self::Root(""), name) => f.write_str(name),
            Self::Field(around, name) => write!(f, "{around}.{name}"),
            Self::Item(around, at) => write!(f, "{around}[{at}]"),
        }
    }
}

/// What is wrong with a document, in the order in which it was found.
#[derive(Clone, Debug, Default)]
pub struct Problems {
    found: Vec<(Code, Violation)>,
    /// How many readers are within each other, of those that can be: see [`Problems::descend`].
    depth: u32,
}

impl Problems {
    /// Makes a list with nothing in it.
    #[must_use]
    pub const fn new() -> Self {
        Self { found: Vec::new(), depth: 0 }
    }

    /// Says whether nothing is wrong.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Runs a reader that may come to run itself, unless that would make it more than `most` within
    /// each other: what a stranger nests must not fill the stack.
    pub(crate) fn descend<T>(
        &mut self,
        most: u32,
        place: &Place<'_>,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<T> {
        if self.depth >= most {
            self.tell(Code::BadExpression, place, format!("depth {}, at most {most}", most + 1));
            return None;
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    /// Adds what is wrong with `field`; `text` stands alone.
    pub fn add(&mut self, code: Code, field: impl fmt::Display, text: impl Into<String>) {
        self.found.push((code, Violation { field: field.to_string(), text: text.into() }));
    }

    /// Adds `field: text`, or `text` alone if it is about the whole.
    pub fn tell(&mut self, code: Code, field: impl fmt::Display, text: impl fmt::Display) {
        let field = field.to_string();
        let text = if field.is_empty() { text.to_string() } else { format!("{field}: {text}") };
        self.add(code, field, text);
    }

    /// Says whether all that is wrong has this code.
    #[must_use]
    pub fn are_all(&self, code: Code) -> bool {
        self.found.iter().all(|(other, _)| *other == code)
    }

    /// Gives all that has one of these codes another.
    pub fn recode(&mut self, codes: &[Code], other: Code) {
        for (code, _) in self.found.iter_mut().filter(|(code, _)| codes.contains(code)) {
            *code = other;
        }
    }

    /// Ends in a refusal if something is wrong: with the code that all problems have, or with
    /// `mixed`.
    ///
    /// # Errors
    ///
    /// All that was added.
    pub fn refuse(self, mixed: Code) -> Result<(), Refusal> {
        let Some((first, _)) = self.found.first() else {
            return Ok(());
        };
        let code = if self.are_all(*first) { *first } else { mixed };
        let fields = self.found.into_iter().map(|(_, violation)| violation).collect();
        Err(Refusal::of_fields(code, fields))
    }
}

impl Problems {
    /// Ends a reading: in what was read, if nothing is wrong, and else as [`Problems::refuse`].
    pub(crate) fn end<T>(self, read: Option<T>, mixed: Code) -> Result<T, Refusal> {
        self.refuse(mixed)?;
        Ok(read.expect("something was read if nothing is wrong"))
    }
}

/// A value that is read from JSON configuration and written to it.
pub trait Document: Sized {
    /// Reads `json`, which stands at `place`. `None` only after a problem was added.
    fn read(json: &Json, place: &Place<'_>, problems: &mut Problems) -> Option<Self>;

    /// Writes it.
    fn written(&self) -> Json;
}

/// The fields of an object, while they are read.
#[derive(Debug)]
pub struct Fields<'a> {
    /// Where the object stands.
    pub place: &'a Place<'a>,
    /// What is wrong so far.
    pub problems: &'a mut Problems,
    object: &'a Object,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// Begins to read an object.
    pub fn open(json: &'a Json, place: &'a Place<'a>, problems: &'a mut Problems) -> Option<Self> {
        match json.as_object() {
            Some(object) => Some(Self { place, problems, object, known: Vec::new() }),
            None => {
                wrong_type("object", json, place, problems);
                None
            }
        }
    }

    /// Returns what stands in a field, `null` included.
    pub fn raw(&mut self, name: &'static str) -> Option<&'a Json> {
        self.known.push(name);
        self.object.get(name)
    }

    /// Says that a field is missing.
    pub fn missing(&mut self, name: &str, code: Code) {
        let field = Place::Field(self.place, name).to_string();
        let text = format!("{field} is required");
        self.problems.add(code, field, text);
    }

    /// Reads a field that may be absent.
    pub fn optional<T: Document>(&mut self, name: &'static str) -> Option<T> {
        let json = self.raw(name).filter(|json| !json.is_null())?;
        T::read(json, &Place::Field(self.place, name), self.problems)
    }

    /// Reads a field that must be there. `None` only after a problem was added.
    pub fn required<T: Document>(&mut self, name: &'static str) -> Option<T> {
        match self.raw(name).filter(|json| !json.is_null()) {
            Some(json) => T::read(json, &Place::Field(self.place, name), self.problems),
            None => {
                self.missing(name, Code::Required);
                None
            }
        }
    }

    /// Reads an object of anything, empty if absent.
    pub fn object(&mut self, name: &'static str) -> Json {
        let empty = || Json::sorted(Vec::new());
        let Some(json) = self.raw(name).filter(|json| !json.is_null()) else {
            return empty();
        };
        match json.as_object() {
            Some(_) => json.clone(),
            None => {
                let place = Place::Field(self.place, name);
                wrong_type("object", json, &place, self.problems);
                empty()
            }
        }
    }

    /// Ends the reading: every other field is unknown.
    pub fn done(self) {
        for (name, _) in self.object.iter().filter(|(name, _)| !self.known.contains(&&***name)) {
            let name: String = name.chars().take(TOLD_CHARS_MAX).collect();
            let field = Place::Field(self.place, &name);
            self.problems.tell(Code::BadValue, field, "unknown field");
        }
    }
}

/// Says that something has the wrong type.
pub fn wrong_type(expected: &str, json: &Json, place: &Place<'_>, problems: &mut Problems) {
    let text = format!("expected {expected}, got {}", json.type_name());
    problems.tell(Code::BadValue, place, text);
}

impl Document for bool {
    fn read(json: &Json, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        let value = json.as_bool();
        if value.is_none() {
            wrong_type("boolean", json, place, problems);
        }
        value
    }

    fn written(&self) -> Json {
        Json::from(*self)
    }
}

/// Reads a whole number up to `most`.
fn natural(json: &Json, most: u64, place: &Place<'_>, problems: &mut Problems) -> Option<u64> {
    match (json.as_number(), json.as_u64()) {
        (_, Some(value)) if value <= most => return Some(value),
        (Some(number), _) => {
            let text = format!("{number} is not a whole number from 0 to {most}");
            problems.tell(Code::BadValue, place, text);
        }
        (None, _) => wrong_type("number", json, place, problems),
    }
    None
}

impl Document for u32 {
    fn read(json: &Json, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        let value = natural(json, u64::from(Self::MAX), place, problems)?;
        Self::try_from(value).ok()
    }

    fn written(&self) -> Json {
        Json::from(*self)
    }
}

/// Up to 2⁶³ − 1, as all counts of the kernel (K9).
impl Document for u64 {
    fn read(json: &Json, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        natural(json, Self::MAX >> 1, place, problems)
    }

    fn written(&self) -> Json {
        Json::from(*self)
    }
}

/// Text of the kernel's own is without NUL (K24).
impl Document for Arc<str> {
    fn read(json: &Json, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        let Some(text) = json.as_str() else {
            wrong_type("string", json, place, problems);
            return None;
        };
        if let Some(at) = text.bytes().position(|byte| byte == 0) {
            problems.tell(Code::BadValue, place, format!("NUL at byte {at}"));
            return None;
        }
        Some(Self::from(text))
    }

    fn written(&self) -> Json {
        Json::from(Self::clone(self))
    }
}

/// Any value, `null` aside.
impl Document for Json {
    fn read(json: &Json, _: &Place<'_>, _: &mut Problems) -> Option<Self> {
        Some(json.clone())
    }

    fn written(&self) -> Json {
        self.clone()
    }
}

impl<T: Document> Document for Box<T> {
    fn read(json: &Json, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        T::read(json, place, problems).map(Self::new)
    }

    fn written(&self) -> Json {
        self.as_ref().written()
    }
}

impl<T: Document> Document for Vec<T> {
    fn read(json: &Json, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        let Some(items) = json.as_list() else {
            wrong_type("array", json, place, problems);
            return None;
        };
        // All are read, so that all that is wrong is told.
        let items = items.iter().enumerate();
        let read = items.map(|(at, item)| T::read(item, &Place::Item(place, at), problems));
        let read: Vec<Option<T>> = read.collect();
        read.into_iter().collect()
    }

    fn written(&self) -> Json {
        Json::list(self.iter().map(Document::written).collect())
    }
}

/// Reads and writes a whole document, named `root` in what is told.
///
/// # Errors
///
/// All that is wrong with it.
pub fn read<T: Document>(json: &Json, root: &str) -> Result<T, Refusal> {
    let mut problems = Problems::new();
    let value = T::read(json, &Place::Root(root), &mut problems);
    problems.end(value, Code::BadValue)
}

/// Decodes a document that stands in the binary form as its canonical JSON.
///
/// # Errors
///
/// [`Malformed`] if the bytes are not just what the document would be written as.
pub fn decode<T: Document>(
    reader: &mut Reader<'_>,
    expected: &'static str,
) -> Result<T, Malformed> {
    decode_with_json(reader, expected).map(|(value, _)| value)
}

/// As [`decode`], with the JSON that the document is written as: who needs it saves a writing.
///
/// # Errors
///
/// As [`decode`].
pub fn decode_with_json<T: Document>(
    reader: &mut Reader<'_>,
    expected: &'static str,
) -> Result<(T, Json), Malformed> {
    let here = reader.clone();
    let json = Json::decode(reader)?;
    let mut problems = Problems::new();
    let value = T::read(&json, &Place::Root(""), &mut problems);
    match value {
        Some(value) if problems.is_empty() && value.written() == json => Ok((value, json)),
        Some(_) | None => Err(here.malformed(expected)),
    }
}

/// Reads a field of a [`document!`] in its mode.
macro_rules! read_field {
    ($fields:ident, $name:expr, required) => {
        $fields.required($name)
    };
    ($fields:ident, $name:expr, optional) => {
        Some($fields.optional($name))
    };
    ($fields:ident, $name:expr, object) => {
        Some($fields.object($name))
    };
    ($fields:ident, $name:expr, or($default:expr)) => {
        Some(match $fields.optional($name) {
            Some(value) => value,
            None => $default,
        })
    };
}

/// Writes a field of a [`document!`] in its mode.
macro_rules! write_field {
    ($entries:ident, $name:expr, $value:expr, optional) => {
        if let Some(value) = $value {
            $entries.push(($name, $crate::kernel::json::document::Document::written(value)));
        }
    };
    ($entries:ident, $name:expr, $value:expr, $mode:ident $(($default:expr))?) => {
        $entries.push(($name, $crate::kernel::json::document::Document::written($value)));
    };
}

/// Defines a struct and how it stands in JSON. Each field has a mode: `required`, `optional`,
/// `object` (of anything) or `or(default)`.
macro_rules! document {
    ($(
        $(#[$meta:meta])*
        pub struct $type:ident {
            $($(#[$field_meta:meta])*
            pub $field:ident: $field_type:ty => $mode:ident $(($default:expr))?,)*
        }
    )*) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Debug, PartialEq, Eq, Hash)]
            pub struct $type {
                $($(#[$field_meta])* pub $field: $field_type,)*
            }

            impl $crate::kernel::json::document::Document for $type {
                fn read(
                    json: &$crate::kernel::json::Json,
                    place: &$crate::kernel::json::document::Place<'_>,
                    problems: &mut $crate::kernel::json::document::Problems,
                ) -> Option<Self> {
                    use $crate::kernel::json::document::Fields;
                    let mut fields = Fields::open(json, place, problems)?;
                    $(let $field: Option<$field_type> =
                        read_field!(fields, stringify!($field), $mode $(($default))?);)*
                    fields.done();
                    Some(Self { $($field: $field?,)* })
                }

                fn written(&self) -> $crate::kernel::json::Json {
                    let mut entries: Vec<(&str, $crate::kernel::json::Json)> =
                        Vec::with_capacity([$(stringify!($field)),*].len());
                    $(write_field!(entries, stringify!($field), &self.$field,
                        $mode $(($default))?);)*
                    $crate::kernel::json::Json::object(entries)
                }
            }
        )*
    };
}

/// Defines enums with the names and wire numbers of 2.2.
macro_rules! kinds {
    ($(
        $(#[$meta:meta])*
        pub enum $type:ident $what:literal {
            $($(#[$variant_meta:meta])* $variant:ident = $number:literal,)*
        }
    )*) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
            pub enum $type {
                $($(#[$variant_meta])* $variant = $number,)*
            }

            impl $type {
                /// All, in order.
                pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

                /// Returns the number on the wire.
                #[must_use]
                pub const fn number(self) -> u8 {
                    self as u8
                }

                /// Returns the name in configuration.
                #[must_use]
                pub const fn name(self) -> &'static str {
                    match self {
                        $(Self::$variant => stringify!($variant),)*
                    }
                }
            }

            impl std::fmt::Display for $type {
                fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str(self.name())
                }
            }

            impl TryFrom<u32> for $type {
                type Error = $crate::kernel::refusal::Refusal;

                fn try_from(number: u32) -> Result<Self, $crate::kernel::refusal::Refusal> {
                    use $crate::kernel::refusal::{Code, Refusal};
                    match number {
                        $($number => Ok(Self::$variant),)*
                        _ => {
                            let text = format!("{}: {number} is unknown", $what);
                            Err(Refusal::of_field(Code::BadValue, $what, text))
                        }
                    }
                }
            }

            impl $crate::codec::Wire for $type {
                fn encode(&self, out: &mut Vec<u8>) {
                    out.push(self.number());
                }

                fn decode(
                    reader: &mut $crate::codec::Reader<'_>,
                ) -> Result<Self, $crate::codec::Malformed> {
                    let here = reader.clone();
                    let number = u32::from(reader.u8()?);
                    Self::try_from(number).map_err(|_| here.malformed($what))
                }
            }

            impl $crate::kernel::json::document::Document for $type {
                fn read(
                    json: &$crate::kernel::json::Json,
                    place: &$crate::kernel::json::document::Place<'_>,
                    problems: &mut $crate::kernel::json::document::Problems,
                ) -> Option<Self> {
                    let names = Self::ALL.iter().map(|kind| kind.name());
                    let found = $crate::kernel::json::document::one_of(
                        json, names, place, problems,
                    )?;
                    Self::ALL.get(found).copied()
                }

                fn written(&self) -> $crate::kernel::json::Json {
                    $crate::kernel::json::Json::from(self.name())
                }
            }
        )*
    };
}

/// Finds text among `names`, and returns its place there.
pub fn one_of(
    json: &Json,
    names: impl Iterator<Item = &'static str>,
    place: &Place<'_>,
    problems: &mut Problems,
) -> Option<usize> {
    let Some(text) = json.as_str() else {
        wrong_type("string", json, place, problems);
        return None;
    };
    let names: Vec<&str> = names.collect();
    let found = names.iter().position(|name| *name == text);
    if found.is_none() {
        let told: String = text.chars().take(TOLD_CHARS_MAX).collect();
        let text = format!("{told:?} is not one of {}", names.join(", "));
        problems.tell(Code::BadValue, place, text);
    }
    found
}
