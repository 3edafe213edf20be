//! Strict JSON: no key twice, and a limit on nesting.
//!
//! What lives here: the reader from text to [`Value`]. What may not: any knowledge of the specification.

use super::field::Field;
use crate::error::{Error, Result};
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::{Map, Number, Value};
use std::fmt;

/// The deepest nesting of a `config.json`. The specification itself needs 7 levels.
pub(crate) const MAX_CONFIG_DEPTH: usize = 64;

/// Reads `text` into a tree.
pub(super) fn read(document: &Field<'_>, text: &str) -> Result<Value> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let mut refusal = None;
    let strict = Strict { field: document, depth: 0, refusal: &mut refusal };
    let value = strict.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|error| refusal.unwrap_or_else(|| not_json(document, &error)))
}

fn not_json(document: &Field<'_>, error: &serde_json::Error) -> Error {
    match error.classify() {
        Category::Eof => {
            document.error(format_args!("ends early, at line {} column {}", error.line(), error.column()))
        }
        _ => document.error(format_args!("is not JSON: {error}")),
    }
}

/// Reads one value. Our own errors leave through `refusal`, because serde_json's error keeps only their text.
struct Strict<'f, 'r> {
    field: &'f Field<'f>,
    depth: usize,
    refusal: &'r mut Option<Error>,
}

impl Strict<'_, '_> {
    fn refuse<E: de::Error>(refusal: &mut Option<Error>, error: Error) -> E {
        *refusal = Some(error);
        E::custom("refused")
    }

    fn check_depth<E: de::Error>(&mut self) -> Result<(), E> {
        if self.depth < MAX_CONFIG_DEPTH {
            return Ok(());
        }
        let error = self.field.error(format_args!("is nested deeper than {MAX_CONFIG_DEPTH} levels"));
        Err(Self::refuse(self.refusal, error))
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_, '_> {
    type Value = Value;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<Value, A::Error> {
        self.check_depth()?;
        let mut array = Vec::new();
        loop {
            let field = self.field.index(array.len());
            let seed = Strict { field: &field, depth: self.depth + 1, refusal: &mut *self.refusal };
            match elements.next_element_seed(seed)? {
                Some(element) => array.push(element),
                None => return Ok(Value::Array(array)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Value, A::Error> {
        self.check_depth()?;
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let field = self.field.key(&key);
            // Parsers differ in which of two values they take, so a document could mean something else here than to its
            // reviewer.
            if object.contains_key(&key) {
                return Err(Self::refuse(self.refusal, field.error("appears twice")));
            }
            let seed = Strict { field: &field, depth: self.depth + 1, refusal: &mut *self.refusal };
            let value = entries.next_value_seed(seed)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}
