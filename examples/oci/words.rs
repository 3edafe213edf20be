//! Finds the words that the type of a part of the configuration accepts.

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use std::fmt;

/// The values of an enum, or the keys of a struct, in alphabetical order.
pub(crate) fn words<T: Deserialize<'static>>() -> Vec<&'static str> {
    let mut words = match T::deserialize(Listener) {
        Err(Heard(words)) => words.to_vec(),
        Ok(_) => Vec::new(),
    };
    words.sort_unstable();
    words
}

/// A deserializer that only records the names that the type expects: a derived `Deserialize` passes them first.
struct Listener;

#[derive(Debug)]
struct Heard(&'static [&'static str]);

impl<'de> Deserializer<'de> for Listener {
    type Error = Heard;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Heard> {
        Err(Heard(&[]))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Heard> {
        Err(Heard(variants))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Heard> {
        Err(Heard(fields))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map identifier ignored_any
    }
}

impl Error for Heard {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(&[])
    }
}

impl std::error::Error for Heard {}

impl fmt::Display for Heard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "one of {:?}", self.0)
    }
}
