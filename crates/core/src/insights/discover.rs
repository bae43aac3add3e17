//! Fields found in messages that are JSON: only those that a query reads.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};
use serde_json::Value as Json;

use super::ast::Slot;
use super::scope::{POINTER, SlotInfo};
use super::value::Value;

/// The paths to look for, by their segments.
#[derive(Clone, Debug, Default)]
pub(super) struct Paths {
    slot: Option<Slot>,
    children: HashMap<String, Paths>,
}

impl Paths {
    /// The paths of the slots that come from events and are not built in.
    pub(super) fn of(slots: &[SlotInfo]) -> Paths {
        let mut root = Paths::default();
        let wanted = slots.iter().enumerate().skip(POINTER + 1);
        for (slot, info) in wanted.filter(|(_, info)| info.discovered) {
            let mut node = &mut root;
            for segment in info.name.split('.') {
                node = node.children.entry(segment.to_owned()).or_default();
            }
            node.slot = Some(slot);
        }
        root
    }

    pub(super) fn is_empty(&self) -> bool {
        self.children.is_empty()
    }

    /// Fills a row's slots from a message, if that is a JSON object.
    pub(super) fn fill<'a>(&self, message: &'a str, row: &mut [Value<'a>]) {
        if !message.trim_ascii_start().starts_with('{') {
            return;
        }
        let mut json = serde_json::Deserializer::from_str(message);
        let found = Walk { paths: self, row }.deserialize(&mut json);
        if found.and_then(|()| json.end()).is_err() {
            // Broken in the middle: no JSON, so no fields.
            row.iter_mut().skip(POINTER + 1).for_each(|v| *v = Value::Null);
        }
    }

    /// A key of an object, whose dots count as steps too.
    fn step(&self, key: &str) -> Option<&Paths> {
        if let Some(child) = self.children.get(key) {
            return Some(child);
        }
        let mut node = self;
        for segment in key.split('.') {
            node = node.children.get(segment)?;
        }
        Some(node)
    }

    /// Fills slots from a value that had to be kept whole.
    fn take(&self, json: &Json, row: &mut [Value<'_>]) {
        if let Some(value) = self.slot.and_then(|slot| row.get_mut(slot)) {
            *value = scalar(json);
        }
        match json {
            Json::Object(object) if !self.children.is_empty() => {
                for (key, json) in object {
                    if let Some(child) = self.step(key) {
                        child.take(json, row);
                    }
                }
            }
            Json::Array(array) if !self.children.is_empty() => {
                for (index, json) in array.iter().enumerate() {
                    if let Some(child) = self.step(&index.to_string()) {
                        child.take(json, row);
                    }
                }
            }
            _ => {}
        }
    }
}

fn scalar(json: &Json) -> Value<'static> {
    match json {
        Json::Null => Value::Null,
        Json::Bool(is) => Value::Bool(*is),
        Json::Number(number) => {
            // What a float cannot hold stays as it was written.
            let exact = number.as_f64().filter(|n| n.abs() < 9e15);
            exact.map_or_else(
                || Value::Text(Cow::Owned(number.to_string())),
                Value::Number,
            )
        }
        Json::String(text) => Value::Text(Cow::Owned(text.clone())),
        Json::Array(_) | Json::Object(_) => {
            Value::Text(Cow::Owned(json.to_string()))
        }
    }
}

/// Walks along the paths and ignores the rest of the document.
struct Walk<'w, 'a> {
    paths: &'w Paths,
    row: &'w mut [Value<'a>],
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(
        self,
        json: D,
    ) -> Result<(), D::Error> {
        if self.paths.slot.is_some() {
            let json = <Json as serde::Deserialize>::deserialize(json)?;
            self.paths.take(&json, self.row);
            return Ok(());
        }
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match self.paths.step(&key) {
                Some(paths) => {
                    map.next_value_seed(Walk { paths, row: self.row })?;
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        for index in 0_usize.. {
            let name = index.to_string();
            let more = match self.paths.step(&name) {
                Some(paths) => {
                    let walk = Walk { paths, row: self.row };
                    list.next_element_seed(walk)?.is_some()
                }
                None => list.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}
