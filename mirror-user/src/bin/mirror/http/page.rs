//! The page for people: one file, which draws what it asks `/report` and `/health` for.

use std::hash::{BuildHasher as _, RandomState};

use super::{
    answers::{Response, response},
    status::Status,
};

const PAGE: &str = include_str!("page.html");
/// Where the page has the nonce of its style and its script.
const NONCE: &str = "NONCE";

/// The page, which may load nothing and connect only to where it came from.
pub(super) fn response_of_page(head: bool, nonce: &str) -> Response {
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; \
        base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let fields = [("Content-Security-Policy", policy.as_str()), ("Referrer-Policy", "no-referrer")];
    let body = PAGE.replace(NONCE, nonce).into_bytes();
    response(Status::Ok, "text/html; charset=utf-8", &fields, body.into(), head)
}

/// The page, with a nonce of its own.
pub(super) fn page(head: bool) -> Response {
    // Keyed with random numbers of the system, which nobody else knows.
    let random = RandomState::new();
    response_of_page(head, &format!("{:016x}{:016x}", random.hash_one(0), random.hash_one(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(response: &Response) -> String {
        String::from_utf8([&response.head[..], &response.body[..]].concat()).unwrap()
    }

    #[test]
    fn style_and_script_have_the_nonce_of_the_policy_and_no_two_pages_the_same() {
        let (one, other) = (text(&page(false)), text(&page(false)));
        let nonce = one.split_once("script-src 'nonce-").unwrap().1.split_once('\'').unwrap().0;
        assert_eq!(nonce.len(), 32);
        for tag in ["style", "script"] {
            assert_eq!(one.matches(&format!("<{tag}")).count(), 1);
            assert_eq!(one.matches(&format!("<{tag} nonce=\"{nonce}\">")).count(), 1);
        }
        assert!(!one.contains(NONCE) && !other.contains(nonce));
    }

    #[test]
    fn the_page_loads_nothing_and_inserts_names_as_text() {
        let assets = ["src=", "href=", "url(", "@import", "http://", "https://", "import(", "XMLHttpRequest"];
        // Ways to turn text into elements or code.
        let unsafe_ways = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "Function(",
            "style=",
        ];
        for words in assets.iter().chain(&unsafe_ways) {
            assert!(!PAGE.contains(words), "{words}");
        }
        for handler in ["onclick", "onload", "onerror", "javascript:"] {
            assert!(!PAGE.contains(handler), "{handler}: the policy forbids it");
        }
    }
}
