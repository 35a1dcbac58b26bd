//! Schemas compiled: what is not understood is refused, before any value is checked (K280).

use std::sync::Arc;

use super::{Additional, Node, Schema, Type};
use crate::kernel::json::number::Number;
use crate::kernel::json::{Json, Object};
use crate::kernel::refusal::{Code, Refusal};

/// The most subschemas and values of `enum` in one schema.
pub const NODES_MAX: u32 = 1_024;
/// How deep subschemas may be within each other.
const DEPTH_MAX: usize = 128;
/// How much of a keyword is told.
const TOLD_CHARS_MAX: usize = 64;

/// What is wrong with a schema: `properties/a: expected object, got null`.
struct Wrong {
    code: Code,
    text: String,
}

impl Schema {
    /// Compiles the schema that a stranger sent in `field`.
    ///
    /// # Errors
    ///
    /// `unsupported_schema_keyword` with the path of the keyword: `output_schema:
    /// unsupported_schema_keyword: /properties/a/pattern`; `bad_value` for a keyword with a value
    /// that it cannot have; `too_many`, `too_deep`.
    pub fn compile(field: &str, json: &Json) -> Result<Self, Refusal> {
        let mut compiler = Compiler { path: Vec::new(), nodes: 0 };
        match compiler.node(json) {
            Ok(node) => Ok(Self(node)),
            Err(wrong) => {
                Err(Refusal::of_field(wrong.code, field, format!("{field}: {}", wrong.text)))
            }
        }
    }
}

/// A schema being compiled. The recursion ends at [`DEPTH_MAX`].
struct Compiler {
    path: Vec<String>,
    nodes: u32,
}

impl Compiler {
    fn pointer(&self) -> String {
        self.path.iter().map(|part| format!("/{part}")).collect()
    }

    fn wrong(&self, text: &str) -> Wrong {
        Wrong { code: Code::BadValue, text: format!("{}: {text}", self.pointer()) }
    }

    fn expected(&self, expected: &str, got: &Json) -> Wrong {
        self.wrong(&format!("expected {expected}, got {}", got.type_name()))
    }

    /// Compiles what stands under `part`.
    fn within<T>(
        &mut self,
        part: &str,
        compile: impl FnOnce(&mut Self) -> Result<T, Wrong>,
    ) -> Result<T, Wrong> {
        let part: String = part.chars().take(TOLD_CHARS_MAX).collect();
        self.path.push(part.replace('~', "~0").replace('/', "~1"));
        let compiled = compile(self);
        if compiled.is_ok() {
            self.path.pop();
        }
        compiled
    }

    fn count(&mut self) -> Result<(), Wrong> {
        self.nodes += 1;
        match self.nodes > NODES_MAX {
            true => {
                let text = format!("more than {NODES_MAX} subschemas and values");
                Err(Wrong { code: Code::TooMany, text })
            }
            false => Ok(()),
        }
    }

    fn node(&mut self, json: &Json) -> Result<Node, Wrong> {
        self.count()?;
        if self.path.len() > DEPTH_MAX {
            let text = format!("depth {}, at most {DEPTH_MAX}", self.path.len());
            return Err(Wrong { code: Code::TooDeep, text });
        }
        let object = json.as_object().ok_or_else(|| self.expected("object", json))?;
        let mut node = Node::default();
        for (keyword, value) in object.iter() {
            self.within(keyword, |compiler| compiler.keyword(&mut node, keyword, value))?;
        }
        Ok(node)
    }

    fn keyword(&mut self, node: &mut Node, keyword: &str, value: &Json) -> Result<(), Wrong> {
        match keyword {
            "title" | "description" | "default" => {}
            "type" => node.types = self.types(value)?,
            "enum" => node.options = Some(self.options(value)?),
            "const" => node.constant = Some(value.clone()),
            "minimum" => node.minimum = Some(self.number(value)?),
            "maximum" => node.maximum = Some(self.number(value)?),
            "minLength" => node.min_length = Some(self.natural(value)?),
            "maxLength" => node.max_length = Some(self.natural(value)?),
            "minItems" => node.min_items = Some(self.natural(value)?),
            "maxItems" => node.max_items = Some(self.natural(value)?),
            "items" => node.items = Some(Box::new(self.node(value)?)),
            "required" => node.required = self.keys(value)?,
            "properties" => node.properties = self.properties(value)?,
            "additionalProperties" => node.additional = self.additional(value)?,
            "anyOf" => node.any_of = self.any_of(value)?,
            _ => {
                let text = format!("unsupported_schema_keyword: {}", self.pointer());
                return Err(Wrong { code: Code::UnsupportedSchemaKeyword, text });
            }
        }
        Ok(())
    }

    fn types(&self, value: &Json) -> Result<Vec<Type>, Wrong> {
        let one = |name: &Json| {
            let name = name.as_str().ok_or_else(|| self.expected("string", name))?;
            let found = Type::ALL.into_iter().find(|kind| kind.name() == name);
            found.ok_or_else(|| self.wrong("unknown type"))
        };
        let named: Vec<Type> = match value.as_list() {
            Some([]) => return Err(self.wrong("empty")),
            Some(names) => names.iter().map(one).collect::<Result<_, _>>()?,
            None => vec![one(value)?],
        };
        Ok(Type::ALL.into_iter().filter(|kind| named.contains(kind)).collect())
    }

    fn list<'j>(&self, value: &'j Json) -> Result<&'j [Json], Wrong> {
        match value.as_list() {
            Some([]) => Err(self.wrong("empty")),
            Some(items) => Ok(items),
            None => Err(self.expected("array", value)),
        }
    }

    fn options(&mut self, value: &Json) -> Result<Vec<Json>, Wrong> {
        let options = self.list(value)?;
        for _ in options {
            self.count()?;
        }
        Ok(options.to_vec())
    }

    fn number(&self, value: &Json) -> Result<Number, Wrong> {
        value.as_number().ok_or_else(|| self.expected("number", value))
    }

    fn natural(&self, value: &Json) -> Result<u64, Wrong> {
        self.number(value)?;
        value.as_u64().ok_or_else(|| self.wrong("not a whole number from 0"))
    }

    fn keys(&self, value: &Json) -> Result<Vec<Arc<str>>, Wrong> {
        let items = value.as_list().ok_or_else(|| self.expected("array", value))?;
        let key =
            |item: &Json| item.as_str().map(Arc::from).ok_or_else(|| self.expected("string", item));
        items.iter().map(key).collect()
    }

    fn object<'j>(&self, value: &'j Json) -> Result<&'j Object, Wrong> {
        value.as_object().ok_or_else(|| self.expected("object", value))
    }

    fn properties(&mut self, value: &Json) -> Result<Vec<(Arc<str>, Node)>, Wrong> {
        let entries = self.object(value)?.iter();
        let one = |(key, schema): (&Arc<str>, &Json)| {
            let node = self.within(key, |compiler| compiler.node(schema))?;
            Ok((Arc::clone(key), node))
        };
        entries.map(one).collect()
    }

    fn additional(&mut self, value: &Json) -> Result<Additional, Wrong> {
        Ok(match value.as_bool() {
            Some(true) => Additional::Any,
            Some(false) => Additional::None,
            None => Additional::Of(Box::new(self.node(value)?)),
        })
    }

    fn any_of(&mut self, value: &Json) -> Result<Vec<Node>, Wrong> {
        let schemas = self.list(value)?.iter().enumerate();
        let one = |(at, schema): (usize, &Json)| {
            self.within(&at.to_string(), |compiler| compiler.node(schema))
        };
        schemas.map(one).collect()
    }
}
