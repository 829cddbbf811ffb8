//! Hands the records of a file to a query.

use std::{fs::File, io::Read, mem, path::Path};

use mirror_user::{
    escape,
    flow_log::{
        Format, Skipped, TextReader,
        parquet::{Reader, Values},
    },
    query::{Execution, Query, Value},
};

use super::row::Columns;
use crate::terminal::say;

/// Records between two looks at the progress.
const STEP: u64 = 8192;
/// What Parquet files begin with.
const PARQUET: [u8; 4] = *b"PAR1";

/// How records are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Formats<'a> {
    /// What `@message` is made of, if not of the file's lines.
    pub(super) message: Option<&'a Format>,
    /// Of text files without a header line.
    pub(super) text: Option<&'a Format>,
}

/// A query at work.
pub(super) struct Run<'a> {
    pub(super) query: &'a Query,
    pub(super) formats: Formats<'a>,
    pub(super) execution: Execution,
}

impl Run<'_> {
    /// Hands the records of a file over; `progress` is called with how many more they are, now and then.
    pub(super) fn read(&mut self, path: &Path, mut progress: impl FnMut(u64)) -> anyhow::Result<()> {
        let mut file = File::open(path)?;
        let mut begin = Vec::new();
        file.by_ref().take(PARQUET.len() as u64).read_to_end(&mut begin)?;
        let name = path.to_string_lossy();
        if begin == PARQUET {
            return self.read_parquet(file, &name, &mut progress);
        }
        let skipped = self.read_text(begin.chain(file), &name, &mut progress)?;
        if let Some(first) = skipped.first {
            let path = escape::path(path);
            say!(
                "{path}: lines that are no records are left out: {}, the first of them line {first}",
                skipped.lines
            );
        }
        Ok(())
    }

    fn read_text(
        &mut self,
        input: impl Read,
        name: &str,
        progress: &mut impl FnMut(u64),
    ) -> anyhow::Result<Skipped> {
        let mut reader = match self.formats.text {
            Some(format) => TextReader::with_format(input, format)?,
            None => TextReader::new(input)?,
        };
        let names: Vec<_> = reader.columns().iter().map(|column| &*column.name).collect();
        // Its own lines have that format already.
        let message = self.formats.message.filter(|format| reader.format().as_ref() != Some(*format));
        let columns = Columns::new(self.query, &names, message);
        let (mut row, mut buffer, mut records) = (Vec::new(), String::new(), 0);
        while let Some(line) = reader.line()? {
            let field = |place: usize| {
                let value = columns.fields.get(place).and_then(|position| line.value(*position));
                value.map_or(Value::Null, Value::text)
            };
            let mut values = emptied(row);
            columns.row(&mut values, &mut buffer, field, Some(line.text()), name);
            self.execution.push(&values)?;
            row = emptied(values);
            records += 1;
            if records == STEP {
                progress(mem::take(&mut records));
            }
        }
        progress(records);
        Ok(reader.skipped())
    }

    fn read_parquet(&mut self, file: File, name: &str, progress: &mut impl FnMut(u64)) -> anyhow::Result<()> {
        let reader = Reader::open(file)?;
        let names: Vec<_> = reader.columns().iter().map(|column| &*column.name).collect();
        let columns = Columns::new(self.query, &names, self.formats.message);
        // Rows are those that are there, not those that the footer has: for `stats count(*)`, of any column.
        let any = || reader.columns().iter().position(|column| column.kind.is_some()).into_iter().collect();
        let fields = if columns.fields.is_empty() { any() } else { columns.fields.clone() };
        let mut batches = reader.batches(&fields)?;
        let (mut row, mut buffer) = (Vec::new(), String::new());
        while let Some(batch) = batches.advance()? {
            let rows = batch.first().map_or(0, Values::len);
            for number in 0..rows {
                let field =
                    |place: usize| batch.get(place).map_or(Value::Null, |values| value(values, number));
                let mut values = emptied(row);
                columns.row(&mut values, &mut buffer, field, None, name);
                self.execution.push(&values)?;
                row = emptied(values);
            }
            progress(rows as u64);
        }
        Ok(())
    }
}

fn value(values: &Values, row: usize) -> Value<'_> {
    match values {
        Values::Int32(numbers) => {
            numbers.get(row).copied().flatten().map_or(Value::Null, |number| Value::Integer(number.into()))
        }
        Values::Int64(numbers) => numbers.get(row).copied().flatten().map_or(Value::Null, Value::Integer),
        Values::Text(texts) => texts.get(row).map_or(Value::Null, Value::text),
    }
}

/// The room of a row for the next one, whose values borrow from another record.
fn emptied<'to>(mut row: Vec<Value<'_>>) -> Vec<Value<'to>> {
    row.clear();
    // Collected in place: sizes are the same.
    row.into_iter().map(|_| Value::Null).collect()
}
