//! Routing expressions: what they are, and the one evaluator of them (K260, K263, K264).
//!
//! | operator | is true when the field is there, is not null, and |
//! |---|---|
//! | `Eq` | has the type and value of `value`: numbers by value, all else by canonical bytes |
//! | `Neq` | is not `Eq`; another type is not equal |
//! | `Gt` `Lt` `Gte` `Lte` | is so ordered: two numbers by value, or two texts by their bytes |
//! | `Contains` of text | has the text `value` in it |
//! | `Contains` of a list | has an element that is `Eq` to `value` |
//! | `Contains` of an object | has the key `value` |
//! | `Exists` | always |
//!
//! `NotExists` is true when the field is missing or null. `And`, `Or` and `Not` are as everywhere,
//! from left to right, and `Always` is true.
//!
//! # Numbers
//!
//! Two integers of 64 bits are compared exactly; any other two numbers as binary64 (K264). `1` and
//! `1.0` are one number here, since both are the integer 1 already when they are read
//! ([`number`](super::json::number)). Inside lists and objects numbers are equal if their canonical
//! bytes are.

mod form;
mod path;
#[cfg(test)]
mod props;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;

use super::json::{Json, View};
use super::pipeline::names::OutputKey;
pub use path::{FieldRef, Path};

/// What an expression may be, at most (K25).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExpressionLimits {
    /// Expressions within each other: `Always` is 1 deep.
    pub depth: u32,
    /// Expressions in all.
    pub nodes: u32,
    /// Keys of one path.
    pub segments: u32,
}

impl ExpressionLimits {
    /// The limits of K25 by default.
    pub const DEFAULT: Self = Self { depth: 16, nodes: 256, segments: 8 };
    /// The most that configuration can ask for: ten times the defaults.
    pub const CEILING: Self = Self { depth: 160, nodes: 2_560, segments: 80 };
}

/// How a field is held against a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Comparison {
    /// Same type and value.
    Eq = 1,
    /// There, and not the same.
    Neq = 2,
    /// Greater.
    Gt = 3,
    /// Less.
    Lt = 4,
    /// Greater or equal.
    Gte = 5,
    /// Less or equal.
    Lte = 6,
    /// The value is part of the field.
    Contains = 7,
}

/// When a rule applies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RoutingExpr {
    /// `Eq`, `Neq`, `Gt`, `Lt`, `Gte`, `Lte`, `Contains`: holds a field against a value.
    Compare {
        /// How.
        op: Comparison,
        /// Which field.
        field: FieldRef,
        /// Against what.
        value: Json,
    },
    /// The field is there and not null.
    Exists(FieldRef),
    /// The field is missing or null.
    NotExists(FieldRef),
    /// All are true.
    And(Vec<RoutingExpr>),
    /// One is true.
    Or(Vec<RoutingExpr>),
    /// It is not true.
    Not(Box<RoutingExpr>),
    /// True.
    Always,
}

/// Where the fields of expressions are looked up (2.5, K260).
pub trait Scope {
    /// The output just saved; for Gate and Fork, the newest saved in the session.
    fn current(&self) -> Option<&Json>;
    /// The output saved under a key.
    fn output(&self, key: &OutputKey) -> Option<&Json>;
    /// The value of a key of the state.
    fn state(&self, key: &str) -> Option<&Json>;
    /// The value of a key of the envelope's metadata.
    fn meta(&self, key: &str) -> Option<&Json>;
    /// The newest interrupt response.
    fn interrupt(&self) -> Option<&Json>;

    /// Pays for a look at so many bytes; `false` if nothing may be looked at any more. Who gives a
    /// limit asks afterwards whether it was passed: what was said then means nothing.
    fn pay(&self, _bytes: u64) -> bool {
        true
    }
}

impl RoutingExpr {
    /// Says whether the expression is true of `scope`. Its cost is bounded by its own size and that
    /// of the values that it looks at, and by what the scope lets it look at ([`Scope::pay`]).
    #[must_use]
    pub fn evaluate(&self, scope: &impl Scope) -> bool {
        if !scope.pay(1) {
            return false;
        }
        match self {
            Self::Compare { op, field, value } => present(field, scope)
                .is_some_and(|found| scope.pay(found.length() as u64) && op.holds(found, value)),
            Self::Exists(field) => present(field, scope).is_some(),
            Self::NotExists(field) => present(field, scope).is_none(),
            Self::And(exprs) => exprs.iter().all(|expr| expr.evaluate(scope)),
            Self::Or(exprs) => exprs.iter().any(|expr| expr.evaluate(scope)),
            Self::Not(expr) => !expr.evaluate(scope),
            Self::Always => true,
        }
    }

    /// Returns the expressions within.
    fn parts(&self) -> &[Self] {
        match self {
            Self::Compare { .. } | Self::Exists(_) | Self::NotExists(_) | Self::Always => &[],
            Self::And(exprs) | Self::Or(exprs) => exprs,
            Self::Not(expr) => std::slice::from_ref(expr),
        }
    }

    /// Returns the field that it looks at, itself and not within.
    const fn field(&self) -> Option<&FieldRef> {
        match self {
            Self::Compare { field, .. } | Self::Exists(field) | Self::NotExists(field) => {
                Some(field)
            }
            Self::And(_) | Self::Or(_) | Self::Not(_) | Self::Always => None,
        }
    }

    /// Checks its limits, and that no And or Or is empty (K25, K232). Takes no stack of the
    /// thread's.
    ///
    /// # Errors
    ///
    /// The first thing wrong, for a person.
    pub fn check(&self, limits: &ExpressionLimits) -> Result<(), String> {
        let mut nodes: u32 = 0;
        let mut left = vec![(self, 1_u32)];
        while let Some((expr, depth)) = left.pop() {
            nodes += 1;
            if depth > limits.depth {
                return Err(format!("depth {depth}, at most {}", limits.depth));
            }
            if nodes > limits.nodes {
                return Err(format!("more than {} expressions", limits.nodes));
            }
            match expr {
                Self::And(exprs) if exprs.is_empty() => return Err("And is empty".to_owned()),
                Self::Or(exprs) if exprs.is_empty() => return Err("Or is empty".to_owned()),
                Self::Compare { .. }
                | Self::Exists(_)
                | Self::NotExists(_)
                | Self::And(_)
                | Self::Or(_)
                | Self::Not(_)
                | Self::Always => {}
            }
            if let Some(field) = expr.field() {
                field.check(limits)?;
            }
            left.extend(expr.parts().iter().rev().map(|part| (part, depth + 1)));
        }
        Ok(())
    }
}

/// Looks a field up. What is null is not there (K263).
fn present<'a>(field: &FieldRef, scope: &'a impl Scope) -> Option<&'a Json> {
    field.find(scope).filter(|found| !found.is_null())
}

impl Comparison {
    /// Says whether `found`, which is there and not null, is so to `value`.
    fn holds(self, found: &Json, value: &Json) -> bool {
        let ordered = |wanted: &[Ordering]| {
            order(found, value).is_some_and(|ordering| wanted.contains(&ordering))
        };
        match self {
            Self::Eq => equal(found, value),
            Self::Neq => !equal(found, value),
            Self::Gt => ordered(&[Ordering::Greater]),
            Self::Lt => ordered(&[Ordering::Less]),
            Self::Gte => ordered(&[Ordering::Greater, Ordering::Equal]),
            Self::Lte => ordered(&[Ordering::Less, Ordering::Equal]),
            Self::Contains => contains(found, value),
        }
    }
}

/// Says whether two values have the same type and value (K264): numbers by value, all else by
/// canonical bytes.
#[must_use]
pub fn equal(left: &Json, right: &Json) -> bool {
    match (left.view(), right.view()) {
        (View::Number(left), View::Number(right)) => left.compare(right) == Ordering::Equal,
        (
            View::Null
            | View::Bool(_)
            | View::Number(_)
            | View::Text(_)
            | View::List(_)
            | View::Object(_),
            _,
        ) => left == right,
    }
}

/// Orders two numbers by value, or two texts by their bytes; nothing else has an order.
fn order(left: &Json, right: &Json) -> Option<Ordering> {
    let numbers = left.as_number().zip(right.as_number());
    let texts = left.as_str().zip(right.as_str());
    numbers
        .map(|(left, right)| left.compare(right))
        .or_else(|| texts.map(|(left, right)| left.cmp(right)))
}

/// Says whether `value` is part of `found`: text of text, an element of a list, a key of an object.
fn contains(found: &Json, value: &Json) -> bool {
    match found.view() {
        View::Text(text) => value.as_str().is_some_and(|part| text.contains(part)),
        View::List(items) => items.iter().any(|item| equal(item, value)),
        View::Object(object) => value.as_str().is_some_and(|key| object.contains(key)),
        View::Null | View::Bool(_) | View::Number(_) => false,
    }
}
