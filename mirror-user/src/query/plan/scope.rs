//! Names and what they stand for, stage by stage.

use std::collections::HashMap;

use super::{
    super::{
        error::ParseErrorKind,
        expression::{Compiled, Place},
        field::field_key,
    },
    End, Stage, Step,
};

/// A stage that is being built.
#[derive(Debug, Default)]
pub(super) struct Open {
    pub(super) steps: Vec<Step>,
    pub(super) width: usize,
    /// Places by normal form of the name, or by text of the expression.
    names: HashMap<String, Place>,
    /// None as long as commands are added to it.
    pub(super) end: Option<End>,
}

/// All stages so far.
#[derive(Debug)]
pub(super) struct Scope {
    stages: Vec<Open>,
    columns: Vec<String>,
    /// What heads the columns of the last `stats`.
    grouped: Vec<String>,
}

impl Scope {
    pub(super) fn new() -> Self {
        Self { stages: vec![Open::default()], columns: Vec::new(), grouped: Vec::new() }
    }

    /// The number of the stage that commands are added to.
    pub(super) fn current(&self) -> usize {
        self.stages.len() - 1
    }

    pub(super) fn stage(&mut self) -> &mut Open {
        let last = self.current();
        &mut self.stages[last]
    }

    /// Ends the current stage and begins the next.
    pub(super) fn close(&mut self, end: End) {
        self.stage().end = Some(end);
        self.stages.push(Open::default());
    }

    /// Ends the current stage with `stats`, of whose columns these are the names.
    pub(super) fn group(&mut self, end: End, labels: Vec<String>) {
        self.close(end);
        self.grouped = labels;
    }

    /// Lets a name stand for a place from here on.
    pub(super) fn define(&mut self, key: String, place: Place) {
        self.stage().names.insert(key, place);
    }

    /// A new computed value of the current stage.
    pub(super) fn slot(&mut self) -> usize {
        let stage = self.stage();
        stage.width += 1;
        stage.width - 1
    }

    /// What a field's name stands for: before `stats` it is at least a field of the records.
    pub(super) fn field(&mut self, name: &str) -> Result<Place, ParseErrorKind> {
        self.shown(&field_key(name), name)
    }

    /// What a key stands for, which `name` prints as.
    pub(super) fn shown(&mut self, key: &str, name: &str) -> Result<Place, ParseErrorKind> {
        let current = self.current();
        self.find(current, key, Some(name)).ok_or_else(|| ParseErrorKind::NoSuchColumn {
            name: name.to_owned(),
            known: self.grouped.join(", "),
        })
    }

    /// What an expression stands for, if its text heads a column: of `stats`, so only after one.
    pub(super) fn column(&mut self, text: &str) -> Option<Place> {
        let current = self.current();
        self.find(current, text, None)
    }

    pub(super) fn finish(self, labels: Vec<String>) -> super::Plan {
        let stages = self
            .stages
            .into_iter()
            .filter_map(|Open { steps, width, end, .. }| Some(Stage { steps, width, end: end? }));
        super::Plan { columns: self.columns, stages: stages.collect(), labels }
    }

    fn find(&mut self, number: usize, key: &str, field: Option<&str>) -> Option<Place> {
        if let Some(place) = self.stages.get(number)?.names.get(key) {
            return Some(*place);
        }
        let place = match number.checked_sub(1) {
            None => {
                self.columns.push(field?.to_owned());
                Place::Input(self.columns.len() - 1)
            }
            Some(before) => {
                let Some(End::Collect(_)) = self.stages.get(before)?.end else { return None };
                let place = self.find(before, key, field)?;
                let Some(End::Collect(collect)) = &mut self.stages.get_mut(before)?.end else { return None };
                collect.kept.push(Compiled::Place(place));
                Place::Input(collect.kept.len() - 1)
            }
        };
        self.stages.get_mut(number)?.names.insert(key.to_owned(), place);
        Some(place)
    }
}
