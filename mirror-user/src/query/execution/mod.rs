//! Runs a query over records, one at a time, in bounded memory.

mod groups;
mod rows;

use std::{borrow::Cow, mem, sync::Arc};

use jiff::Timestamp;
use regex::CaptureLocations;

use self::{groups::Groups, rows::Rows};
use super::{
    Query,
    expression::Row,
    plan::{End, Parse, Plan, Stage, Step},
    table::Table,
    value::Value,
};

/// Bounds of a run.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// The most memory for groups and for rows that are sorted, in bytes. Tables that grow, and the one sort
    /// at the end, may take as much again for a moment.
    pub memory: usize,
}

impl Default for Limits {
    /// 256 MiB: one to two million groups.
    fn default() -> Self {
        Self { memory: 256 << 20 }
    }
}

impl Limits {
    /// Limits of so many bytes.
    pub fn with_memory(memory: usize) -> Self {
        Self { memory }
    }
}

/// Why a run ended.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// There are too many groups or rows.
    #[error(
        "the {what} of this query need more than the {limit} bytes that they may have after {records} \
         records; filter more, group by less or sort with a limit, allow more memory, or \
         print the query for Spark or Athena with --sql"
    )]
    Memory {
        /// `groups` or `rows`.
        what: &'static str,
        /// The limit, in bytes.
        limit: usize,
        /// How many records had been read.
        records: u64,
    },
    /// A record has not the fields that the query reads.
    #[error("a record has {given} values where the query reads {expected} columns")]
    Columns {
        /// As many as [`Query::columns`].
        expected: usize,
        /// As many as the record has.
        given: usize,
    },
}

/// A run of a query.
#[derive(Debug)]
pub struct Execution {
    plan: Arc<Plan>,
    stages: Vec<State>,
    memory: Memory,
    now: i64,
    scanned: u64,
    matched: u64,
}

/// A stage at work.
#[derive(Debug)]
struct State {
    /// Room for computed values, which is used again for each row.
    room: Vec<Value<'static>>,
    /// By number of the step.
    parsed: Vec<Parsed>,
    held: Held,
}

/// A `parse` at work.
#[derive(Debug, Default)]
struct Parsed {
    seen: u64,
    matched: u64,
    room: Option<CaptureLocations>,
}

/// What a stage holds until its end.
#[derive(Debug)]
enum Held {
    Rows(Rows),
    Groups(Groups),
}

/// How much is used of what there is, in bytes.
#[derive(Debug)]
pub(super) struct Memory {
    used: usize,
    limit: usize,
}

/// That there is no more memory for these.
#[derive(Debug)]
pub(super) struct Exhausted(&'static str);

/// What takes the rows of a stage.
type Each<'e> = &'e mut dyn FnMut(&[Value<'_>]) -> Result<(), Exhausted>;

impl Memory {
    fn take(&mut self, bytes: usize, what: &'static str) -> Result<(), Exhausted> {
        self.used = self.used.saturating_add(bytes);
        if self.used > self.limit { Err(Exhausted(what)) } else { Ok(()) }
    }

    fn give_back(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
    }
}

impl Execution {
    /// Begins a run: `now()` is the time of this.
    pub fn new(query: &Query, limits: Limits) -> Self {
        let plan = Arc::clone(&query.plan);
        Self {
            stages: plan.stages.iter().map(State::new).collect(),
            plan,
            memory: Memory { used: 0, limit: limits.memory },
            now: Timestamp::now().as_second(),
            scanned: 0,
            matched: 0,
        }
    }

    /// Adds a record: its values of [`Query::columns`], in that order, [`Value::Null`] for what it has not.
    /// `@timestamp` is a [`Value::Timestamp`].
    ///
    /// # Errors
    ///
    /// The record has another number of values, or groups and rows need more memory than they may have. The
    /// run is then at its end, without a result.
    #[inline]
    pub fn push(&mut self, record: &[Value<'_>]) -> Result<(), QueryError> {
        let expected = self.plan.columns.len();
        if record.len() != expected {
            return Err(QueryError::Columns { expected, given: record.len() });
        }
        self.scanned += 1;
        let (Some(stage), Some(state)) = (self.plan.stages.first(), self.stages.first_mut()) else {
            return Ok(());
        };
        match state.row(stage, record, self.now, &mut self.memory) {
            Ok(passed) => {
                self.matched += u64::from(passed);
                Ok(())
            }
            Err(exhausted) => Err(self.exhausted(&exhausted)),
        }
    }

    /// How many records there have been.
    pub fn scanned(&self) -> u64 {
        self.scanned
    }

    /// Ends the run: what the records came to.
    ///
    /// # Errors
    ///
    /// The rows of a later part of the query need more memory than they may have.
    pub fn finish(mut self) -> Result<Table, QueryError> {
        let mut notes = Vec::new();
        let mut is_cut = false;
        let plan = Arc::clone(&self.plan);
        let mut stages = plan.stages.iter().zip(mem::take(&mut self.stages)).peekable();
        let mut rows = Vec::new();
        while let Some((stage, state)) = stages.next() {
            state.note(stage, &mut notes);
            let mut next = stages.peek_mut();
            // What this stage held goes row by row.
            self.memory.used = 0;
            let mut each = |row: &[Value<'_>]| match &mut next {
                Some((stage, state)) => state.row(stage, row, self.now, &mut self.memory).map(|_| ()),
                None => {
                    rows.push(row.iter().map(|value| value.borrowed().into_owned()).collect());
                    Ok(())
                }
            };
            let done = match (state.held, &stage.end) {
                (Held::Rows(held), End::Collect(collect)) => {
                    if let Some(limit) = collect.limit.filter(|_| collect.is_default_limit && held.is_cut()) {
                        is_cut = true;
                        notes.push(format!(
                            "there are more rows than the {limit} shown; `limit` asks for another number"
                        ));
                    }
                    held.finish(&mut each)
                }
                (Held::Groups(held), End::Group(group)) => held.finish(group, self.now, &mut each),
                _ => Ok(()),
            };
            done.map_err(|exhausted| self.exhausted(&exhausted))?;
        }
        Ok(Table {
            columns: plan.labels.clone(),
            rows,
            is_cut,
            scanned: self.scanned,
            matched: self.matched,
            notes,
        })
    }

    fn exhausted(&self, Exhausted(what): &Exhausted) -> QueryError {
        QueryError::Memory { what, limit: self.memory.limit, records: self.scanned }
    }
}

impl State {
    fn new(stage: &Stage) -> Self {
        let held = match &stage.end {
            End::Collect(collect) => Held::Rows(Rows::new(collect)),
            End::Group(_) => Held::Groups(Groups::default()),
        };
        let parsed = stage.steps.iter().map(|step| match step {
            Step::Parse(parse) => Parsed { room: parse.matcher.room(), ..Parsed::default() },
            Step::Compute { .. } | Step::Filter(_) => Parsed::default(),
        });
        Self { room: Vec::with_capacity(stage.width), parsed: parsed.collect(), held }
    }

    /// Takes a row through the steps, and holds what is to be held of it. Whether it passed all filters.
    #[inline]
    fn row(
        &mut self,
        stage: &Stage,
        input: &[Value<'_>],
        now: i64,
        memory: &mut Memory,
    ) -> Result<bool, Exhausted> {
        let mut computed = reused(mem::take(&mut self.room));
        computed.resize(stage.width, Value::Null);
        let passed = self.steps(stage, input, &mut computed, now);
        let done = if passed {
            let row = Row { input, computed: &computed, now };
            match (&mut self.held, &stage.end) {
                (Held::Rows(rows), End::Collect(collect)) => rows.add(collect, row, memory),
                (Held::Groups(groups), End::Group(group)) => groups.add(group, row, memory),
                _ => Ok(()),
            }
        } else {
            Ok(())
        };
        self.room = reused(computed);
        done.map(|()| passed)
    }

    #[inline]
    fn steps<'a>(
        &mut self,
        stage: &'a Stage,
        input: &[Value<'a>],
        computed: &mut [Value<'a>],
        now: i64,
    ) -> bool {
        for (step, parsed) in stage.steps.iter().zip(&mut self.parsed) {
            let row = Row { input, computed, now };
            match step {
                Step::Filter(expr) => {
                    if expr.is_true(row) != Some(true) {
                        return false;
                    }
                }
                Step::Compute { slot, expr } => {
                    let value = expr.evaluate(row);
                    if let Some(room) = computed.get_mut(*slot) {
                        *room = value;
                    }
                }
                Step::Parse(parse) => {
                    parsed.seen += 1;
                    let source = parse.source.evaluate(row);
                    parsed.matched += u64::from(parse.apply(source, &mut parsed.room, computed));
                }
            }
        }
        true
    }

    /// Says what is likely a mistake in the query or in its input.
    fn note(&self, stage: &Stage, notes: &mut Vec<String>) {
        for (step, Parsed { seen, matched, .. }) in stage.steps.iter().zip(&self.parsed) {
            if let (Step::Parse(parse), 1.., 0) = (step, seen, matched) {
                let written = &parse.written;
                notes.push(format!(
                    "parse {written} matched nothing in {seen} records; is `@message` written in that \
                     format? The pattern of 29 stars is for `--message select-all-v5`"
                ));
            }
        }
    }
}

impl Parse {
    /// Puts the parts of the source into their places; whether it matches.
    #[inline]
    fn apply<'a>(
        &self,
        source: Value<'a>,
        groups: &mut Option<CaptureLocations>,
        computed: &mut [Value<'a>],
    ) -> bool {
        let slots = &self.slots;
        let is_match = match source.into_text() {
            None => false,
            Some(Cow::Borrowed(text)) => self.matcher.parts(text, groups, slots, |slot, part| {
                if let Some(room) = computed.get_mut(slot) {
                    *room = Value::text(part);
                }
            }),
            Some(Cow::Owned(text)) => self.matcher.parts(&text, groups, slots, |slot, part| {
                if let Some(room) = computed.get_mut(slot) {
                    *room = Value::Text(part.to_owned().into());
                }
            }),
        };
        if !is_match {
            for slot in slots.iter().flatten() {
                if let Some(room) = computed.get_mut(*slot) {
                    *room = Value::Null;
                }
            }
        }
        is_match
    }
}

/// The same vector, empty, for values of another lifetime: collecting in place keeps its memory.
fn reused<'b>(mut values: Vec<Value<'_>>) -> Vec<Value<'b>> {
    values.clear();
    values.into_iter().map_while(|_| None).collect()
}

#[cfg(test)]
mod tests;
