//! A record as the values that a query reads.

use std::fmt::Write as _;

use mirror_user::{
    flow_log::Format,
    query::{Query, Value, field_key},
};

/// What a column of a query is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Column {
    /// `@message`: the record as a line.
    Message,
    /// `@timestamp`: as in CloudWatch Logs, when the record starts.
    Timestamp(Option<usize>),
    /// `@logStream`: as in CloudWatch Logs, the interface and `-all`.
    LogStream(Option<usize>),
    /// `@log`: the file.
    Log,
    /// A field, by its place among those that are read of the file.
    Field(usize),
    /// The file has none of this name.
    Absent,
}

/// Which fields of a file are read, and how the columns of a query are made of them.
#[derive(Debug)]
pub(super) struct Columns {
    columns: Vec<Column>,
    /// The fields to read, by their positions in the file.
    pub(super) fields: Vec<usize>,
    /// The places of those that a line of `@message` is made of; none if it is the line of the file.
    message: Option<Vec<Option<usize>>>,
}

impl Columns {
    /// For a file that has fields of these names; `message` is what lines are made of, if they are not those
    /// of the file.
    pub(super) fn new(query: &Query, names: &[&str], message: Option<&Format>) -> Self {
        let keys: Vec<_> = names.iter().map(|name| field_key(name)).collect();
        let mut fields = Vec::new();
        let mut read = |name: &str| {
            let key = field_key(name);
            let position = keys.iter().position(|of| *of == key)?;
            let place = fields.iter().position(|field| *field == position).unwrap_or(fields.len());
            if place == fields.len() {
                fields.push(position);
            }
            Some(place)
        };
        let columns = query.columns().iter().map(|column| match &*column.to_ascii_lowercase() {
            "@message" => Column::Message,
            "@timestamp" => Column::Timestamp(read("start")),
            "@logstream" => Column::LogStream(read("interface-id")),
            "@log" => Column::Log,
            _ => read(column).map_or(Column::Absent, Column::Field),
        });
        let columns: Vec<_> = columns.collect();
        let message = message.filter(|_| columns.contains(&Column::Message));
        let message = message.map(|format| format.fields().iter().map(|field| read(field.name())).collect());
        Self { columns, fields, message }
    }

    /// Makes the values of a record of its fields, by place, and the line that it has in the file.
    ///
    /// `buffer` is room for a line of `@message`.
    pub(super) fn row<'r>(
        &self,
        row: &mut Vec<Value<'r>>,
        buffer: &'r mut String,
        field: impl Fn(usize) -> Value<'r>,
        line: Option<&'r str>,
        file: &'r str,
    ) {
        let line = match &self.message {
            Some(places) => {
                write_line(buffer, places.iter().map(|place| place.map(&field)));
                Some(&**buffer)
            }
            None => line,
        };
        row.extend(self.columns.iter().map(|column| match *column {
            Column::Message => line.map_or(Value::Null, Value::text),
            Column::Timestamp(start) => start.map_or(Value::Null, |start| timestamp(&field(start))),
            Column::LogStream(interface) => {
                interface.map_or(Value::Null, |interface| stream(&field(interface)))
            }
            Column::Log => Value::text(file),
            Column::Field(place) => field(place),
            Column::Absent => Value::Null,
        }));
    }
}

fn write_line<'v>(line: &mut String, values: impl Iterator<Item = Option<Value<'v>>>) {
    line.clear();
    for value in values {
        let separator = if line.is_empty() { "" } else { " " };
        // Writing to a String does not fail.
        let _ = match value {
            None | Some(Value::Null) => write!(line, "{separator}-"),
            Some(value) => write!(line, "{separator}{value}"),
        };
    }
}

fn timestamp<'r>(start: &Value<'_>) -> Value<'r> {
    let seconds = match start {
        Value::Integer(seconds) => Some(*seconds),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    };
    seconds.and_then(|seconds: i64| seconds.checked_mul(1000)).map_or(Value::Null, Value::Timestamp)
}

fn stream<'r>(interface: &Value<'_>) -> Value<'r> {
    match interface {
        Value::Null => Value::Null,
        interface => Value::Text(format!("{interface}-all").into()),
    }
}
