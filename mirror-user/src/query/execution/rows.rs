//! Rows that are kept in order, as many as the limit allows.

use std::{cmp::Ordering, collections::HashMap, mem};

use super::{
    super::{
        ast::Direction,
        expression::{Compiled, Row},
        order::natural,
        plan::Collect,
        value::Value,
    },
    Each, Exhausted, Memory,
    groups::encode,
};

/// Rows of a stage. Once there are twice as many as the limit, the worse half goes, and rows that are worse
/// than the rest are not even copied.
#[derive(Debug)]
pub(super) struct Rows {
    directions: Vec<Direction>,
    rows: Vec<Kept>,
    limit: usize,
    /// Keys and number of the worst row that may still be in the result.
    worst: Option<(Box<[Value<'static>]>, u64)>,
    /// How many rows have come.
    count: u64,
    /// Which row has been kept for the fields of `dedup`, and room for those of a row.
    distinct: HashMap<Box<[u8]>, usize, foldhash::fast::RandomState>,
    key: Vec<u8>,
}

#[derive(Debug)]
struct Kept {
    keys: Box<[Value<'static>]>,
    number: u64,
    values: Box<[Value<'static>]>,
}

/// The fewest rows that are worth a cut.
const FEWEST: usize = 1024;

impl Rows {
    pub(super) fn new(collect: &Collect) -> Self {
        Self {
            directions: collect.keys.iter().map(|(_, direction)| *direction).collect(),
            rows: Vec::new(),
            limit: collect.limit.unwrap_or(usize::MAX),
            worst: None,
            count: 0,
            distinct: HashMap::default(),
            key: Vec::new(),
        }
    }

    /// Whether more rows have come than the limit.
    pub(super) fn is_cut(&self) -> bool {
        usize::try_from(self.count).map_or(true, |count| count > self.limit)
    }

    /// Keeps a row, unless it is certain that it is not among those asked for.
    #[inline]
    pub(super) fn add(
        &mut self,
        collect: &Collect,
        row: Row<'_, '_>,
        memory: &mut Memory,
    ) -> Result<(), Exhausted> {
        let number = self.count;
        self.count += 1;
        if self.limit == 0 {
            return Ok(());
        }
        if let Some((worst, worst_number)) = &self.worst
            && self.compare_row(collect, row, worst).then(number.cmp(worst_number)) != Ordering::Less
        {
            return Ok(());
        }
        let place = self.distinct_place(collect, row, memory)?;
        if let Some(kept) = place.and_then(|place| self.rows.get(place))
            && self.compare_row(collect, row, &kept.keys).then(number.cmp(&kept.number)) != Ordering::Less
        {
            return Ok(());
        }
        let owned = |expr: &Compiled| expr.view(row, |value| value.borrowed().into_owned());
        let kept = Kept {
            keys: collect.keys.iter().map(|(key, _)| owned(key)).collect(),
            number,
            values: collect.kept.iter().map(owned).collect(),
        };
        memory.take(kept.bytes(), "rows")?;
        match place.and_then(|place| self.rows.get_mut(place)) {
            Some(room) => memory.give_back(mem::replace(room, kept).bytes()),
            None => self.rows.push(kept),
        }
        // With `dedup` there is no limit before all rows have come.
        if self.rows.len() >= self.limit.saturating_mul(2).max(FEWEST) {
            self.cut(memory);
        }
        Ok(())
    }

    /// Hands over the rows, in order.
    pub(super) fn finish(mut self, each: Each<'_>) -> Result<(), Exhausted> {
        let directions = mem::take(&mut self.directions);
        self.rows.sort_unstable_by(|left, right| compare(&directions, left, right));
        self.rows.truncate(self.limit);
        self.rows
            .into_iter()
            .try_for_each(|kept| each(&kept.values.iter().map(Value::borrowed).collect::<Vec<_>>()))
    }

    /// Where the row is that has the same fields for `dedup`: none if this is the first, or one is missing.
    /// "Null values are not considered duplicates", so rows with one are all kept.
    fn distinct_place(
        &mut self,
        collect: &Collect,
        row: Row<'_, '_>,
        memory: &mut Memory,
    ) -> Result<Option<usize>, Exhausted> {
        if collect.distinct.is_empty() {
            return Ok(None);
        }
        self.key.clear();
        for expr in &collect.distinct {
            let is_missing = expr.view(row, |value| {
                encode(value, &mut self.key);
                *value == Value::Null
            });
            if is_missing {
                return Ok(None);
            }
        }
        if let Some(place) = self.distinct.get(self.key.as_slice()) {
            return Ok(Some(*place));
        }
        memory.take(self.key.len() + 2 * size_of::<(Box<[u8]>, usize)>(), "rows")?;
        self.distinct.insert(self.key.as_slice().into(), self.rows.len());
        Ok(None)
    }

    fn compare_row(&self, collect: &Collect, row: Row<'_, '_>, keys: &[Value<'_>]) -> Ordering {
        for (((expr, _), direction), key) in collect.keys.iter().zip(&self.directions).zip(keys) {
            let order = directed(expr.view(row, |value| natural(value, key)), *direction);
            if order != Ordering::Equal {
                return order;
            }
        }
        Ordering::Equal
    }

    fn cut(&mut self, memory: &mut Memory) {
        let directions = &self.directions;
        let (_, worst, worse) =
            self.rows.select_nth_unstable_by(self.limit - 1, |left, right| compare(directions, left, right));
        self.worst = Some((worst.keys.clone(), worst.number));
        memory.give_back(worse.iter().map(Kept::bytes).sum());
        self.rows.truncate(self.limit);
    }
}

impl Kept {
    fn bytes(&self) -> usize {
        let values = self.keys.iter().chain(&self.values);
        let texts = values.map(|value| if let Value::Text(text) = value { text.len() + 16 } else { 0 });
        let fixed = (self.keys.len() + self.values.len()) * size_of::<Value<'_>>();
        size_of::<Self>() + fixed + texts.sum::<usize>()
    }
}

fn compare(directions: &[Direction], left: &Kept, right: &Kept) -> Ordering {
    for ((left, right), direction) in left.keys.iter().zip(&right.keys).zip(directions) {
        let order = directed(natural(left, right), *direction);
        if order != Ordering::Equal {
            return order;
        }
    }
    left.number.cmp(&right.number)
}

fn directed(order: Ordering, direction: Direction) -> Ordering {
    if direction == Direction::Descending { order.reverse() } else { order }
}
