//! Compiles expressions with libpcap, and finds the position of syntax errors.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use pcap::{Capture, Dead, Linktype};

use super::{FilterError, program::Encoded};

/// Compiles an expression for Ethernet frames.
pub(super) fn compile(expression: &str) -> Result<Vec<Encoded>, FilterError> {
    let error = |message: String, place| FilterError { expression: expression.to_owned(), message, place };
    let compiler = Compiler::new().map_err(|message| error(message, None))?;
    compiler.compile(expression).map_err(|message| {
        let place = compiler.place(expression, &message);
        let message = match &place {
            Some(place) if place.start >= expression.trim_end().len() => {
                format!("{message}: it ends too early")
            }
            _ => message,
        };
        error(message, place)
    })
}

/// libpcap, configured for Ethernet frames.
struct Compiler(Capture<Dead>);

/// libpcap's messages for syntax errors, which have no position.
const NOT_UNDERSTOOD: [&str; 2] = ["syntax error", "illegal token"];

/// Time limit of the search for an error's position.
const PATIENCE: Duration = Duration::from_secs(2);

impl Compiler {
    fn new() -> Result<Self, String> {
        Capture::dead(Linktype::ETHERNET).map(Self).map_err(|error| text(&error))
    }

    fn compile(&self, expression: &str) -> Result<Vec<Encoded>, String> {
        let program = self.0.compile(expression, true).map_err(|error| text(&error))?;
        program.get_instructions().iter().map(|instruction| encoded(&instruction.to_string())).collect()
    }

    /// The position of an error; `None` if it takes too long to find. libpcap does not report it, so prefixes
    /// of the expression are compiled: the error is at the first word after which no continuation is valid. A
    /// binary search finds that word.
    fn place(&self, expression: &str, message: &str) -> Option<Range<usize>> {
        let words = words(expression);
        if !NOT_UNDERSTOOD.iter().any(|said| message.contains(said)) {
            // The message names the word: `unknown host 'x'`.
            let named = message.split(['\'', '"', '`']).nth(1)?;
            return words.into_iter().find(|word| &expression[word.clone()] == named);
        }
        let deadline = Instant::now() + PATIENCE;
        let beginnings = without_names(expression, &words);
        let (mut right, mut left) = (0, words.len());
        while right < left {
            if Instant::now() > deadline {
                return None;
            }
            let middle = right + (left - right) / 2;
            let (text, ends) = &beginnings;
            if self.is_valid_prefix(&text[..ends[middle]]) { right = middle + 1 } else { left = middle }
        }
        Some(words.into_iter().nth(right).unwrap_or_else(|| {
            let end = expression.trim_end().len();
            end..end
        }))
    }

    /// Whether a prefix can be continued to a valid expression. Not optimized, as the program is not used.
    fn is_valid_prefix(&self, beginning: &str) -> bool {
        /// Continuations: nothing, a name, a number, an address, an expression, the end of an arithmetic one.
        const ENDINGS: [&str; 11] =
            ["", " 1", " 1.2.3.4", " 1::1", " 1:2:3:4:5:6", " 1-2", " tcp", "=1", " 1=1", "]=1", " 1]=1"];
        let open = |sign| beginning.matches(sign).count();
        let missing = ")".repeat(open('(').saturating_sub(open(')')));
        ENDINGS.iter().any(|ending| match self.0.compile(&format!("{beginning}{ending}{missing}"), false) {
            Ok(_) => true,
            Err(error) => !NOT_UNDERSTOOD.iter().any(|said| text(&error).contains(said)),
        })
    }
}

/// An expression with host names replaced by an address, and the end of each word. libpcap resolves names
/// whenever it parses them, which may take seconds; its grammar permits an address wherever it permits a host
/// name.
fn without_names(expression: &str, words: &[Range<usize>]) -> (String, Vec<usize>) {
    let (mut text, mut ends) = (String::new(), Vec::new());
    let (mut end, mut before) = (0, "");
    for place in words {
        text.push_str(&expression[end..place.start]);
        let word = &expression[place.clone()];
        let is_host = match before {
            "host" | "src" | "dst" | "net" => !KEYWORDS.contains(&word),
            "port" | "portrange" | "proto" | "protochain" | "gateway" => false,
            _ => word.contains('.'),
        };
        let is_name = word.starts_with(|first: char| first.is_ascii_alphabetic()) && !word.contains(':');
        text.push_str(if is_host && is_name { "192.0.2.1" } else { word });
        ends.push(text.len());
        (end, before) = (place.end, word);
    }
    (text, ends)
}

/// Keywords that may follow a qualifier.
const KEYWORDS: [&str; 11] =
    ["host", "net", "port", "portrange", "proto", "protochain", "and", "or", "not", "src", "dst"];

/// The words of an expression; brackets and operators are separate words.
fn words(expression: &str) -> Vec<Range<usize>> {
    const ALONE: [char; 10] = ['(', ')', '[', ']', '!', '=', '<', '>', '&', '|'];
    let mut words: Vec<Range<usize>> = Vec::new();
    let mut in_word = false;
    for (at, sign) in expression.char_indices() {
        let end = at + sign.len_utf8();
        if sign.is_whitespace() {
            in_word = false;
        } else if ALONE.contains(&sign) {
            words.push(at..end);
            in_word = false;
        } else if in_word && let Some(last) = words.last_mut() {
            last.end = end;
        } else {
            words.push(at..end);
            in_word = true;
        }
    }
    words
}

/// An instruction as the `pcap` crate displays it: four numbers.
fn encoded(numbers: &str) -> Result<Encoded, String> {
    let not = || format!("an instruction of unknown form: {numbers}");
    let mut numbers_in_order = numbers.split(' ');
    let mut next = || numbers_in_order.next().and_then(|number| number.parse::<u32>().ok()).ok_or_else(not);
    let (code, jt, jf, k) = (next()?, next()?, next()?, next()?);
    let byte = |number: u32| u8::try_from(number).map_err(|_| not());
    Ok(Encoded { code: u16::try_from(code).map_err(|_| not())?, jt: byte(jt)?, jf: byte(jf)?, k })
}

/// libpcap's message, without its common prefix.
fn text(error: &pcap::Error) -> String {
    let text = match error {
        pcap::Error::PcapError(text) => text.clone(),
        pcap::Error::InvalidInputString => "it contains a zero byte".to_owned(),
        other => other.to_string(),
    };
    text.trim_start_matches("can't parse filter expression: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(expression: &str) -> FilterError {
        compile(expression).expect_err("an expression that is none")
    }

    /// The message and the marked word.
    fn wrong_at(expression: &str) -> (String, Option<String>) {
        let FilterError { message, place, .. } = wrong(expression);
        (message, place.map(|place| expression[place].to_owned()))
    }

    #[test]
    fn the_wrong_word_is_named() {
        let syntax = |word: &str| ("syntax error".to_owned(), Some(word.to_owned()));
        assert_eq!(wrong_at("tcp prot 443"), syntax("prot"));
        assert_eq!(wrong_at("host and tcp"), syntax("and"));
        assert_eq!(wrong_at("(tcp or udp)) and ip"), syntax(")"));
        assert_eq!(wrong_at("tcp port 443 and and ip"), syntax("and"));
        assert_eq!(wrong_at("tcp[13 & 2 != 0"), syntax("!"));
        let (message, word) = wrong_at("host no-such-host.invalid or tcp");
        assert_eq!(word.as_deref(), Some("no-such-host.invalid"), "{message}");
        let (message, word) = wrong_at("tcp port htps");
        assert_eq!(word.as_deref(), Some("htps"), "{message}");
    }

    #[test]
    fn an_error_in_a_long_expression_is_found_quickly() {
        for terms in [99, 399] {
            let term =
                |number| format!("(tcp port {number} and host 10.0.{}.{})", number / 256, number % 256);
            let good: Vec<_> = (1..=terms).map(term).collect();
            let bad = good.join(" or ").replacen("port 77 ", "prot 77 ", 1);
            let started = Instant::now();
            assert_eq!(wrong_at(&bad), ("syntax error".to_owned(), Some("prot".to_owned())));
            // Word by word, with the optimizer, it took 9 s for the one and over a minute for the other.
            assert!(started.elapsed() < PATIENCE, "{terms} terms: {:?}", started.elapsed());
        }
    }

    #[test]
    fn names_are_not_resolved_to_find_the_position_of_an_error() {
        let words = |expression: &str| without_names(expression, &words(expression)).0;
        assert_eq!(words("host a.example.com and prot 5"), "host 192.0.2.1 and prot 5");
        assert_eq!(
            words("src gateway-7 or dst host b or c.example"),
            "src 192.0.2.1 or dst host 192.0.2.1 or 192.0.2.1"
        );
        for kept in [
            "tcp port http",
            "src port 5 and dst net 10.0.0.0/8",
            "ether host aa:bb:cc:dd:ee:ff",
            "ip6 host ::1",
        ] {
            assert_eq!(words(kept), kept);
        }
    }

    #[test]
    fn an_expression_that_ends_too_early_is_reported_as_such() {
        for expression in ["tcp port", "(tcp or udp", "not", "ip host 10.0.0.1 and ", "tcp[13] & 2 !="] {
            let error = wrong(expression);
            let end = expression.trim_end().len();
            assert_eq!(error.place, Some(end..end), "{error}");
            assert!(error.message.ends_with("it ends too early"), "{error}");
        }
    }

    #[test]
    fn an_error_shows_the_expression_and_marks_the_position() {
        assert_eq!(
            wrong("tcp prot 443").to_string(),
            "filter expression: syntax error\n  tcp prot 443\n      ^^^^"
        );
        assert_eq!(
            wrong("tcp port").to_string(),
            "filter expression: syntax error: it ends too early\n  tcp port\n          ^"
        );
        assert_eq!(wrong("tcp and udp and vlan 5000").place, None);
        assert!(wrong("tcp\0").message.contains("zero byte"));
    }

    #[test]
    fn words_are_split_as_in_libpcap() {
        let expression = "tcp[13]&2!=0 and (net 10.0.0.0/8)";
        let words: Vec<_> = words(expression).into_iter().map(|word| &expression[word]).collect();
        assert_eq!(
            words,
            ["tcp", "[", "13", "]", "&", "2", "!", "=", "0", "and", "(", "net", "10.0.0.0/8", ")"]
        );
    }
}
