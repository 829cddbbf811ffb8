//! Any bytes as the head of an HTTP request: a request that is in them, the beginning of one, or a refusal;
//! and the same however many of its bytes have come before.
#![no_main]

use libfuzzer_sys::fuzz_target;

use crate::request::{LONGEST, Parsed, parse};

/// The parser is the command's own.
#[path = "../../mirror-user/src/bin/mirror/http/request.rs"]
mod request;
#[path = "../../mirror-user/src/bin/mirror/http/status.rs"]
#[expect(dead_code, reason = "the parser refuses with some of them")]
mod status;

fuzz_target!(|bytes: &[u8]| {
    // The server reads no more.
    let bytes = &bytes[..bytes.len().min(LONGEST)];
    let parsed = parse(bytes);
    match parsed {
        Parsed::Request(request) => {
            let has = |text: &str| bytes.windows(text.len().max(1)).any(|part| part == text.as_bytes());
            assert!(request.path.starts_with('/') && has(request.path));
            assert!(bytes.len() <= LONGEST && has(if request.head { "HEAD" } else { "GET" }));
            assert!(request.host.is_none_or(|host| host.is_empty() || has(host)));
        }
        Parsed::Partial => assert!(bytes.len() < LONGEST),
        Parsed::Refused(status) => assert!(status.line().starts_with('4')),
    }
    // A request that arrives in pieces is partial until it is what it is: at a prefix, it is never another
    // request, and one that was refused stays so.
    for end in 0..bytes.len() {
        match parse(&bytes[..end]) {
            Parsed::Partial => {}
            Parsed::Request(request) => {
                assert_eq!(parsed, Parsed::Request(request));
                break;
            }
            Parsed::Refused(_) => {
                assert!(matches!(parsed, Parsed::Refused(_)));
                break;
            }
        }
    }
});
