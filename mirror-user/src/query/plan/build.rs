//! Turns commands into stages.

use super::{
    super::{
        aggregate::Aggregate,
        ast::{Column, Command, CommandKind, Direction, Expr, ExprKind, Pattern, column_key, expression_key},
        error::{ParseError, ParseErrorKind},
        expression::{Compiled, Place},
        field::field_key,
        functions::Function,
        pattern::Matcher,
        value::{Numeric, Value},
    },
    Call, Collect, DEFAULT_LIMIT, End, Group, Parse, Plan, Step,
    scope::Scope,
};

/// The most `stats` of a query, as of
/// [CloudWatch](https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/CWL_QuerySyntax-Stats.html).
const MOST_STATS: usize = 2;

/// A column of the result: what heads it, and the key that finds its place.
type Shown = (String, String);

/// The commands as stages, none of their steps left out.
pub(super) fn build(query: &str, commands: &[Command]) -> Result<Plan, ParseError> {
    let mut builder = Builder {
        query,
        scope: Scope::new(),
        shown: Vec::new(),
        is_chosen: false,
        keys: Vec::new(),
        stats: 0,
        is_limited: false,
        has_dedup: false,
    };
    for command in commands {
        builder.command(command)?;
    }
    builder.finish()
}

struct Builder<'q> {
    query: &'q str,
    scope: Scope,
    shown: Vec<Shown>,
    /// Whether a command has said what to show, or records are shown as they are.
    is_chosen: bool,
    /// Of `sort`, for the end of the current stage.
    keys: Vec<(Compiled, Direction)>,
    stats: usize,
    /// Whether `limit` has limited the rows since the last `stats`.
    is_limited: bool,
    has_dedup: bool,
}

impl Builder<'_> {
    fn command(&mut self, command: &Command) -> Result<(), ParseError> {
        if self.has_dedup && !matches!(command.kind, CommandKind::Limit(_)) {
            let reason = "only `limit` may follow `dedup`".to_owned();
            return Err(self.error_at(command, ParseErrorKind::Misplaced(reason)));
        }
        match &command.kind {
            CommandKind::Fields(columns) => self.fields(columns),
            CommandKind::Display(columns) => {
                self.shown.clear();
                self.fields(columns)
            }
            CommandKind::Filter(expr) => {
                let expr = self.compile(expr)?;
                self.scope.stage().steps.push(Step::Filter(expr));
                Ok(())
            }
            CommandKind::Parse { source, pattern, names } => {
                self.parse(command, source.as_ref(), pattern, names)
            }
            CommandKind::Stats { aggregates, by } => self.stats(command, aggregates, by),
            CommandKind::Sort(keys) => {
                let mut compiled = Vec::new();
                for (expr, direction) in keys {
                    compiled.push((self.compile(expr)?, *direction));
                }
                // An earlier order decides among equal rows.
                compiled.append(&mut self.keys);
                self.keys = compiled;
                Ok(())
            }
            CommandKind::Limit(limit) => {
                self.is_limited = true;
                let limit = usize::try_from(*limit).unwrap_or(usize::MAX);
                self.collect(command, Some(limit), Vec::new())
            }
            CommandKind::Dedup(fields) => {
                self.has_dedup = true;
                let distinct = fields.iter().map(|field| self.compile(field)).collect::<Result<_, _>>()?;
                self.collect(command, None, distinct)
            }
        }
    }

    fn fields(&mut self, columns: &[Column]) -> Result<(), ParseError> {
        self.is_chosen = true;
        for column in columns {
            let key = column_key(column);
            match (&column.alias, column.expr.field()) {
                // What it stands for is asked at the end, as a later `parse` may shadow it.
                (None, Some(_)) => {}
                _ => {
                    let place = match self.compile(&column.expr)? {
                        Compiled::Place(place) => place,
                        expr => {
                            let slot = self.scope.slot();
                            self.scope.stage().steps.push(Step::Compute { slot, expr });
                            Place::Computed(slot)
                        }
                    };
                    self.scope.define(key.clone(), place);
                }
            }
            self.show(&column.label, key);
        }
        Ok(())
    }

    fn parse(
        &mut self,
        command: &Command,
        source: Option<&Expr>,
        pattern: &Pattern,
        names: &[String],
    ) -> Result<(), ParseError> {
        let source = match source {
            Some(source) => self.compile(source)?,
            None => self.field("@message", command)?,
        };
        let slots: Vec<_> = names.iter().map(|_| self.scope.slot()).collect();
        for (name, &slot) in names.iter().zip(&slots) {
            self.scope.define(field_key(name), Place::Computed(slot));
            self.show(name, field_key(name));
        }
        let slots = slots.into_iter().map(Some).collect();
        let written = match pattern {
            Pattern::Glob(glob) => format!("\"{glob}\""),
            Pattern::Regex(regex) => format!("/{regex}/"),
        };
        let matcher = Matcher::new(pattern);
        self.scope.stage().steps.push(Step::Parse(Parse { source, matcher, slots, written }));
        Ok(())
    }

    fn stats(&mut self, command: &Command, aggregates: &[Column], by: &[Column]) -> Result<(), ParseError> {
        self.stats += 1;
        if self.stats > MOST_STATS {
            let reason = format!("a query may have {MOST_STATS} `stats`");
            return Err(self.error_at(command, ParseErrorKind::Misplaced(reason)));
        }
        // Groups have no order of their own.
        self.keys.clear();
        self.is_limited = false;
        let mut grouping = Grouping::default();
        let mut keys = Vec::new();
        for column in by {
            keys.push(self.compile(&column.expr)?);
            grouping.name(column, Place::Input(keys.len() - 1));
        }
        let mut columns = Vec::new();
        for column in aggregates {
            let expr = self.aggregated(&column.expr, keys.len(), &mut grouping)?;
            grouping.name(column, Place::Computed(columns.len()));
            columns.push(expr);
        }
        let group = Group { keys, aggregates: grouping.calls, columns };
        self.is_chosen = true;
        self.shown.clear();
        let all: Vec<_> = by.iter().chain(aggregates).collect();
        let labels = all.iter().map(|column| column.label.clone()).collect();
        self.scope.group(End::Group(group), labels);
        for (index, column) in all.into_iter().enumerate() {
            self.scope.define(column_key(column), Place::Input(index));
            self.show(&column.label, column_key(column));
        }
        Ok(())
    }

    /// An expression over aggregates: keys, then aggregates come in, columns before it are computed.
    fn aggregated(
        &mut self,
        expr: &Expr,
        keys: usize,
        grouping: &mut Grouping,
    ) -> Result<Compiled, ParseError> {
        if let Some(place) = grouping.find(expr) {
            return Ok(Compiled::Place(place));
        }
        match &expr.kind {
            ExprKind::Field(name) => Err(self.error(expr, ParseErrorKind::NotAggregated(name.clone()))),
            ExprKind::Aggregate(aggregate, arguments) => {
                let argument = arguments.first().map(|argument| self.compile(argument)).transpose()?;
                let percentile = match arguments.get(1).map(|argument| &argument.kind) {
                    Some(ExprKind::Constant(value)) => value.number().map_or(0.0, Numeric::float),
                    _ => 0.0,
                };
                let is_timed = matches!(aggregate, Aggregate::Earliest | Aggregate::Latest);
                let time = is_timed.then(|| self.timestamp(expr)).transpose()?;
                grouping.calls.push(Call { aggregate: *aggregate, argument, percentile, time });
                Ok(Compiled::Place(Place::Input(keys + grouping.calls.len() - 1)))
            }
            _ => self.parts(expr, &mut |builder, part| builder.aggregated(part, keys, grouping)),
        }
    }

    /// Ends a stage that keeps rows.
    fn collect(
        &mut self,
        command: &Command,
        limit: Option<usize>,
        distinct: Vec<Compiled>,
    ) -> Result<(), ParseError> {
        let keys = self.order(command)?;
        self.scope.close(End::Collect(Collect {
            keys,
            limit,
            is_default_limit: false,
            distinct,
            kept: Vec::new(),
        }));
        Ok(())
    }

    /// The keys of the current stage; of records that nobody has sorted the latest come first.
    fn order(&mut self, command: &Command) -> Result<Vec<(Compiled, Direction)>, ParseError> {
        if self.keys.is_empty() && self.scope.current() == 0 {
            return Ok(vec![(self.field("@timestamp", command)?, Direction::Descending)]);
        }
        Ok(std::mem::take(&mut self.keys))
    }

    fn finish(mut self) -> Result<Plan, ParseError> {
        if !self.is_chosen {
            let parsed = std::mem::take(&mut self.shown);
            for name in ["@timestamp", "@message"] {
                self.show(name, field_key(name));
            }
            self.shown.extend(parsed);
        }
        let end = Command { kind: CommandKind::Limit(0), span: self.query.len()..self.query.len() };
        let limit = (!self.is_limited).then_some(DEFAULT_LIMIT);
        let keys = self.order(&end)?;
        let mut kept = Vec::new();
        let mut labels = Vec::new();
        for (label, key) in std::mem::take(&mut self.shown) {
            let place = self.scope.shown(&key, &label).map_err(|kind| self.error_at(&end, kind))?;
            kept.push(Compiled::Place(place));
            labels.push(label);
        }
        let collect = Collect { keys, limit, is_default_limit: true, distinct: Vec::new(), kept };
        self.scope.close(End::Collect(collect));
        Ok(self.scope.finish(labels))
    }

    /// Shows a column, once.
    fn show(&mut self, label: &str, key: String) {
        if !self.shown.iter().any(|(_, shown)| *shown == key) {
            self.shown.push((label.to_owned(), key));
        }
    }

    fn compile(&mut self, expr: &Expr) -> Result<Compiled, ParseError> {
        match &expr.kind {
            ExprKind::Field(name) => {
                self.scope.field(name).map(Compiled::Place).map_err(|kind| self.error(expr, kind))
            }
            kind => match (self.column(expr), kind) {
                (Some(place), _) => Ok(Compiled::Place(place)),
                (None, ExprKind::Aggregate(..)) => {
                    let reason = format!("`{expr}` is no column of `stats`, and only there it aggregates");
                    Err(self.error(expr, ParseErrorKind::Misplaced(reason)))
                }
                (None, _) => self.parts(expr, &mut Self::compile),
            },
        }
    }

    /// The column of `stats` that the expression heads.
    fn column(&mut self, expr: &Expr) -> Option<Place> {
        if self.stats > 0 { self.scope.column(&expression_key(expr)) } else { None }
    }

    /// An expression of parts that `compile` compiles.
    fn parts(
        &mut self,
        expr: &Expr,
        compile: &mut dyn FnMut(&mut Self, &Expr) -> Result<Compiled, ParseError>,
    ) -> Result<Compiled, ParseError> {
        let mut boxed = |builder: &mut Self, part: &Expr| compile(builder, part).map(Box::new);
        Ok(match &expr.kind {
            ExprKind::Constant(value) => Compiled::Constant(value.clone()),
            ExprKind::Not(part) => Compiled::Not(boxed(self, part)?),
            ExprKind::Negative(part) => Compiled::Negative(boxed(self, part)?),
            ExprKind::Matches(part, regex) => Compiled::Matches(boxed(self, part)?, regex.clone()),
            ExprKind::All(parts) => Compiled::All(self.each(parts, compile)?),
            ExprKind::Any(parts) => Compiled::Any(self.each(parts, compile)?),
            ExprKind::Compare(comparison, sides) => {
                Compiled::Compare(*comparison, self.both(sides, compile)?)
            }
            ExprKind::Arithmetic(operator, sides) => {
                Compiled::Arithmetic(*operator, self.both(sides, compile)?)
            }
            ExprKind::Contains(sides) => Compiled::Contains(self.both(sides, compile)?),
            ExprKind::In(part, list) => Compiled::In(boxed(self, part)?, self.each(list, compile)?),
            ExprKind::Call(Function::Now, _) => Compiled::Now,
            ExprKind::Call(function, arguments) if function.takes_period() => {
                let period = match arguments.last().map(|last| &last.kind) {
                    Some(ExprKind::Period(period)) => *period,
                    _ => {
                        return Err(
                            self.error(expr, ParseErrorKind::Misplaced("a period is missing".to_owned()))
                        );
                    }
                };
                let time = match arguments.as_slice() {
                    [time, _] => boxed(self, time)?,
                    _ => Box::new(self.timestamp(expr)?),
                };
                let is_ceil = *function == Function::DateCeil;
                if is_ceil { Compiled::Ceil(time, period) } else { Compiled::Floor(time, period) }
            }
            ExprKind::Call(function, arguments) => {
                let subnet = arguments.get(1).and_then(Expr::text).filter(|_| function.takes_subnet());
                match (subnet.and_then(|text| function.subnet(text)), arguments.first()) {
                    (Some(subnet), Some(address)) => Compiled::InSubnet(boxed(self, address)?, subnet),
                    _ => Compiled::Call(*function, self.each(arguments, compile)?),
                }
            }
            ExprKind::Field(_) | ExprKind::Aggregate(..) | ExprKind::Period(_) => {
                Compiled::Constant(Value::Null)
            }
        })
    }

    fn each(
        &mut self,
        parts: &[Expr],
        compile: &mut dyn FnMut(&mut Self, &Expr) -> Result<Compiled, ParseError>,
    ) -> Result<Vec<Compiled>, ParseError> {
        parts.iter().map(|part| compile(self, part)).collect()
    }

    fn both(
        &mut self,
        [left, right]: &[Expr; 2],
        compile: &mut dyn FnMut(&mut Self, &Expr) -> Result<Compiled, ParseError>,
    ) -> Result<Box<[Compiled; 2]>, ParseError> {
        Ok(Box::new([compile(self, left)?, compile(self, right)?]))
    }

    fn timestamp(&mut self, expr: &Expr) -> Result<Compiled, ParseError> {
        self.scope.field("@timestamp").map(Compiled::Place).map_err(|kind| self.error(expr, kind))
    }

    fn field(&mut self, name: &str, command: &Command) -> Result<Compiled, ParseError> {
        self.scope.field(name).map(Compiled::Place).map_err(|kind| self.error_at(command, kind))
    }

    fn error(&self, expr: &Expr, kind: ParseErrorKind) -> ParseError {
        ParseError::new(self.query, expr.span.clone(), kind)
    }

    fn error_at(&self, command: &Command, kind: ParseErrorKind) -> ParseError {
        ParseError::new(self.query, command.span.clone(), kind)
    }
}

/// Names within one `stats`.
#[derive(Default)]
struct Grouping {
    calls: Vec<Call>,
    /// By normal form of the name, or by text of the expression.
    names: Vec<(String, Place)>,
}

impl Grouping {
    fn name(&mut self, column: &Column, place: Place) {
        self.names.push((column_key(column), place));
        // `stats bin(1h) as t by bin(1h)`: the expression may be repeated.
        self.names.push((expression_key(&column.expr), place));
    }

    fn find(&self, expr: &Expr) -> Option<Place> {
        let wanted = expression_key(expr);
        self.names.iter().find(|(known, _)| *known == wanted).map(|(_, place)| *place)
    }
}
