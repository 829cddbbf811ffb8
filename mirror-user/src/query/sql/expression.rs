//! Expressions in SQL. Each comes with whether it is a number there: columns of numbers need no cast, and
//! text is compared with them as a number.

use super::{
    super::{
        aggregate::Aggregate,
        ast::{Comparison, Expr, ExprKind, Operator},
        field::field_key,
        functions::Function,
        value::Value,
    },
    Named, Select, SqlError, key_of,
};
use crate::flow_log::{Field, Kind};

type Sql = (String, bool);

impl Select {
    /// An expression, and whether it is a number.
    pub(super) fn expression(&self, expr: &Expr) -> Result<Sql, SqlError> {
        self.translate(expr, &[])
    }

    /// An expression over aggregates, which may use names of the same `stats`.
    pub(super) fn aggregated(&self, expr: &Expr, named: &[Named]) -> Result<Sql, SqlError> {
        self.translate(expr, named)
    }

    /// An expression that is true or false.
    pub(super) fn condition(&self, expr: &Expr) -> Result<String, SqlError> {
        self.truth(expr, &[])
    }

    /// A column of the table.
    pub(super) fn column(&self, field: Field) -> Sql {
        (self.dialect.quoted(field.column()), field.kind() != Kind::Text)
    }

    pub(super) fn field(&self, name: &str) -> Result<Sql, SqlError> {
        let key = field_key(name);
        if let Some(named) = self.names.iter().rev().find(|named| named.key == key) {
            return Ok((named.sql.clone(), named.is_number));
        }
        let missing = || SqlError::NoColumn(name.to_owned());
        if !self.of_table {
            return Err(missing());
        }
        if is_timestamp(name) {
            return Ok((self.dialect.time(&self.dialect.quoted("start")), false));
        }
        Field::named(name).map(|field| self.column(field)).ok_or_else(missing)
    }

    fn translate(&self, expr: &Expr, named: &[Named]) -> Result<Sql, SqlError> {
        let known = key_of(expr);
        let in_stats = named.iter().find(|named| named.key == known);
        let below = || if self.of_table { None } else { self.names.iter().find(|named| named.key == known) };
        if let Some(named) = in_stats.or_else(below) {
            return Ok((named.sql.clone(), named.is_number));
        }
        Ok(match &expr.kind {
            ExprKind::Field(name) => self.field(name)?,
            ExprKind::Constant(Value::Text(text)) => (self.dialect.text(text), false),
            ExprKind::Constant(_) => (expr.to_string(), true),
            ExprKind::Negative(part) => (format!("(-{})", self.number(part, named)?), true),
            ExprKind::Arithmetic(operator, sides) => {
                let (left, right) = (self.number(&sides[0], named)?, self.number(&sides[1], named)?);
                let sql = match operator {
                    Operator::Power => format!("power({left}, {right})"),
                    // Integers would divide as such.
                    Operator::Divide => format!("(CAST({left} AS DOUBLE) / NULLIF({right}, 0))"),
                    Operator::Remainder => format!("({left} % NULLIF({right}, 0))"),
                    Operator::Add | Operator::Subtract | Operator::Multiply => {
                        format!("({left} {} {right})", operator.symbol())
                    }
                };
                (sql, true)
            }
            ExprKind::Call(function, arguments) => return self.call(*function, arguments, expr, named),
            ExprKind::Aggregate(aggregate, arguments) => return self.aggregate(*aggregate, arguments),
            ExprKind::Period(_) => return Err(self.no_counterpart(expr)),
            _ => (format!("CASE WHEN {} THEN 1 ELSE 0 END", self.truth(expr, named)?), true),
        })
    }

    fn truth(&self, expr: &Expr, named: &[Named]) -> Result<String, SqlError> {
        let joined = |parts: &[Expr], between: &str| {
            let parts: Result<Vec<_>, _> = parts.iter().map(|part| self.truth(part, named)).collect();
            Ok(format!("({})", parts?.join(between)))
        };
        Ok(match &expr.kind {
            ExprKind::All(parts) => return joined(parts, " AND "),
            ExprKind::Any(parts) => return joined(parts, " OR "),
            ExprKind::Not(part) => format!("(NOT {})", self.truth(part, named)?),
            ExprKind::Compare(comparison, sides) => return self.compare(*comparison, sides, named),
            ExprKind::Contains(sides) => {
                let text = self.text_of(&sides[0], named)?;
                let part = sides[1].text().ok_or_else(|| self.no_counterpart(expr))?;
                let escaped = part.replace('!', "!!").replace('%', "!%").replace('_', "!_");
                format!("({text} LIKE {} ESCAPE '!')", self.dialect.text(&format!("%{escaped}%")))
            }
            ExprKind::Matches(part, regex) => {
                self.dialect.matches(&self.text_of(part, named)?, regex.as_str())
            }
            ExprKind::In(part, list) => {
                let items: Result<Vec<_>, _> = list
                    .iter()
                    .map(|item| {
                        let sides = [part.as_ref().clone(), item.clone()];
                        self.compare(Comparison::Equal, &sides, named)
                    })
                    .collect();
                let items = items?;
                if items.is_empty() { "FALSE".to_owned() } else { format!("({})", items.join(" OR ")) }
            }
            ExprKind::Call(Function::IsPresent, arguments) => match arguments.as_slice() {
                [argument] => format!("({} IS NOT NULL)", self.translate(argument, named)?.0),
                _ => return Err(self.no_counterpart(expr)),
            },
            ExprKind::Call(function, arguments) if function.takes_subnet() => {
                return self.subnet(arguments, expr, named);
            }
            _ => format!("({} <> 0)", self.number(expr, named)?),
        })
    }

    /// A comparison: as numbers where one side is one. `-` is what is missing in Parquet.
    fn compare(
        &self,
        comparison: Comparison,
        sides: &[Expr; 2],
        named: &[Named],
    ) -> Result<String, SqlError> {
        if let (Some("-"), Comparison::Equal | Comparison::NotEqual) = (sides[1].text(), comparison) {
            let (sql, is_number) = self.translate(&sides[0], named)?;
            let is_equal = comparison == Comparison::Equal;
            return Ok(match (is_number, is_equal) {
                (true, true) => format!("({sql} IS NULL)"),
                (true, false) => format!("({sql} IS NOT NULL)"),
                (false, _) => format!("(COALESCE({sql}, '-') {} '-')", if is_equal { "=" } else { "<>" }),
            });
        }
        let symbol = if comparison == Comparison::NotEqual { "<>" } else { comparison.symbol() };
        let (left, right) = (self.translate(&sides[0], named)?, self.translate(&sides[1], named)?);
        let is_numeric = |expr: &Expr, sql: &Sql| {
            sql.1 || expr.text().is_some_and(|text| Value::text(text).number().is_some())
        };
        if is_numeric(&sides[0], &left) || is_numeric(&sides[1], &right) {
            let (left, right) = (self.number(&sides[0], named)?, self.number(&sides[1], named)?);
            return Ok(format!("({left} {symbol} {right})"));
        }
        Ok(format!("({} {symbol} {})", left.0, right.0))
    }

    /// An expression as a number.
    fn number(&self, expr: &Expr, named: &[Named]) -> Result<String, SqlError> {
        // A time is none; `toMillis` makes one of it.
        if expr.field().is_some_and(is_timestamp) {
            return Err(self.no_counterpart(expr));
        }
        if let Some(number) = expr.text().and_then(|text| Value::text(text).number()) {
            return Ok(Value::from(number).to_string());
        }
        let (sql, is_number) = self.translate(expr, named)?;
        Ok(if is_number { sql } else { format!("TRY_CAST({sql} AS DOUBLE)") })
    }

    /// An expression as text.
    fn text_of(&self, expr: &Expr, named: &[Named]) -> Result<String, SqlError> {
        let (sql, is_number) = self.translate(expr, named)?;
        Ok(if is_number { self.dialect.as_text(&sql) } else { sql })
    }

    fn aggregate(&self, aggregate: Aggregate, arguments: &[Expr]) -> Result<Sql, SqlError> {
        let Some(argument) = arguments.first() else { return Ok(("count(*)".to_owned(), true)) };
        let (sql, is_number) = self.expression(argument)?;
        let number = || self.number(argument, &[]);
        let percentile = match arguments.get(1).map(|argument| &argument.kind) {
            Some(ExprKind::Constant(value)) => {
                value.number().map_or(50.0, super::super::value::Numeric::float)
            }
            _ => 50.0,
        };
        Ok(match aggregate {
            Aggregate::Count => (format!("count({sql})"), true),
            Aggregate::CountDistinct => (format!("count(DISTINCT {sql})"), true),
            Aggregate::Sum => (format!("sum({})", number()?), true),
            Aggregate::Avg => (format!("avg({})", number()?), true),
            Aggregate::Min => (format!("min({})", number()?), true),
            Aggregate::Max => (format!("max({})", number()?), true),
            Aggregate::Stddev => (format!("stddev_pop({})", number()?), true),
            Aggregate::Median | Aggregate::Pct => (self.dialect.percentile(&number()?, percentile), true),
            Aggregate::SortsFirst => (format!("min({sql})"), is_number),
            Aggregate::SortsLast => (format!("max({sql})"), is_number),
            Aggregate::Earliest | Aggregate::Latest => {
                let by = if aggregate == Aggregate::Latest { "max_by" } else { "min_by" };
                let (time, _) =
                    self.field("start").map_err(|_| SqlError::NoColumn("@timestamp".to_owned()))?;
                (format!("{by}({sql}, {time})"), is_number)
            }
        })
    }

    fn call(
        &self,
        function: Function,
        arguments: &[Expr],
        expr: &Expr,
        named: &[Named],
    ) -> Result<Sql, SqlError> {
        let texts =
            || arguments.iter().map(|argument| self.text_of(argument, named)).collect::<Result<Vec<_>, _>>();
        let first = || arguments.first().map_or(Ok(String::new()), |argument| self.number(argument, named));
        let of_texts = |name: &str| Ok((format!("{name}({})", texts()?.join(", ")), false));
        let of_number = |name: &str| Ok((format!("{name}({})", first()?), true));
        match (function, arguments) {
            (Function::Bin, [period]) if self.of_table => match &period.kind {
                ExprKind::Period(period) => {
                    let binned = self.dialect.bin(&self.dialect.quoted("start"), *period);
                    binned.map(|sql| (sql, false)).ok_or_else(|| self.no_counterpart(expr))
                }
                _ => Err(self.no_counterpart(expr)),
            },
            (Function::ToMillis, [time]) if self.of_table && time.field().is_some_and(is_timestamp) => {
                Ok((format!("({} * 1000)", self.dialect.quoted("start")), true))
            }
            (Function::Abs, _) => of_number("abs"),
            (Function::Ceil, _) => of_number("ceil"),
            (Function::Floor, _) => of_number("floor"),
            (Function::Log, _) => of_number("ln"),
            (Function::Sqrt, _) => of_number("sqrt"),
            (Function::StrLen, _) => Ok((format!("length({})", texts()?.join(", ")), true)),
            (Function::Concat, _) => of_texts("concat"),
            (Function::ToLower, _) => of_texts("lower"),
            (Function::ToUpper, _) => of_texts("upper"),
            (Function::Trim, [_]) => of_texts("trim"),
            (Function::Ltrim, [_]) => of_texts("ltrim"),
            (Function::Rtrim, [_]) => of_texts("rtrim"),
            (Function::Replace, _) => of_texts("replace"),
            (Function::Coalesce, _) => of_texts("coalesce"),
            (Function::Unmask, [argument]) => self.translate(argument, named),
            (Function::IsPresent, _) => {
                Ok((format!("CASE WHEN {} THEN 1 ELSE 0 END", self.truth(expr, named)?), true))
            }
            _ if function.takes_subnet() => {
                Ok((format!("CASE WHEN {} THEN 1 ELSE 0 END", self.truth(expr, named)?), true))
            }
            _ => Err(self.no_counterpart(expr)),
        }
    }

    /// Whether an address is in a subnet: Trino has a function; for others, whole bytes of IPv4 are a prefix.
    fn subnet(&self, arguments: &[Expr], expr: &Expr, named: &[Named]) -> Result<String, SqlError> {
        let [address, subnet] = arguments else { return Err(self.no_counterpart(expr)) };
        let text = subnet.text().ok_or_else(|| self.no_counterpart(expr))?;
        let address = self.text_of(address, named)?;
        if self.dialect == super::Dialect::Athena {
            return Ok(format!(
                "contains(CAST({} AS IPPREFIX), TRY_CAST({address} AS IPADDRESS))",
                self.dialect.text(text)
            ));
        }
        let prefix = match text.split_once('/') {
            Some((network, "8")) => network.split('.').next().map(|a| format!("{a}.%")),
            Some((network, "16")) => network.rsplitn(3, '.').last().map(|ab| format!("{ab}.%")),
            Some((network, "24")) => network.rsplit_once('.').map(|(abc, _)| format!("{abc}.%")),
            _ => None,
        };
        let prefix = prefix.filter(|_| text.contains('.')).ok_or_else(|| self.no_counterpart(expr))?;
        Ok(format!("({address} LIKE {})", self.dialect.text(&prefix)))
    }

    fn no_counterpart(&self, expr: &Expr) -> SqlError {
        SqlError::NoCounterpart(format!("`{expr}`"), self.dialect)
    }
}

fn is_timestamp(name: &str) -> bool {
    field_key(name) == "@timestamp"
}

/// A glob as a regular expression, and the groups of its stars.
pub(super) fn glob(glob: &str) -> (String, Vec<usize>) {
    let literals: Vec<_> = glob.split('*').map(regex::escape).collect();
    let stars = literals.len() - 1;
    let mut text = String::new();
    for (index, literal) in literals.iter().enumerate() {
        text.push_str(literal);
        if index < stars {
            let is_last = index + 1 == stars && literals.last().is_some_and(String::is_empty);
            text.push_str(if is_last { "(.*)" } else { "(.*?)" });
        }
    }
    (text, (1..=stars).collect())
}
