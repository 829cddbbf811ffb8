//! Any text as a configuration file: settings, each with a line that it has, or an error with one.
#![no_main]

use libfuzzer_sys::fuzz_target;

use crate::file::{Setting, Value, read};

/// The reader is the command's own.
#[path = "../../mirror-user/src/bin/mirror/config/file.rs"]
mod file;

fuzz_target!(|text: &str| {
    let lines = text.matches('\n').count() + 1;
    match read(text) {
        Err((line, message)) => {
            assert!((1..=lines).contains(&line), "{line} of {lines}: {message}");
            assert!(!message.is_empty() && !message.contains('\n'), "{message:?}");
        }
        Ok(read) => {
            let (places, tables): (Vec<_>, Vec<_>) = read.sinks.into_iter().unzip();
            for Setting { key: _, line, value } in read.settings.into_iter().chain(tables.into_iter().flatten()) {
                assert!((1..=lines).contains(&line));
                if let Value::Words(words) = value {
                    // An empty array is one; what it means is for its flag to say.
                    assert!(words.len() <= text.len());
                }
            }
            assert!(places.iter().all(|line| (1..=lines).contains(line)));
        }
    }
});
