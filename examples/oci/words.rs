//! Finds the words that the type of a part of the configuration accepts.

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use std::fmt;

/// The values of an enum, or the keys of a struct, in alphabetical order.
pub(crate) fn words<T: Deserialize<'static>>() -> Vec<&'static str> {
    let mut words = match T::deserialize(NameRecorder) {
        Err(Names(words)) => words.to_vec(),
        Ok(_) => Vec::new(),
    };
    words.sort_unstable();
    words
}

/// A deserializer that has no value, and returns as its error the names that the type expects: a derived `Deserialize`
/// passes them first.
struct NameRecorder;

/// The names, as the error of [`NameRecorder`].
#[derive(Debug)]
struct Names(&'static [&'static str]);

impl<'de> Deserializer<'de> for NameRecorder {
    type Error = Names;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Names> {
        Err(Names(&[]))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Names> {
        Err(Names(variants))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Names> {
        Err(Names(fields))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map identifier ignored_any
    }
}

impl Error for Names {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(&[])
    }
}

impl std::error::Error for Names {}

impl fmt::Display for Names {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "one of {:?}", self.0)
    }
}
