//! The head of a request, from bytes that anybody may have sent.

use httparse::{EMPTY_HEADER, Error, Header};

use super::status::Status;

/// The longest head that is read, in bytes.
pub(super) const LONGEST: usize = 4096;
/// The longest target, in bytes.
const LONGEST_TARGET: usize = 1024;
/// The most header fields.
const FIELDS: usize = 48;

/// A request whose head is complete.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Request<'b> {
    /// Whether it is HEAD instead of GET.
    pub(super) head: bool,
    /// The target's path, without its query.
    pub(super) path: &'b str,
    /// The field Host; HTTP/1.0 may do without.
    pub(super) host: Option<&'b str>,
}

/// What some bytes are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Parsed<'b> {
    Request(Request<'b>),
    /// The beginning of a head.
    Partial,
    Refused(Status),
}

/// Parses the head of a request: RFC 9112, sections 2 to 3.2. GET and HEAD, in origin form, without content.
pub(super) fn parse(bytes: &[u8]) -> Parsed<'_> {
    let mut fields = [EMPTY_HEADER; FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= LONGEST => {}
        Ok(httparse::Status::Partial) if bytes.len() < LONGEST => return Parsed::Partial,
        Ok(_) if request.path.is_none() => return Parsed::Refused(Status::UriTooLong),
        Ok(_) | Err(Error::TooManyHeaders) => return Parsed::Refused(Status::HeadersTooLarge),
        Err(_) => return Parsed::Refused(Status::BadRequest),
    }
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Parsed::Refused(Status::BadRequest);
    };
    let head = match method {
        "GET" => false,
        "HEAD" => true,
        _ => return Parsed::Refused(Status::MethodNotAllowed),
    };
    if target.len() > LONGEST_TARGET {
        return Parsed::Refused(Status::UriTooLong);
    }
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let host = match host(request.headers) {
        Ok(host) if host.is_some() || minor == 0 => host,
        // Section 3.2: without the field, or with several, the answer is 400.
        _ => return Parsed::Refused(Status::BadRequest),
    };
    if !path.starts_with('/') {
        return Parsed::Refused(Status::BadRequest);
    }
    if has_content(request.headers) {
        return Parsed::Refused(Status::ContentTooLarge);
    }
    Parsed::Request(Request { head, path, host })
}

/// The field Host; an error if there are several, or it is no text.
fn host<'b>(fields: &[Header<'b>]) -> Result<Option<&'b str>, Status> {
    let mut hosts = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("host"));
    let host = hosts.next().map(|field| std::str::from_utf8(field.value)).transpose();
    match (host, hosts.next()) {
        (Ok(host), None) => Ok(host.map(str::trim)),
        _ => Err(Status::BadRequest),
    }
}

fn has_content(fields: &[Header<'_>]) -> bool {
    fields.iter().any(|field| {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        is("transfer-encoding") || is("content-length") && field.value.trim_ascii() != b"0"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(text: &str) -> Status {
        match parse(text.as_bytes()) {
            Parsed::Refused(status) => status,
            parsed => panic!("{text:?}: {parsed:?}"),
        }
    }

    #[test]
    fn a_request_is_get_or_head_with_a_path_and_a_host() {
        let parsed = parse(b"GET /health?probe=1 HTTP/1.1\r\nHOST: localhost:80\r\nX: 1\r\n\r\n");
        let expected = Request { head: false, path: "/health", host: Some("localhost:80") };
        assert_eq!(parsed, Parsed::Request(expected));
        let parsed = parse(b"HEAD / HTTP/1.0\n\n");
        assert_eq!(parsed, Parsed::Request(Request { head: true, path: "/", host: None }));
    }

    #[test]
    fn the_beginning_of_a_request_is_partial_until_it_is_too_long() {
        let whole = b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n";
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]), Parsed::Partial, "{end}");
        }
        let target = format!("GET /{}", "a".repeat(LONGEST));
        assert_eq!(status(&target), Status::UriTooLong);
        let field = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "a".repeat(LONGEST));
        assert_eq!(status(&field), Status::HeadersTooLarge);
        assert_eq!(status(&format!("{field}\r\n\r\n")), Status::HeadersTooLarge);
        let fields = "X: 1\r\n".repeat(FIELDS + 1);
        assert_eq!(status(&format!("GET / HTTP/1.1\r\n{fields}\r\n")), Status::HeadersTooLarge);
    }

    #[test]
    fn what_is_not_such_a_request_has_its_status() {
        let host = "Host: a\r\n\r\n";
        for (head, expected) in [
            ("POST / HTTP/1.1\r\n", Status::MethodNotAllowed),
            ("DELETE /health HTTP/1.1\r\n", Status::MethodNotAllowed),
            ("GET http://a/ HTTP/1.1\r\n", Status::BadRequest),
            ("GET * HTTP/1.1\r\n", Status::BadRequest),
            ("GET / HTTP/2.0\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: b\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: \u{fffd}\r\nX\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nContent-Length: 7\r\n", Status::ContentTooLarge),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n", Status::ContentTooLarge),
            ("\u{16}\u{3}\u{1}\u{2}", Status::BadRequest),
        ] {
            assert_eq!(status(&format!("{head}{host}")), expected, "{head:?}");
        }
        let long = format!("GET /{} HTTP/1.1\r\n{host}", "a".repeat(LONGEST_TARGET));
        assert_eq!(status(&long), Status::UriTooLong);
        assert_eq!(status("GET / HTTP/1.1\r\nX: 1\r\n\r\n"), Status::BadRequest, "no Host");
        let without = "GET / HTTP/1.1\r\nContent-Length: 0\r\n";
        assert!(matches!(parse(format!("{without}{host}").as_bytes()), Parsed::Request(_)));
    }
}
