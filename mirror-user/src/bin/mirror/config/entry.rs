//! A key of a file as settings with this key alone.

use std::iter;

use mirror_user::settings::{Settings, SinkSettings};
use serde::{
    Deserialize, Deserializer,
    de::{
        Error as _, IntoDeserializer, Visitor,
        value::{Error, MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};

use super::{
    file::{Setting, Value},
    flags::{Command, flag_of},
};

/// The settings of a key.
pub(super) fn setting(setting: &Setting) -> Result<Settings, String> {
    entry(setting, &setting.key)
}

/// The same for a key of a table.
pub(super) fn sink_setting(setting: &Setting) -> Result<SinkSettings, String> {
    let flag = match setting.key.as_str() {
        "vnis" => "vni",
        "sources" => "source",
        key => key,
    };
    entry(setting, flag)
}

fn entry<'s, S: Deserialize<'s>>(setting: &'s Setting, flag: &str) -> Result<S, String> {
    let entry = iter::once((setting.key.as_str(), Entry(&setting.value)));
    S::deserialize(MapDeserializer::new(entry)).map_err(|error: Error| {
        let message = error.to_string();
        // Worded like clap's errors about flags.
        let of_flag = || {
            let Value::Words(words) = &setting.value else { return None };
            let joined = words.join(",");
            let said = words.iter().chain([&joined]).map(|word| format!("invalid value '{word}'"));
            let (said, reason) = said
                .filter_map(|said| Some((message.strip_prefix(&said)?.to_owned(), said)))
                .map(|(reason, said)| (said, reason))
                .next()?;
            let flag = Command::ALL.iter().find_map(|command| flag_of(*command, flag))?;
            Some(format!("{said} for '{flag}'{reason}"))
        };
        of_flag().unwrap_or(message)
    })
}

/// A value of a file.
struct Entry<'de>(&'de Value);

impl<'de> IntoDeserializer<'de, Error> for Entry<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Entry<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Boolean(boolean) => visitor.visit_bool(*boolean),
            Value::Words(words) => match &words[..] {
                [word] => visitor.visit_borrowed_str(word),
                words => visitor.visit_seq(SeqDeserializer::new(words.iter().map(String::as_str))),
            },
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Boolean(boolean) => visitor.visit_bool(*boolean),
            Value::Words(_) => Err(Error::custom("true or false is wanted")),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::read;

    /// The settings of a line of a file.
    fn said(line: &str) -> Result<Settings, String> {
        let Ok(read) = read(line) else { panic!("{line}") };
        setting(&read.settings[0])
    }

    #[test]
    fn an_array_is_for_keys_that_take_lists_or_may_be_given_several_times() {
        let given = |key: &str| said(&format!("{key} = [1, '2']"));
        assert_eq!(given("vni").unwrap(), said("vni = '1,2'").unwrap());
        assert_eq!(said("source = ['1.1.1.1', '::2']").unwrap(), said("source = '1.1.1.1,::2'").unwrap());
        assert_eq!(given("interface").unwrap().interface.unwrap().0.len(), 2);
        assert_eq!(said("forward = ['tap:a', 'tap:b']").unwrap().forward.unwrap().0.len(), 2);
        for key in ["write", "count", "wait", "hex"] {
            assert_eq!(given(key).unwrap_err(), "one value is wanted, not 2", "{key}");
        }
        assert_eq!(said("write = []").unwrap_err(), "one value is wanted, not 0");
        assert_eq!(said("write = ['x']").unwrap(), said("write = 'x'").unwrap());
    }

    #[test]
    fn a_number_may_be_a_string_and_a_boolean_may_not() {
        assert_eq!(said("rx-ring = '8192'").unwrap(), said("rx-ring = 8192").unwrap());
        assert_eq!(said("outer = 'true'").unwrap_err(), "true or false is wanted");
        assert_eq!(said("verbose = true").unwrap_err(), "neither true nor false is valid here");
    }

    #[test]
    fn an_invalid_value_is_reported_with_its_flag() {
        let error = said("forward-balance = 'even'").unwrap_err();
        assert_eq!(
            error,
            "invalid value 'even' for '--forward-balance <FORWARD_BALANCE>': expected one of copy, flow"
        );
        assert!(said("hex = 256").unwrap_err().starts_with("invalid value '256' for '-x...'"));
        assert!(
            said("port = [1, 'x']")
                .unwrap_err()
                .starts_with("invalid value '1,x' for '--port <PORT[=PROTOCOL],…>'")
        );
    }
}
