use proptest::prelude::*;

use super::*;

fn parts<'t>(pattern: &Pattern, text: &'t str) -> Option<Vec<&'t str>> {
    let matcher = Matcher::new(pattern);
    let mut found = vec![""; 8];
    let mut count = 0;
    let slots = [0, 1, 2, 3, 4, 5, 6, 7].map(Some);
    let is_match = matcher.parts(text, &mut matcher.room(), &slots, |part, text| {
        found[part] = text;
        count = count.max(part + 1);
    });
    found.truncate(count);
    is_match.then_some(found)
}

fn glob_parts<'t>(pattern: &str, text: &'t str) -> Option<Vec<&'t str>> {
    parts(&Pattern::Glob(pattern.to_owned()), text)
}

#[test]
fn a_star_is_the_shortest_text_and_the_last_takes_the_rest() {
    for (pattern, text, expected) in [
        ("* * *", "a b c d", Some(vec!["a", "b", "c d"])),
        ("* *", "a  b", Some(vec!["a", " b"])),
        ("* * *", "a b", None),
        ("*", "", Some(vec![""])),
        ("user=*, id:*;", "x user=me, id:7; y;", Some(vec!["me", "7"])),
        ("user=*, id:*", "user=me, id:7; y", Some(vec!["me", "7; y"])),
        ("[*] *", "2026 [INFO] it [x]", Some(vec!["INFO", "it [x]"])),
        ("*a**", "xay", Some(vec!["x", "", "y"])),
        ("=*=", "é=ü=", Some(vec!["ü"])),
        ("user=*", "nobody", None),
    ] {
        assert_eq!(glob_parts(pattern, text), expected, "{pattern} of {text}");
    }
}

#[test]
fn groups_of_a_regular_expression_are_parts() {
    let named = Pattern::Regex(Regex::new("(?<a>x)(y)?(?<b>z)").unwrap());
    assert_eq!(parts(&named, "..xyz"), Some(vec!["x", "z"]));
    let plain = Pattern::Regex(Regex::new("(x)(y)?(z)").unwrap());
    assert_eq!(parts(&plain, "xz"), Some(vec!["x", "", "z"]));
    assert_eq!(parts(&plain, "yz"), None);
}

proptest! {
    #[test]
    fn a_split_is_the_glob_that_it_stands_for(
        text in "[ab ü]{0,40}",
        wanted in prop::collection::vec(any::<bool>(), 1..8),
        more in 0..4_usize,
    ) {
        let stars = wanted.len() + more;
        let slots: Vec<_> = wanted.iter().enumerate().map(|(slot, wanted)| wanted.then_some(slot)).collect();
        let pattern = vec!["*"; stars].join(" ");
        let literals: Vec<_> =
            pattern.split('*').map(|literal| Finder::new(literal.as_bytes()).into_owned()).collect();
        let (mut globbed, mut divided) = (Vec::new(), Vec::new());
        let is_glob = glob(&literals, &text, &slots, |slot, part| globbed.push((slot, part)));
        let is_split = split(stars, &text, &slots, |slot, part| divided.push((slot, part)));
        prop_assert_eq!(is_glob, is_split);
        if is_glob {
            prop_assert_eq!(globbed, divided);
        }
    }

    #[test]
    fn no_pattern_cuts_a_character(pattern in "[*aü ]{0,6}", text in "[aü ]{0,8}") {
        if let Some(parts) = glob_parts(&pattern, &text) {
            prop_assert!(parts.iter().all(|part| text.contains(part)));
        }
    }
}
