use serde_json::json;

use super::*;

fn table() -> Table {
    Table {
        columns: vec!["name".to_owned(), "n".to_owned()],
        rows: vec![
            vec![Value::text("a \"b\", c\n"), Value::Integer(5)],
            vec![Value::text("é"), Value::Number(1234.5)],
            vec![Value::Timestamp(0), Value::Null],
        ],
        is_cut: false,
        scanned: 7,
        matched: 3,
        notes: Vec::new(),
    }
}

#[test]
fn text_is_aligned() {
    let expected = [
        "name                     n",
        "-----------------------  ------",
        "a \"b\", c                      5",
        "é                        1234.5",
        "1970-01-01 00:00:00.000",
        "",
    ];
    assert_eq!(table().to_text(), expected.join("\n"));
}

#[test]
fn csv_quotes_what_needs_it() {
    assert_eq!(table().to_csv(), "name,n\n\"a \"\"b\"\", c\n\",5\né,1234.5\n1970-01-01 00:00:00.000,\n");
    let one = Table { columns: vec!["n".to_owned()], rows: vec![vec![Value::Null]], ..table() };
    assert_eq!(one.to_csv(), "n\n\"\"\n");
}

#[test]
fn json_is_that_of_get_query_results() {
    let expected = json!({
        "queryLanguage": "CWLI",
        "results": [
            [{"field": "name", "value": "a \"b\", c\n"}, {"field": "n", "value": "5"}],
            [{"field": "name", "value": "é"}, {"field": "n", "value": "1234.5"}],
            [{"field": "name", "value": "1970-01-01 00:00:00.000"}],
        ],
        "statistics": {"recordsMatched": 3, "recordsScanned": 7},
        "status": "Complete",
    });
    assert_eq!(table().to_json(), expected);
}
