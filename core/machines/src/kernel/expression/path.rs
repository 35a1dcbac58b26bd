//! Fields of expressions: where to look, and which keys to follow (2.5).

use std::fmt;
use std::sync::Arc;

use super::{ExpressionLimits, Scope};
use crate::kernel::json::Json;
use crate::kernel::pipeline::names::OutputKey;

/// Object keys, from the outside in. Written joined by dots, in which `\.` is a dot in a key and
/// `\\` a backslash. Empty text is the empty path: the whole value.
///
/// A key that is empty cannot be written: `a..b` is taken for a slip and refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Path(Vec<Arc<str>>);

impl Path {
    /// Reads a path as it is written.
    ///
    /// # Errors
    ///
    /// What is wrong with it, for a person.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        if let Some(at) = text.bytes().position(|byte| byte == 0) {
            return Err(format!("path: NUL at byte {at}"));
        }
        let mut keys = Vec::new();
        let mut key = String::new();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            match character {
                '\\' => match characters.next() {
                    Some(escaped @ ('.' | '\\')) => key.push(escaped),
                    Some(_) | None => {
                        return Err(format!("path {text:?}: a backslash escapes a dot or itself"));
                    }
                },
                '.' => keys.push(std::mem::take(&mut key)),
                other => key.push(other),
            }
        }
        keys.push(key);
        match keys.iter().any(String::is_empty) {
            true => Err(format!("path {text:?}: an empty key")),
            false => Ok(Self(keys.into_iter().map(Arc::from).collect())),
        }
    }

    /// Returns the keys.
    #[must_use]
    pub fn keys(&self) -> &[Arc<str>] {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, key) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(".")?;
            }
            f.write_str(&key.replace('\\', "\\\\").replace('.', "\\."))?;
        }
        Ok(())
    }
}

/// A field that an expression looks at, or an approval binds.
///
/// Of the state and the metadata, which are maps, the first key of the path is the key of the map.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FieldRef {
    /// Of the newest agent output.
    Current(Path),
    /// Of the output under a key.
    Output {
        /// The key.
        key: OutputKey,
        /// Where in the output.
        path: Path,
    },
    /// Of the session's state.
    State(Path),
    /// Of the envelope's metadata.
    Meta(Path),
    /// Of the newest interrupt response.
    Interrupt(Path),
}

impl FieldRef {
    /// Returns the path.
    #[must_use]
    pub const fn path(&self) -> &Path {
        match self {
            Self::Current(path)
            | Self::Output { path, .. }
            | Self::State(path)
            | Self::Meta(path)
            | Self::Interrupt(path) => path,
        }
    }

    /// Looks the field up. What is there may be null.
    #[must_use]
    pub fn find<'a>(&self, scope: &'a impl Scope) -> Option<&'a Json> {
        let keys = self.path().keys();
        match self {
            Self::Current(_) => scope.current()?.at(keys),
            Self::Output { key, .. } => scope.output(key)?.at(keys),
            Self::State(_) => scope.state(keys.first()?)?.at(&keys[1..]),
            Self::Meta(_) => scope.meta(keys.first()?)?.at(&keys[1..]),
            Self::Interrupt(_) => scope.interrupt()?.at(keys),
        }
    }

    /// Returns how many bytes its keys have.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.path().keys().iter().map(|key| key.len() as u64).sum()
    }

    /// Checks the number of keys (K25).
    ///
    /// # Errors
    ///
    /// What is wrong with it, for a person.
    pub fn check(&self, limits: &ExpressionLimits) -> Result<(), String> {
        let keys = self.path().keys().len();
        if keys > limits.segments as usize {
            return Err(format!("path of {keys} keys, at most {}", limits.segments));
        }
        let needs_key = match self {
            Self::State(_) | Self::Meta(_) => true,
            Self::Current(_) | Self::Output { .. } | Self::Interrupt(_) => false,
        };
        match needs_key && keys == 0 {
            true => Err("path is required".to_owned()),
            false => Ok(()),
        }
    }
}
