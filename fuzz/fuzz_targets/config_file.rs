//! Any text as a configuration file: settings, each with a line that it has, or an error with one.
#![no_main]

use libfuzzer_sys::fuzz_target;

use crate::file::{Position, Setting, Value, read};

/// The reader is the command's own.
#[path = "../../mirror-user/src/bin/mirror/config/file.rs"]
mod file;

fuzz_target!(|text: &str| {
    let lines = text.matches('\n').count() + 1;
    let is_there = |position: &Position| {
        (1..=lines).contains(&position.line) && (1..=text.chars().count() + 1).contains(&position.column)
    };
    match read(text) {
        Err((position, message)) => {
            assert!(is_there(&position), "{position} of {lines}: {message}");
            assert!(!message.is_empty() && !message.contains('\n'), "{message:?}");
        }
        Ok(read) => {
            let (positions, tables): (Vec<_>, Vec<_>) = read.sinks.into_iter().unzip();
            for Setting { key, position, value } in
                read.settings.into_iter().chain(tables.into_iter().flatten())
            {
                assert!(is_there(&position));
                // Escapes are longer than the characters they represent.
                assert!(key.len() <= text.len());
                match value {
                    Value::Boolean(boolean) => assert!(text.contains(&boolean.to_string())),
                    // An empty array is one; what it means is for its flag to say.
                    Value::Words(words) => assert!(words.len() <= text.len()),
                }
            }
            assert!(positions.iter().all(is_there));
        }
    }
});
