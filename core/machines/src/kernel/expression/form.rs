//! Expressions as they stand in JSON (2.5) and in the binary standard form.
//!
//! ```json
//! {"op": "Eq", "field": {"scope": "Current", "path": "verdict"}, "value": "revise"}
//! {"op": "And", "exprs": [{"op": "Exists", "field": {"scope": "State", "path": "plan"}}]}
//! {"op": "Not", "expr": {"op": "Always"}}
//! {"op": "Gt", "field": {"scope": "Output", "key": "critic", "path": "score"}, "value": 7}
//! ```

use std::sync::Arc;

use super::{Comparison, ExpressionLimits, FieldRef, Path, RoutingExpr};
use crate::codec::{Malformed, Reader, Wire};
use crate::kernel::json::Json;
use crate::kernel::json::document::{
    Document, Fields, Place, Problems, decode, one_of, read as read_document,
};
use crate::kernel::pipeline::names::OutputKey;
use crate::kernel::refusal::{Code, Refusal};

/// The operators, as they are written.
const OPERATORS: [&str; 13] = [
    "Eq",
    "Neq",
    "Gt",
    "Lt",
    "Gte",
    "Lte",
    "Contains",
    "Exists",
    "NotExists",
    "And",
    "Or",
    "Not",
    "Always",
];
/// The scopes, as they are written.
const SCOPES: [&str; 5] = ["Current", "Output", "State", "Meta", "Interrupt"];

impl Comparison {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 7] =
        [Self::Eq, Self::Neq, Self::Gt, Self::Lt, Self::Gte, Self::Lte, Self::Contains];

    /// Returns the operator as it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        OPERATORS[self as usize - 1]
    }
}

impl RoutingExpr {
    /// Makes `Eq(Current condition, value)`, which is what the short form of a rule means.
    #[must_use]
    pub const fn short(condition: Path, value: Json) -> Self {
        Self::Compare { op: Comparison::Eq, field: FieldRef::Current(condition), value }
    }

    /// Returns the operator as it is written.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Compare { op, .. } => op.name(),
            Self::Exists(_) => "Exists",
            Self::NotExists(_) => "NotExists",
            Self::And(_) => "And",
            Self::Or(_) => "Or",
            Self::Not(_) => "Not",
            Self::Always => "Always",
        }
    }

    /// Reads an expression from what a stranger sent in `field`, and checks its limits.
    ///
    /// # Errors
    ///
    /// `bad_value` for a wrong type or an unknown field, `bad_expression` for all else.
    pub fn parse(field: &str, json: &Json, limits: &ExpressionLimits) -> Result<Self, Refusal> {
        let expr: Self = read_document(json, field)?;
        expr.check(limits).map_err(|told| {
            Refusal::of_field(Code::BadExpression, field, format!("{field}: {told}"))
        })?;
        Ok(expr)
    }
}

impl Document for Path {
    fn read(json: &Json, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        let text: Arc<str> = Document::read(json, place, problems)?;
        let told = match Self::parse(&text) {
            Ok(path) => return Some(path),
            Err(told) => told,
        };
        problems.tell(Code::BadExpression, place, told);
        None
    }

    fn written(&self) -> Json {
        Json::from(self.to_string())
    }
}

/// Reads the field `name`, which must be one of `names`, and returns which.
fn choice(
    fields: &mut Fields<'_>,
    name: &'static str,
    names: &'static [&'static str],
) -> Option<&'static str> {
    let Some(json) = fields.raw(name) else {
        fields.missing(name, Code::Required);
        return None;
    };
    let place = Place::Field(fields.place, name);
    let found = one_of(json, names.iter().copied(), &place, fields.problems)?;
    names.get(found).copied()
}

impl Document for FieldRef {
    fn read(json: &Json, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        let mut fields = Fields::open(json, place, problems)?;
        let scope = choice(&mut fields, "scope", &SCOPES);
        let path: Path = fields.optional("path").unwrap_or_default();
        let key: Option<OutputKey> = match scope {
            Some("Output") => fields.required("key"),
            Some(_) | None => None,
        };
        fields.done();
        Some(match scope? {
            "Current" => Self::Current(path),
            "Output" => Self::Output { key: key?, path },
            "State" => Self::State(path),
            "Meta" => Self::Meta(path),
            _ => Self::Interrupt(path),
        })
    }

    fn written(&self) -> Json {
        let (scope, key) = match self {
            Self::Current(_) => ("Current", None),
            Self::Output { key, .. } => ("Output", Some(key)),
            Self::State(_) => ("State", None),
            Self::Meta(_) => ("Meta", None),
            Self::Interrupt(_) => ("Interrupt", None),
        };
        let key = key.map(|key| ("key", Json::from(key.as_str())));
        let entries = [("scope", Json::from(scope)), ("path", self.path().written())];
        Json::object(entries.into_iter().chain(key))
    }
}

impl Document for RoutingExpr {
    fn read(json: &Json, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        let most = ExpressionLimits::CEILING.depth;
        problems.descend(most, place, |problems| read(json, place, problems))
    }

    fn written(&self) -> Json {
        let mut entries = vec![("op", Json::from(self.name()))];
        match self {
            Self::Compare { field, value, .. } => {
                entries.push(("field", field.written()));
                entries.push(("value", value.clone()));
            }
            Self::Exists(field) | Self::NotExists(field) => {
                entries.push(("field", field.written()));
            }
            Self::And(exprs) | Self::Or(exprs) => entries.push(("exprs", exprs.written())),
            Self::Not(expr) => entries.push(("expr", expr.written())),
            Self::Always => {}
        }
        Json::object(entries)
    }
}

fn read(json: &Json, place: &Place<'_>, problems: &mut Problems) -> Option<RoutingExpr> {
    let mut fields = Fields::open(json, place, problems)?;
    // Which fields are known depends on the operator: without one the rest is not looked at.
    let op = choice(&mut fields, "op", &OPERATORS)?;
    let read = match op {
        "Always" => Some(RoutingExpr::Always),
        "And" => fields.required("exprs").map(RoutingExpr::And),
        "Or" => fields.required("exprs").map(RoutingExpr::Or),
        "Not" => fields.required("expr").map(RoutingExpr::Not),
        "Exists" => fields.required("field").map(RoutingExpr::Exists),
        "NotExists" => fields.required("field").map(RoutingExpr::NotExists),
        name => comparison(&mut fields, name),
    };
    fields.done();
    read
}

/// Reads what a comparison compares; its value may be `null`.
fn comparison(fields: &mut Fields<'_>, name: &str) -> Option<RoutingExpr> {
    let field = fields.required("field");
    let value = fields.raw("value").cloned();
    if value.is_none() {
        fields.missing("value", Code::Required);
    }
    let op = Comparison::ALL.into_iter().find(|op| op.name() == name)?;
    Some(RoutingExpr::Compare { op, field: field?, value: value? })
}

/// As the JSON that it is written as; nothing else decodes.
impl Wire for RoutingExpr {
    fn encode(&self, out: &mut Vec<u8>) {
        self.written().encode(out);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        decode(reader, "an expression")
    }
}

/// As the JSON that it is written as; nothing else decodes.
impl Wire for FieldRef {
    fn encode(&self, out: &mut Vec<u8>) {
        self.written().encode(out);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        decode(reader, "a field")
    }
}
