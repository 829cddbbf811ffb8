//! Escaping of untrusted text: names of interfaces, files and programs, recorded facts, contents of
//! configuration files.
//!
//! | for | | |
//! |---|---|---|
//! | a terminal | [`terminal`] | control characters as `\x1b`, marks of direction as `\u{202e}`; newlines are kept |
//! | a line of a log or a message | [`line()`], [`path()`] | the same, and newlines too, so that the text stays on one line |
//! | a shell | [`shell`] | quoted if needed, to be pasted |
//! | a unit file | [`systemd`] | quoted if needed, as a word of a command line |

use std::{
    borrow::Cow,
    ffi::OsStr,
    fmt::{self, Write as _},
    path::Path,
};

/// Whether a terminal interprets the character: C0, DEL and C1 (ECMA-48), separators of lines and paragraphs,
/// and Unicode's marks of direction (UAX #9 section 2), which change the displayed order.
fn is_control(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}')
        || matches!(letter, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Displays a text with control characters escaped, except those to keep.
struct Escaped<'a>(&'a str, fn(char) -> bool);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(text, keep) = self;
        for letter in text.chars() {
            match letter {
                letter if !is_control(letter) || keep(letter) => f.write_char(letter)?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                letter if u32::from(letter) < 0x100 => write!(f, "\\x{:02x}", u32::from(letter))?,
                letter => write!(f, "\\u{{{:x}}}", u32::from(letter))?,
            }
        }
        Ok(())
    }
}

fn escaped(text: &str, keep: fn(char) -> bool) -> Cow<'_, str> {
    if text.chars().all(|letter| !is_control(letter) || keep(letter)) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(Escaped(text, keep).to_string())
    }
}

/// Escapes text of several lines for a terminal.
///
/// ```
/// assert_eq!(mirror_user::escape::terminal("a\x1b[2J\nb"), "a\\x1b[2J\nb");
/// ```
#[must_use]
pub fn terminal(text: &str) -> Cow<'_, str> {
    escaped(text, |letter| matches!(letter, '\n' | '\t'))
}

/// Escapes text for a line of a log or a message.
///
/// ```
/// assert_eq!(mirror_user::escape::line("a\nERROR b"), "a\\nERROR b");
/// ```
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// Escapes a path for a line of a log or a message. Bytes that are not UTF-8 are shown as `\xff`.
///
/// ```
/// assert_eq!(mirror_user::escape::path("a\n.pcap").to_string(), "a\\n.pcap");
/// ```
pub fn path<P: AsRef<Path> + ?Sized>(path: &P) -> impl fmt::Display {
    struct Shown<'a>(&'a OsStr);

    impl fmt::Display for Shown<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            for chunk in self.0.as_encoded_bytes().utf8_chunks() {
                Escaped(chunk.valid(), |_| false).fmt(f)?;
                for byte in chunk.invalid() {
                    write!(f, "\\x{byte:02x}")?;
                }
            }
            Ok(())
        }
    }

    Shown(path.as_ref().as_os_str())
}

/// Quotes a word to be pasted into a shell. One with control characters is in `$'…'` (POSIX.1-2024 section
/// 2.2.4).
///
/// ```
/// use mirror_user::escape::shell;
///
/// assert_eq!(shell("ens6"), "ens6");
/// assert_eq!(shell("a;reboot"), "'a;reboot'");
/// assert_eq!(shell("it's"), "'it'\\''s'");
/// assert_eq!(shell("\x1b"), "$'\\x1b'");
/// ```
#[must_use]
pub fn shell(word: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return Cow::Borrowed(word);
    }
    if !word.chars().any(is_control) {
        return Cow::Owned(format!("'{}'", word.replace('\'', "'\\''")));
    }
    let mut quoted = "$'".to_owned();
    for letter in word.chars() {
        match letter {
            '\'' | '\\' => quoted.extend(['\\', letter]),
            letter if is_control(letter) => {
                for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
                    // Writing to a String cannot fail.
                    let _ = write!(quoted, "\\x{byte:02x}");
                }
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('\'');
    Cow::Owned(quoted)
}

/// Quotes a word of a command line in a unit file (systemd.service(5), "Command lines"), where `%` begins a
/// specifier, `$` a variable, and control characters are escaped.
///
/// ```
/// use mirror_user::escape::systemd;
///
/// assert_eq!(systemd("ens6"), "ens6");
/// assert_eq!(systemd("it's"), "\"it's\"");
/// assert_eq!(systemd("100%$"), "\"100%%$$\"");
/// assert_eq!(systemd("\x1b"), "\"\\x1b\"");
/// ```
#[must_use]
pub fn systemd(word: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_@+=:,./-".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return Cow::Borrowed(word);
    }
    let mut quoted = "\"".to_owned();
    for letter in word.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            '%' | '$' => quoted.extend([letter, letter]),
            letter if is_control(letter) => {
                for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
                    // Writing to a String cannot fail.
                    let _ = write!(quoted, "\\x{byte:02x}");
                }
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    Cow::Owned(quoted)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn escaped_text_has_no_control_characters(
            text in "\\PC{0,20}|(?s).{0,40}|[\x00-\u{a0}\u{200e}\u{202a}-\u{202e}]{0,20}",
        ) {
            prop_assert!(!line(&text).chars().any(is_control));
            prop_assert!(!path(&*text).to_string().chars().any(is_control));
            let shown = terminal(&text);
            prop_assert!(shown.chars().all(|letter| matches!(letter, '\n' | '\t') || !is_control(letter)));
            prop_assert!(!shell(&text).chars().any(is_control));
            prop_assert!(!systemd(&text).chars().any(is_control));
            if !text.chars().any(is_control) {
                prop_assert_eq!(&*line(&text), text.as_str());
            }
        }
    }

    #[test]
    fn a_shell_reads_each_quoted_word_unchanged() {
        let words = [
            "",
            "a b",
            "$(reboot)",
            "`id`",
            "a;b&c|d",
            "it's",
            "\"",
            "\\",
            "*",
            "~",
            "#x",
            "!",
            "a\nb",
            "\x1b[31m",
            "ä\u{9b}\u{202e}",
            "\\'\t",
            "-n",
        ];
        let script = words.map(|word| format!("printf '%s\\0' {}\n", shell(word))).concat();
        let output = Command::new("bash").args(["-c", &script]).output().unwrap();
        let read: Vec<_> = output.stdout.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        assert_eq!(read[..words.len()], words, "{script}\n{output:?}");
    }

    #[cfg(unix)]
    #[test]
    fn a_path_of_any_bytes_is_shown_on_one_line() {
        use std::os::unix::ffi::OsStrExt as _;
        let shown = path(Path::new(OsStr::from_bytes(b"a\xff\x1b]0;x\x07\n/\xc2\x9b"))).to_string();
        assert_eq!(shown, "a\\xff\\x1b]0;x\\x07\\n/\\x9b");
    }
}
