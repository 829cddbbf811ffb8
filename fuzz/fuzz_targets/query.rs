//! Any text as a query: one that prints as a query which means the same, and that runs over records with
//! such fields and as many rows as its limits allow; or an error with a place in the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mirror_user::query::{Execution, Limits, Query, Value, sql};

fuzz_target!(|input: (&str, Vec<Option<&str>>)| {
    let (text, values) = input;
    let query = match Query::parse(text) {
        Ok(query) => query,
        Err(error) => {
            let span = error.span();
            assert!(span.start <= span.end && span.start <= text.len());
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let printed = query.to_string();
    let again = Query::parse(&printed).unwrap_or_else(|error| panic!("{printed}\n{error}"));
    assert_eq!(again.to_string(), printed);
    assert_eq!(again.columns(), query.columns());
    for dialect in [sql::Dialect::Athena, sql::Dialect::Spark, sql::Dialect::DuckDb] {
        let _ = sql::to_sql(&query, dialect, "t");
    }
    let mut execution = Execution::new(&query, Limits::with_memory(1 << 16));
    let width = query.columns().len();
    let values: Vec<_> = values.into_iter().map(|value| value.map_or(Value::Null, Value::text)).collect();
    for record in values.chunks_exact(width.max(1)) {
        if execution.push(record.get(..width).unwrap_or_default()).is_err() {
            return;
        }
    }
    if let Ok(table) = execution.finish() {
        assert!(table.rows.iter().all(|row| row.len() == table.columns.len()));
        assert!(table.matched <= table.scanned);
        let _ = (table.to_text(), table.to_csv(), table.to_json());
    }
});
