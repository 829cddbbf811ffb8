use super::*;

#[test]
fn text_and_integers_meet_in_one_group() {
    let query = Query::parse("stats count(*) by dstPort | sort dstPort").unwrap();
    let mut execution = Execution::new(&query, Limits::default());
    for value in [Value::Integer(443), Value::text("443"), Value::text("0443"), Value::text("-"), Value::Null]
    {
        execution.push(&[value]).unwrap();
    }
    assert_eq!(execution.finish().unwrap().to_csv(), "dstPort,count(*)\n,1\n-,1\n443,2\n0443,1\n");
}

#[test]
fn records_are_counted() {
    let query = Query::parse("filter a > 1 | stats sum(a)").unwrap();
    let mut execution = Execution::new(&query, Limits::default());
    for value in 0..5 {
        execution.push(&[Value::Integer(value)]).unwrap();
    }
    assert_eq!(execution.scanned(), 5);
    let table = execution.finish().unwrap();
    assert_eq!((table.scanned, table.matched), (5, 3));
}

#[test]
fn keys_of_every_kind_come_back() {
    let query = Query::parse("stats count(*) by a, b").unwrap();
    let mut execution = Execution::new(&query, Limits::default());
    let rows = [
        [Value::Null, Value::Null],
        [Value::Timestamp(5), Value::Number(0.5)],
        [Value::text(""), Value::text("é|-")],
        [Value::Integer(i64::MIN), Value::text("-0")],
    ];
    for row in &rows {
        execution.push(row).unwrap();
    }
    let table = execution.finish().unwrap();
    let keys: Vec<_> = table.rows.iter().map(|row| [row[0].clone(), row[1].clone()]).collect();
    assert_eq!(keys, rows);
}

#[test]
fn a_bounded_sort_is_the_first_part_of_a_full_one() {
    let run = |query: &str| {
        let query = Query::parse(query).unwrap();
        let mut execution = Execution::new(&query, Limits::default());
        let mut state: u64 = 1;
        for number in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = i64::try_from(state >> 56).unwrap();
            execution.push(&[Value::Integer(key), Value::Integer(number)]).unwrap();
        }
        execution.finish().unwrap().rows
    };
    let all = run("sort key desc | fields key, n | limit 30000");
    let some = run("sort key desc | fields key, n | limit 700");
    assert_eq!(all.len(), 20_000);
    assert_eq!(some, all[..700]);
}
