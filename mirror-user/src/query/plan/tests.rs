use super::super::{Query, ast::Direction};
use super::{super::expression::Place, *};

fn plan(query: &str) -> std::sync::Arc<Plan> {
    Query::parse(query).unwrap_or_else(|error| panic!("{error}")).plan
}

#[test]
fn what_nothing_reads_is_not_done() {
    let plan = plan(
        "fields bytes * 8 as bits | parse '* * *' as a, b, c | parse b '*-*' as d, e | stats count(*) by b",
    );
    let [Step::Parse(parse)] = plan.stages[0].steps.as_slice() else { panic!("{:?}", plan.stages[0].steps) };
    assert_eq!(parse.slots.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true]);
    assert_eq!(plan.columns, ["@message"]);
}

#[test]
fn the_latest_of_a_name_is_meant() {
    let plan = plan("fields x | filter x = 1 | parse '*' as x | filter x = 2 | sort x");
    assert_eq!(plan.columns, ["x", "@message"]);
    assert_eq!(plan.labels, ["x"]);
    let End::Collect(collect) = &plan.stages[0].end else { panic!() };
    assert!(matches!(collect.kept.as_slice(), [Compiled::Place(Place::Computed(0))]));
    assert!(matches!(collect.keys.as_slice(), [(Compiled::Place(Place::Computed(0)), Direction::Ascending)]));
}

#[test]
fn a_sort_before_stats_costs_nothing() {
    let plan = plan("sort bytes | stats count(*)");
    assert_eq!(plan.columns, [""; 0]);
}

#[test]
fn an_explicit_limit_replaces_the_default_one() {
    let limits = |query: &str| {
        let plan = plan(query);
        let limits = plan.stages.iter().map(|stage| match &stage.end {
            End::Collect(collect) => collect.limit,
            End::Group(_) => None,
        });
        limits.collect::<Vec<_>>()
    };
    assert_eq!(limits("limit 20000"), [Some(20_000), None]);
    assert_eq!(limits("limit 5 | stats count(*) by a"), [Some(5), None, Some(DEFAULT_LIMIT)]);
    assert_eq!(limits("dedup a"), [None, Some(DEFAULT_LIMIT)]);
}
