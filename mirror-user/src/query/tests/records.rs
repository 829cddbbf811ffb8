//! A few records, and a run over them.

use super::super::{Execution, Limits, Query, QueryError, Table, Value, field_key};
use crate::flow_log::Format;

/// A record: fields by their key.
#[derive(Clone, Debug)]
pub(super) struct Record {
    fields: Vec<(String, Value<'static>)>,
}

impl Record {
    /// A record of `select-all-v5`, at 2026-11-28 05:12:00 UTC.
    pub(super) fn new(action: &str, source: &str, bytes: &str) -> Self {
        Self::full(1_795_842_720, action, source, "10.0.1.9", "443", bytes, "i-0aa")
    }

    /// A record of nothing but its time, in ms.
    pub(super) fn at(millis: i64) -> Self {
        Self { fields: vec![("@timestamp".to_owned(), Value::Timestamp(millis))] }
    }

    pub(super) fn full(
        start: i64,
        action: &str,
        source: &str,
        destination: &str,
        port: &str,
        bytes: &str,
        instance: &str,
    ) -> Self {
        let end = start + 59;
        let message = format!(
            "123456789010 {action} use1-az1 {bytes} {destination} {port} {end} ingress {instance} eni-0b OK \
             3 - {destination} - {source} 6 us-east-1 {source} 50123 {start} - - subnet-0c 2 - IPv4 5 vpc-0d"
        );
        let format = Format::select_all_v5();
        let names = format.fields().iter().map(|field| field_key(field.name()));
        let values = message.split(' ').map(|word| Value::Text(word.to_owned().into()));
        let mut fields: Vec<_> = names.zip(values).collect();
        fields.push(("@message".to_owned(), Value::Text(message.clone().into())));
        fields.push(("@timestamp".to_owned(), Value::Timestamp(start * 1000)));
        Self { fields }
    }

    fn value(&self, name: &str) -> Value<'_> {
        let key = field_key(name);
        let found = self.fields.iter().find(|(known, _)| *known == key);
        found.map_or(Value::Null, |(_, value)| value.borrowed())
    }
}

pub(super) fn run(query: &str, records: &[Record]) -> Table {
    run_with(query, records, Limits::default().memory).unwrap_or_else(|error| panic!("{query}\n{error}"))
}

pub(super) fn run_with(query: &str, records: &[Record], memory: usize) -> Result<Table, QueryError> {
    let query = Query::parse(query).unwrap_or_else(|error| panic!("{query}\n{error}"));
    let mut execution = Execution::new(&query, Limits::with_memory(memory));
    for record in records {
        let values: Vec<_> = query.columns().iter().map(|column| record.value(column)).collect();
        execution.push(&values)?;
    }
    execution.finish()
}
