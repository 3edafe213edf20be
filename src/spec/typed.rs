//! From a JSON tree to `oci-spec`'s types, with errors that name the field, the expected type and the type found.
//!
//! A serde deserializer over [`Value`] that knows its position in the document. What may not live here: any rule about
//! a particular field, beyond a noun for the specification's closed sets of words.

use super::field::{Field, shorten};
use crate::error::{Error, Result};
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};
use std::fmt;

/// Reads `value`, which is at `field`, as a `T`.
pub(super) fn read<T: DeserializeOwned>(field: &Field<'_>, value: &Value) -> Result<T> {
    T::deserialize(Typed { field, value }).map_err(|fault| match fault.at(field) {
        Fault { error: Some(error), .. } => error,
        Fault { problem, .. } => field.error(problem),
    })
}

/// An error. The reader that returns it through its field adds that field, because serde's own errors have none.
#[derive(Debug)]
struct Fault {
    problem: String,
    missing: Option<&'static str>,
    error: Option<Error>,
}

impl Fault {
    /// Adds `field`, unless the fault has one already.
    fn at(mut self, field: &Field<'_>) -> Self {
        if self.error.is_none() {
            self.error = Some(match self.missing {
                Some(name) => field.key(name).error("is missing"),
                None => field.error(&self.problem),
            });
        }
        self
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self { problem: String::new(), missing: None, error: Some(error) }
    }
}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(problem: T) -> Self {
        Self { problem: problem.to_string(), missing: None, error: None }
    }

    fn missing_field(name: &'static str) -> Self {
        Self { problem: String::new(), missing: Some(name), error: None }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for Fault {}

/// A value and its position.
struct Typed<'de, 'f> {
    field: &'f Field<'f>,
    value: &'de Value,
}

impl Typed<'_, '_> {
    fn mismatch(&self, expected: impl fmt::Display) -> Fault {
        let found: &dyn fmt::Display = match self.value {
            Value::Null => &"null",
            Value::Bool(_) => &"a boolean",
            Value::Number(_) => &"a number",
            Value::String(_) => &"a string",
            Value::Array(_) => &"an array",
            Value::Object(_) => &"an object",
        };
        self.field.error(format_args!("expected {expected}, found {found}")).into()
    }

    fn integer<N>(&self, min: N, max: N) -> Result<N, Fault>
    where
        N: TryFrom<i128> + fmt::Display,
    {
        let Value::Number(number) = self.value else {
            return Err(self.mismatch("an integer"));
        };
        let wide = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
        wide.and_then(|wide| N::try_from(wide).ok()).ok_or_else(|| {
            self.field.error(format_args!("expected an integer from {min} to {max}, found {number}")).into()
        })
    }
}

macro_rules! integers {
    ($($deserialize:ident $visit:ident $int:ty,)+) => {
        $(fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            visitor.$visit(self.integer(<$int>::MIN, <$int>::MAX)?)
        })+
    };
}

impl<'de> de::Deserializer<'de> for Typed<'de, '_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(_) => self.deserialize_bool(visitor),
            Value::Number(number) if number.is_i64() => self.deserialize_i64(visitor),
            Value::Number(number) if number.is_u64() => self.deserialize_u64(visitor),
            Value::Number(number) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            Value::String(_) => self.deserialize_str(visitor),
            Value::Array(_) => self.deserialize_seq(visitor),
            Value::Object(_) => self.deserialize_map(visitor),
        }
    }

    integers! {
        deserialize_u8 visit_u8 u8,
        deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64,
        deserialize_i8 visit_i8 i8,
        deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64,
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Value::Bool(value) => visitor.visit_bool(*value),
            _ => Err(self.mismatch("a boolean")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Value::String(text) => visitor.visit_borrowed_str(text),
            _ => Err(self.mismatch("a string")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Value::Array(elements) => {
                visitor.visit_seq(Elements { field: self.field, elements: elements.iter().enumerate() })
            }
            _ => Err(self.mismatch("an array")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Value::Object(properties) => visitor.visit_map(Properties::new(self.field, properties)),
            _ => Err(self.mismatch("an object")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_map(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let Value::String(word) = self.value else {
            return Err(self.mismatch("a string"));
        };
        if !words.contains(&word.as_str()) {
            let error = self.field.error(format_args!("unknown {} {:?}", noun(name), shorten(word)));
            return Err(error.hint(format!("known are {}", words.join(", "))).into());
        }
        visitor.visit_enum(word.as_str().into_deserializer())
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i128 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct identifier
    }
}

/// What an error calls the words of an `oci-spec` enum.
fn noun(enum_name: &str) -> &'static str {
    match enum_name {
        "Arch" => "seccomp architecture",
        "LinuxDeviceType" => "device type",
        "LinuxNamespaceType" => "namespace type",
        "LinuxSeccompAction" => "seccomp action",
        "LinuxSeccompFilterFlag" => "seccomp flag",
        "LinuxSeccompOperator" => "seccomp operator",
        "PosixRlimitType" => "rlimit type",
        _ => "value",
    }
}

struct Elements<'de, 'f> {
    field: &'f Field<'f>,
    elements: std::iter::Enumerate<std::slice::Iter<'de, Value>>,
}

impl<'de> SeqAccess<'de> for Elements<'de, '_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some((index, value)) = self.elements.next() else {
            return Ok(None);
        };
        let field = self.field.index(index);
        seed.deserialize(Typed { field: &field, value }).map(Some).map_err(|fault| fault.at(&field))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.elements.len())
    }
}

struct Properties<'de, 'f> {
    field: &'f Field<'f>,
    properties: serde_json::map::Iter<'de>,
    current: Option<(&'de str, &'de Value)>,
}

impl<'de, 'f> Properties<'de, 'f> {
    fn new(field: &'f Field<'f>, properties: &'de Map<String, Value>) -> Self {
        Self { field, properties: properties.iter(), current: None }
    }
}

impl<'de> MapAccess<'de> for Properties<'de, '_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        self.current = self.properties.next().map(|(key, value)| (key.as_str(), value));
        let Some((key, _)) = self.current else {
            return Ok(None);
        };
        let key: StrDeserializer<'_, Fault> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let (key, value) =
            self.current.take().ok_or_else(|| <Fault as de::Error>::custom("a value before its key"))?;
        let field = self.field.key(key);
        seed.deserialize(Typed { field: &field, value }).map_err(|fault| fault.at(&field))
    }
}
