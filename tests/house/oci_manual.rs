//! The manual's table of properties, held against the properties there are: those that `oci-spec` reads.

use cofferdam::oci_spec::runtime::Spec;
use serde::Deserialize;
use serde::de::value::{Error, StrDeserializer};
use serde::de::{self, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// Reads one of everything, and writes down the names of all properties it is asked for.
struct Walker<'a> {
    path: String,
    seen: &'a RefCell<BTreeSet<String>>,
}

impl Walker<'_> {
    fn at(&self, suffix: &str) -> Self {
        Self { path: format!("{}{suffix}", self.path), seen: self.seen }
    }

    /// A text that is good where it stands.
    fn text(&self) -> &'static str {
        match self.path.as_str() {
            path if path.contains("apabilities") => "CAP_KILL",
            _ => "0",
        }
    }
}

macro_rules! values {
    ($($deserialize:ident $visit:ident $value:expr,)+) => {
        $(fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.$visit($value)
        })+
    };
}

impl<'de> de::Deserializer<'de> for Walker<'_> {
    type Error = Error;

    values! {
        deserialize_bool visit_bool true,
        deserialize_i8 visit_i8 1,
        deserialize_i16 visit_i16 1,
        deserialize_i32 visit_i32 1,
        deserialize_i64 visit_i64 1,
        deserialize_u8 visit_u8 1,
        deserialize_u16 visit_u16 1,
        deserialize_u32 visit_u32 1,
        deserialize_u64 visit_u64 1,
        deserialize_f32 visit_f32 1.0,
        deserialize_f64 visit_f64 1.0,
        deserialize_char visit_char '0',
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.text())
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.text())
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.text())
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(One { walker: self.at("[]"), left: 1 })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(One { walker: self.at(".*"), left: 1 })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Fields { walker: self, fields, at: 0 })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let first: StrDeserializer<'_, Error> = variants[0].into_deserializer();
        visitor.visit_enum(first)
    }

    serde::forward_to_deserialize_any! {
        i128 u128 bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

/// A list of one element, or a map of one entry.
struct One<'a> {
    walker: Walker<'a>,
    left: usize,
}

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.left = match self.left.checked_sub(1) {
            Some(left) => left,
            None => return Ok(None),
        };
        seed.deserialize(self.walker.at("")).map(Some)
    }
}

impl<'de> MapAccess<'de> for One<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.left = match self.left.checked_sub(1) {
            Some(left) => left,
            None => return Ok(None),
        };
        seed.deserialize("key".into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(self.walker.at(""))
    }
}

/// Every property of an object.
struct Fields<'a> {
    walker: Walker<'a>,
    fields: &'static [&'static str],
    at: usize,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(field) = self.fields.get(self.at) else { return Ok(None) };
        seed.deserialize((*field).into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let field = self.fields[self.at];
        self.at += 1;
        let separator = if self.walker.path.is_empty() { "" } else { "." };
        let walker = self.walker.at(&format!("{separator}{field}"));
        self.walker.seen.borrow_mut().insert(walker.path.clone());
        seed.deserialize(walker)
    }
}

/// The properties without properties of their own.
fn properties() -> BTreeSet<String> {
    let seen = RefCell::default();
    Spec::deserialize(Walker { path: String::new(), seen: &seen }).expect("one of everything is a document");
    let seen = seen.into_inner();
    let is_object = |path: &str| {
        seen.iter().any(|other| other.strip_prefix(path).is_some_and(|rest| rest.starts_with(['.', '['])))
    };
    seen.iter().filter(|path| !is_object(path)).cloned().collect()
}

/// The first column of the manual's tables.
fn rows() -> Vec<String> {
    let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/src/manual/oci.rs");
    let text = std::fs::read_to_string(manual).expect("the manual");
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | `")?.split_once("` | "));
    rows.map(|(property, state)| {
        assert!(state.len() > 2, "{property} has no state");
        property.to_owned()
    })
    .collect()
}

fn covers(row: &str, property: &str) -> bool {
    match row.strip_suffix(".*") {
        Some(section) => property.strip_prefix(section).is_some_and(|rest| rest.starts_with(['.', '['])),
        None => row == property,
    }
}

#[test]
fn the_manual_says_what_becomes_of_every_property_and_of_no_other() {
    let (properties, rows) = (properties(), rows());
    assert!(properties.len() > 120, "{properties:?}");
    let missing: Vec<_> =
        properties.iter().filter(|property| !rows.iter().any(|row| covers(row, property))).collect();
    assert!(missing.is_empty(), "not in the manual: {missing:#?}");
    let unknown: Vec<_> =
        rows.iter().filter(|row| !properties.iter().any(|property| covers(row, property))).collect();
    assert!(unknown.is_empty(), "no such property: {unknown:#?}");
}
