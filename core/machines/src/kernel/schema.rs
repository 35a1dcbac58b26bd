//! Schemas of outputs: the part of JSON Schema that the kernel checks (K280).
//!
//! | keyword | says |
//! |---|---|
//! | `type` | a type or a list of types; an `integer` is a whole number however it was written |
//! | `enum`, `const` | the value is one of these, is this: by [`equal`] |
//! | `minimum`, `maximum` | of numbers, both inclusive |
//! | `minLength`, `maxLength` | of text, in Unicode scalar values |
//! | `minItems`, `maxItems`, `items` | of lists |
//! | `required`, `properties` | of objects |
//! | `additionalProperties` | of objects: a schema for the others, or `false` |
//! | `anyOf` | one of these schemas holds |
//!
//! `title`, `description` and `default` are ignored, and any other keyword is refused when the
//! schema is compiled: a schema is never checked in part. As in JSON Schema, a keyword about one
//! type says nothing of values of another.
//!
//! What fails first is told, in the order of the table and within lists and objects in their order,
//! with its path as a JSON pointer: `/items/3/price: expected number, got string`.
//!
//! # Known limits
//!
//! A schema has at most [`NODES_MAX`] subschemas and values of `enum`, and one check takes at most
//! [`STEPS_MAX`] steps, so that no schema and output together can hold up the kernel; a check that
//! would take more fails.

mod compile;
#[cfg(test)]
mod props;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::sync::Arc;

use super::expression::equal;
use super::json::number::Number;
use super::json::{Json, Object, View};
pub use compile::NODES_MAX;

/// The most steps of one check: each is one value held against one subschema or value of `enum`.
pub const STEPS_MAX: u32 = 1 << 22;

/// How much of a key is told.
const TOLD_CHARS_MAX: usize = 64;
/// How much of a path is told.
const TOLD_STEPS_MAX: usize = 16;

/// A compiled schema.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Schema(Node);

/// A subschema.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Node {
    types: Vec<Type>,
    options: Option<Vec<Json>>,
    constant: Option<Json>,
    minimum: Option<Number>,
    maximum: Option<Number>,
    min_length: Option<u64>,
    max_length: Option<u64>,
    min_items: Option<u64>,
    max_items: Option<u64>,
    items: Option<Box<Node>>,
    required: Vec<Arc<str>>,
    /// In order of their keys.
    properties: Vec<(Arc<str>, Node)>,
    additional: Additional,
    any_of: Vec<Node>,
}

/// What other properties may be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
enum Additional {
    /// Anything.
    #[default]
    Any,
    /// There may be none.
    None,
    /// What the schema says.
    Of(Box<Node>),
}

/// A type of JSON Schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Type {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
}

impl Type {
    const ALL: [Self; 7] = [
        Self::Null,
        Self::Boolean,
        Self::Integer,
        Self::Number,
        Self::String,
        Self::Array,
        Self::Object,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::String => "string",
            Self::Array => "array",
            Self::Object => "object",
        }
    }

    fn has(self, value: &Json) -> bool {
        match (self, value.view()) {
            (Self::Integer, View::Number(number)) => number.is_whole(),
            (
                Self::Null
                | Self::Boolean
                | Self::Integer
                | Self::Number
                | Self::String
                | Self::Array
                | Self::Object,
                view,
            ) => view.name() == self.name(),
        }
    }
}

impl Schema {
    /// Checks `value`.
    ///
    /// # Errors
    ///
    /// What fails first, with its path: `/items/3/price: expected number, got string`.
    pub fn check(&self, value: &Json) -> Result<(), String> {
        let mut checking = Checking { path: Vec::new(), steps: 0 };
        match checking.node(&self.0, value) {
            Ok(()) => Ok(()),
            Err(Failed::Here(told)) => Err(format!("{}: {told}", checking.pointer())),
            Err(Failed::Costly) => Err("/: too much to check".to_owned()),
        }
    }
}

/// One way down into a value.
#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Key(&'a str),
    Item(usize),
}

/// Shows a key: the beginning of it, without what would not be text (K24).
fn shown(key: &str) -> String {
    let mut text = String::new();
    for character in key.chars().take(TOLD_CHARS_MAX) {
        match character.is_control() {
            true => text.extend(character.escape_default()),
            false => text.push(character),
        }
    }
    if key.chars().nth(TOLD_CHARS_MAX).is_some() {
        text.push('…');
    }
    text
}

/// Why a check ended.
enum Failed {
    /// The value at the path is wrong.
    Here(String),
    /// It takes too many steps.
    Costly,
}

/// A check under way. The recursion ends: neither schemas nor values are deep.
struct Checking<'a> {
    /// Where in the value; what failed is left there.
    path: Vec<Step<'a>>,
    steps: u32,
}

fn failed(told: impl Into<String>) -> Result<(), Failed> {
    Err(Failed::Here(told.into()))
}

impl<'a> Checking<'a> {
    /// Returns the path as a JSON pointer; the whole is `/`.
    fn pointer(&self) -> String {
        let mut text = String::new();
        for step in self.path.iter().take(TOLD_STEPS_MAX) {
            text.push('/');
            match step {
                Step::Key(key) => text.push_str(&shown(key).replace('~', "~0").replace('/', "~1")),
                Step::Item(at) => write!(text, "{at}").expect("text takes all"),
            }
        }
        if self.path.len() > TOLD_STEPS_MAX {
            text.push_str("/…");
        }
        if text.is_empty() { "/".to_owned() } else { text }
    }

    fn step(&mut self) -> Result<(), Failed> {
        self.spend(1)
    }

    fn spend(&mut self, steps: u32) -> Result<(), Failed> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > STEPS_MAX { Err(Failed::Costly) } else { Ok(()) }
    }

    /// Compares; what is long costs more.
    fn equal(&mut self, option: &Json, value: &Json) -> Result<bool, Failed> {
        let same_length = option.length() == value.length();
        let words = if same_length { value.length() / 64 } else { 0 };
        self.spend(u32::try_from(words).unwrap_or(u32::MAX).saturating_add(1))?;
        Ok(equal(option, value))
    }

    fn node(&mut self, node: &Node, value: &'a Json) -> Result<(), Failed> {
        self.step()?;
        if !node.types.is_empty() && !node.types.iter().any(|wanted| wanted.has(value)) {
            let names: Vec<&str> = node.types.iter().map(|wanted| wanted.name()).collect();
            let got = value.type_name();
            return failed(format!("expected {}, got {got}", names.join(" or ")));
        }
        self.values(node, value)?;
        match value.view() {
            View::Number(number) => numbers(node, number)?,
            View::Text(text) => texts(node, text)?,
            View::List(items) => self.list(node, items)?,
            View::Object(object) => self.object(node, object)?,
            View::Null | View::Bool(_) => {}
        }
        self.any_of(node, value)
    }

    fn values(&mut self, node: &Node, value: &Json) -> Result<(), Failed> {
        if let Some(options) = &node.options {
            let mut found = false;
            for option in options {
                found = found || self.equal(option, value)?;
            }
            if !found {
                return failed("not one of enum");
            }
        }
        match &node.constant {
            Some(constant) if !self.equal(constant, value)? => failed("not the value of const"),
            Some(_) | None => Ok(()),
        }
    }

    fn list(&mut self, node: &Node, items: &'a [Json]) -> Result<(), Failed> {
        count(items.len(), node.min_items, node.max_items, "items")?;
        let Some(schema) = &node.items else {
            return Ok(());
        };
        for (at, item) in items.iter().enumerate() {
            self.path.push(Step::Item(at));
            self.node(schema, item)?;
            self.path.pop();
        }
        Ok(())
    }

    fn object(&mut self, node: &Node, object: &'a Object) -> Result<(), Failed> {
        for key in &node.required {
            self.step()?;
            if !object.contains(key) {
                let key: String = key.chars().take(TOLD_CHARS_MAX).collect();
                return failed(format!("{key:?} is required"));
            }
        }
        for (key, value) in object.iter() {
            self.path.push(Step::Key(key));
            match (property(node, key), &node.additional) {
                (Some(schema), _) => self.node(schema, value)?,
                (None, Additional::Of(schema)) => self.node(schema, value)?,
                (None, Additional::None) => return failed("unexpected property"),
                (None, Additional::Any) => self.step()?,
            }
            self.path.pop();
        }
        Ok(())
    }

    fn any_of(&mut self, node: &Node, value: &'a Json) -> Result<(), Failed> {
        let depth = self.path.len();
        for option in &node.any_of {
            match self.node(option, value) {
                Ok(()) => return Ok(()),
                Err(Failed::Here(_)) => self.path.truncate(depth),
                Err(Failed::Costly) => return Err(Failed::Costly),
            }
        }
        match node.any_of.is_empty() {
            true => Ok(()),
            false => failed("matches none of anyOf"),
        }
    }
}

/// Returns the schema of a property.
fn property<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    let place = node.properties.binary_search_by(|(other, _)| other.as_ref().cmp(key)).ok()?;
    Some(&node.properties[place].1)
}

fn numbers(node: &Node, number: Number) -> Result<(), Failed> {
    match (node.minimum, node.maximum) {
        (Some(minimum), _) if number.compare(minimum) == Ordering::Less => {
            failed(format!("{number} is less than {minimum}"))
        }
        (_, Some(maximum)) if number.compare(maximum) == Ordering::Greater => {
            failed(format!("{number} is more than {maximum}"))
        }
        (Some(_) | None, Some(_) | None) => Ok(()),
    }
}

fn texts(node: &Node, text: &str) -> Result<(), Failed> {
    if node.min_length.is_none() && node.max_length.is_none() {
        return Ok(());
    }
    count(text.chars().count(), node.min_length, node.max_length, "characters")
}

fn count(count: usize, min: Option<u64>, max: Option<u64>, of: &str) -> Result<(), Failed> {
    let count = count as u64;
    match (min, max) {
        (Some(min), _) if count < min => failed(format!("{count} {of}, at least {min}")),
        (_, Some(max)) if count > max => failed(format!("{count} {of}, at most {max}")),
        (Some(_) | None, Some(_) | None) => Ok(()),
    }
}
