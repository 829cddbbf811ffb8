use super::{super::tests::WORKSHOP, *};

fn sql(query: &str, dialect: Dialect) -> Result<String, SqlError> {
    to_sql(&Query::parse(query).unwrap_or_else(|error| panic!("{error}")), dialect, "flow_logs")
}

#[test]
fn the_queries_of_the_workshop_name_the_columns() {
    let second = sql(WORKSHOP[1], Dialect::Athena).unwrap();
    assert_eq!(
        second,
        "SELECT \"srcaddr\", \"dstaddr\", \"flow_direction\", \"Data_Transferred\"\nFROM (\n\
         SELECT \"srcaddr\", \"dstaddr\", \"flow_direction\", sum(\"bytes\") AS \"Data_Transferred\"\n\
         FROM flow_logs\nGROUP BY \"srcaddr\", \"dstaddr\", \"flow_direction\"\n) AS t\n\
         ORDER BY \"Data_Transferred\" DESC NULLS LAST\nLIMIT 2"
    );
    let fourth = sql(WORKSHOP[3], Dialect::Spark).unwrap();
    assert!(
        fourth.contains("WHERE ((`action` = 'REJECT') AND (`protocol` = 6) AND (`dstport` = 22))"),
        "{fourth}"
    );
    let fifth = sql(WORKSHOP[4], Dialect::DuckDb).unwrap();
    assert!(fifth.contains("count(\"action\") AS \"redjects\"") && fifth.ends_with("LIMIT 10000"), "{fifth}");
    let first = sql(WORKSHOP[0], Dialect::DuckDb).unwrap();
    assert!(
        first.contains("make_timestamp((\"start\") * 1000000) AS \"@timestamp\", \"account_id\", "),
        "{first}"
    );
    assert!(
        first.contains("\"end\", \"flow_direction\"") && first.ends_with("DESC NULLS LAST\nLIMIT 20"),
        "{first}"
    );
}

#[test]
fn values_that_are_missing_are_those_that_text_has_as_a_hyphen() {
    for (condition, expected) in [
        ("bytes != '-'", "(\"bytes\" IS NOT NULL)"),
        ("bytes = '-'", "(\"bytes\" IS NULL)"),
        ("vpcId = '-'", "(COALESCE(\"vpc_id\", '-') = '-')"),
        ("dstPort = '443'", "(\"dstport\" = 443)"),
        ("vpcId > 5", "(TRY_CAST(\"vpc_id\" AS DOUBLE) > 5)"),
        ("dstPort in [80, '443']", "((\"dstport\" = 80) OR (\"dstport\" = 443))"),
        ("not (action like 'A%')", "(NOT (\"action\" LIKE '%A!%%' ESCAPE '!'))"),
        ("action like /it's/", "regexp_like(\"action\", 'it''s')"),
        ("ispresent(start)", "(\"start\" IS NOT NULL)"),
        (
            "isIpv4InSubnet(srcAddr, '10.0.0.0/9')",
            "contains(CAST('10.0.0.0/9' AS IPPREFIX), TRY_CAST(\"srcaddr\" AS IPADDRESS))",
        ),
        ("toMillis(@timestamp) > 5", "((\"start\" * 1000) > 5)"),
    ] {
        let text = sql(&format!("filter {condition} | stats count(*)"), Dialect::Athena).unwrap();
        assert!(
            text.contains(&format!("WHERE {expected}\n")) || text.contains(&format!("WHERE {expected})")),
            "{text}"
        );
    }
}

#[test]
fn times_are_binned_as_each_dialect_does() {
    for (dialect, period, expected) in [
        (Dialect::Athena, "1h", "from_unixtime(\"start\" - \"start\" % 3600)"),
        (Dialect::Spark, "5m", "timestamp_seconds(`start` - `start` % 300)"),
        (Dialect::DuckDb, "1w", "make_timestamp((\"start\" - (\"start\" - 345600) % 604800) * 1000000)"),
        (Dialect::Spark, "1mo", "date_trunc('month', timestamp_seconds(`start`))"),
    ] {
        let text = sql(&format!("stats count(*) by bin({period}) as t | sort t"), dialect).unwrap();
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn aggregates_and_what_is_made_of_them() {
    let text = sql(
        "stats max(bytes) as p, min(bytes) as q, p - q as r, pct(bytes, 95), latest(action) by srcAddr | \
         filter r > 1",
        Dialect::Spark,
    )
    .unwrap();
    for part in [
        "(max(`bytes`) - min(`bytes`)) AS `r`",
        "percentile_approx(`bytes`, 0.95) AS `pct(bytes, 95)`",
        "max_by(`action`, `start`) AS `latest(action)`",
        "WHERE (`r` > 1)",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn what_has_no_counterpart_is_named() {
    for (query, named) in [
        ("dedup srcAddr", "`dedup`"),
        ("filter nothing = 1 | stats count(*)", "`nothing`"),
        ("parse @message '* [*]' as a, b | stats count(*) by a", "29 stars"),
        ("filter @message like 'x' | stats count(*)", "`@message`"),
        ("stats count(*) by bin(100ms)", "`bin(100ms)`"),
        ("fields substr(action, 1)", "`substr(action, 1)`"),
        ("filter action = 'x'", "@message"),
        ("filter @timestamp > 5 | stats count(*)", "`@timestamp`"),
    ] {
        let error = sql(query, Dialect::DuckDb).expect_err(query).to_string();
        assert!(error.contains(named), "{query}: {error}");
    }
}

#[test]
fn text_cannot_leave_its_quotes() {
    assert_eq!(Dialect::Athena.text("a'b\\"), "'a''b\\'");
    assert_eq!(Dialect::Spark.text("a'b\\"), "'a\\'b\\\\'");
    assert_eq!(Dialect::Spark.quoted("a`b"), "`a``b`");
    assert_eq!(Dialect::DuckDb.quoted("a\"b"), "\"a\"\"b\"");
}
