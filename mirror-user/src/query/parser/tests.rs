use super::super::Query;

fn printed(query: &str) -> String {
    Query::parse(query).unwrap_or_else(|error| panic!("{error}")).to_string()
}

#[test]
fn operators_bind_as_they_should() {
    for (query, expected) in [
        ("filter a = 1 or b = 2 and not c = 3", "filter ((a = 1) or ((b = 2) and (not (c = 3))))"),
        ("filter a - b - c * d ^ 2 % e < 1", "filter (((a - b) - ((c * (d ^ 2)) % e)) < 1)"),
        ("filter -a < - 1 and (a or b)", "filter (((-a) < (-1)) and (a or b))"),
        ("filter a not like 'x' and b not in [1]", "filter ((not (a like \"x\")) and (not (b in [1])))"),
        ("filter a =~ /x/ and b / 2 > 1", "filter ((a like /x/) and ((b / 2) > 1))"),
    ] {
        assert_eq!(printed(query), expected);
    }
}

#[test]
fn commands_are_understood() {
    for (query, expected) in [
        ("FIELDS a AS b, `c-d` | WHERE a = 1", "fields a as b, `c-d`\n| filter (a = 1)"),
        ("parse '* *' as a, b | parse c /(?<d>x)/", "parse \"* *\" as a, b\n| parse c /(?<d>x)/"),
        ("parse c /(x)(y)/ as d, e", "parse c /(x)(y)/ as d, e"),
        (
            "stats count(), count(*) by bin(5 min), datefloor(@timestamp, 1h) as t",
            "stats count(*), count(*) by bin(5m), datefloor(@timestamp, 1h) as t",
        ),
        ("sort by a desc, b | limit 5 | dedup a, b", "sort a desc, b asc\n| limit 5\n| dedup a, b"),
    ] {
        assert_eq!(printed(query), expected);
    }
}

#[test]
fn errors_say_what_is_wrong_and_where() {
    for (query, place, message) in [
        ("", 0..0, "expected a command (fields, "),
        ("fields", 6..6, "expected a field, a value or a function, found the end of the query"),
        ("fields a b", 9..10, "expected `|` or the end of the query, found `b`"),
        ("pattern @message", 0..7, "CloudWatch knows the command `pattern`, this tool does not"),
        ("source 'x'", 0..6, "CloudWatch knows the command `SOURCE`, this tool does not"),
        ("select a", 0..6, "`select` is no command; expected one of: fields, display"),
        ("fields jsonparse(a)", 7..16, "CloudWatch knows the function `jsonParse`, this tool does not"),
        ("fields foo(a)", 7..10, "`foo` is no function; the functions are: abs, bin"),
        ("fields abs(a, b)", 7..16, "`abs` takes 1 argument, not 2"),
        ("fields strcontains(a)", 7..21, "`strcontains` takes 2 to 3 arguments, not 1"),
        ("limit any 5", 6..9, "CloudWatch knows the option `limit any`"),
        ("limit 1.5", 6..9, "expected a whole number of rows, found `1.5`"),
        ("filter a == 1", 9..11, "expected `=`, which compares, found `==`"),
        ("filter a like /(/", 14..17, "the regular expression is not valid: unclosed group"),
        ("filter a like /x", 14..15, "the regular expression is not closed"),
        ("filter a like %x%", 14..15, "CloudWatch knows the pattern `like %…%`"),
        ("filter a in (1, 2)", 12..13, "expected a list in square brackets"),
        ("filter isIpv4InSubnet(a, '::/0')", 25..31, "`::/0` is no subnet of that family"),
        ("parse @message '* *' as a", 15..20, "the pattern has 2 `*`s for 1 name;"),
        ("parse @message 'a'", 15..18, "the pattern has 0 `*`s for 0 names;"),
        ("parse @message /(a)/", 20..20, "expected `as` and names for the groups"),
        ("stats count(*) by bin(1x)", 22..24, "expected a period: a number and one of ms, s"),
        ("fields a | filter sum(b) > 1", 18..21, "`sum` aggregates: only the first part of `stats`"),
        ("stats sum(max(a))", 10..13, "`max` aggregates"),
        ("stats sum(a) by b | sort count(*)", 25..33, "`count(*)` is no column of `stats`"),
        ("stats sum(a) as n by b | sort c", 30..31, "there is no `c` after `stats`; its columns are: b, n"),
        ("stats bytes by a", 6..11, "`bytes` is neither in an aggregate function nor in `by`"),
        ("stats count(*) | stats count(*) | stats count(*)", 34..48, "a query may have 2 `stats`"),
        ("dedup a | sort a", 10..16, "only `limit` may follow `dedup`"),
        ("fields pkt-srcaddr", 7..18, "`pkt-srcaddr` is a subtraction in this language"),
        ("stats pct(a, b)", 13..14, "`pct` wants a number from 0 to 100"),
        ("fields a as 5", 12..13, "expected a name, found `5`"),
        ("fields a;", 8..9, "found `;`"),
    ] {
        let error = Query::parse(query).expect_err(query);
        assert_eq!(error.span(), place, "{query}\n{error}");
        assert!(error.kind().to_string().contains(message), "{query}\n{error}");
    }
}

#[test]
fn trees_are_of_a_bounded_depth() {
    let long = |terms: usize| format!("filter {} > 0", vec!["1"; terms].join("+"));
    assert!(Query::parse(&long(101)).is_ok());
    assert!(Query::parse(&long(100_000)).is_err());
    for (open, close) in [("(", ")"), ("abs(", ")"), ("not ", ""), ("-", ""), ("1 in [", "]")] {
        let nested = |depth: usize| format!("filter {}1{}", open.repeat(depth), close.repeat(depth));
        assert!(Query::parse(&nested(32)).is_ok(), "{open}");
        assert!(Query::parse(&nested(33)).is_err(), "{open}");
        assert!(Query::parse(&nested(100_000)).is_err(), "{open}");
    }
    assert!(Query::parse(&format!("filter a = 1{}", " or a = 1".repeat(10_000))).is_ok());
}
