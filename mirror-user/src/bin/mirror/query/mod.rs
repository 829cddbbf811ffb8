//! `mirror query`: questions to flow logs, in the language of CloudWatch Logs Insights.

mod files;
mod row;
mod rows;

use std::{
    io::{self, IsTerminal as _, Read as _, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use mirror_user::{
    escape,
    flow_log::Format,
    query::{Execution, Limits, Query, Table, sql},
    settings::BufferSize,
};

use self::rows::{Formats, Run};
use crate::{
    exit::Usage,
    filter::escaped,
    terminal::{clear_live_line, live_line, say},
};

/// Arguments of `mirror query`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct QueryArgs {
    /// The query, in the language of CloudWatch Logs Insights; - reads it from standard input
    query: String,
    /// Flow logs: text, gzip, or Parquet, and directories of them
    #[arg(required_unless_present = "sql", conflicts_with = "sql")]
    files: Vec<PathBuf>,
    /// Print the query as SQL for this engine, over a table with AWS's columns, and do not run it
    #[arg(long, value_enum, value_name = "ENGINE")]
    sql: Option<Engine>,
    /// The table of --sql, such as database.table, or read_parquet('DIR/**/*.parquet') in DuckDB
    #[arg(long, value_name = "NAME", default_value = "flow_logs", requires = "sql")]
    table: String,
    /// Form of the result: aligned text, CSV, or JSON as `aws logs get-query-results` prints it
    #[arg(short, long, value_enum, default_value_t = Form::Table)]
    output: Form,
    /// What @message is: each record as a line of this format: default, select-all-v5, or fields such as
    /// '${srcaddr} ${bytes}' [default: the line of the file; rows of Parquet have none]
    #[arg(long, value_name = "FORMAT")]
    message: Option<Format>,
    /// Format of text files that have no header line
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Memory for groups and sorted rows, in KiB, or with the suffix m or g
    #[arg(long, value_name = "SIZE", default_value = "256m")]
    memory: BufferSize,
}

const EXAMPLES: &str = "\
Examples:
  mirror query 'stats sum(bytes) as total by srcAddr, dstAddr | sort total desc | limit 10' flow-logs/
  mirror query 'filter dstPort = 22 and action = \"REJECT\" | stats count(*) by srcAddr' *.log.gz
  mirror query --message select-all-v5 - AWSLogs/ < query.txt

Fields have AWS's names in any spelling (pkt-srcaddr, pkt_srcaddr, pktSrcAddr; one with a hyphen needs
backticks), and there are @timestamp (start), @message, @logStream and @log (the file).";

/// Form of the result.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Form {
    Table,
    Csv,
    Json,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Engine {
    Athena,
    Spark,
    Duckdb,
}

impl From<Engine> for sql::Dialect {
    fn from(engine: Engine) -> Self {
        match engine {
            Engine::Athena => Self::Athena,
            Engine::Spark => Self::Spark,
            Engine::Duckdb => Self::DuckDb,
        }
    }
}

/// How often progress is shown.
const SHOWN_EVERY: Duration = Duration::from_millis(500);

pub(crate) fn run(args: &QueryArgs) -> anyhow::Result<ExitCode> {
    let text = if args.query == "-" {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).context("standard input")?;
        text
    } else {
        args.query.clone()
    };
    let query = Query::parse(&text).map_err(|error| Usage(escaped(&error.to_string())))?;
    if let Some(engine) = args.sql {
        let sql =
            sql::to_sql(&query, engine.into(), &args.table).map_err(|error| Usage(error.to_string()))?;
        return print(&format!("{sql}\n")).map(|()| ExitCode::SUCCESS);
    }
    let files = files::find(&args.files)?;
    let memory = usize::try_from(args.memory.0).unwrap_or(usize::MAX);
    let formats = Formats { message: args.message.as_ref(), text: args.format.as_ref() };
    let execution = Execution::new(&query, Limits::with_memory(memory));
    let mut run = Run { query: &query, formats, execution };
    let mut progress = Progress::new(files.len());
    for (number, file) in files.iter().enumerate() {
        let read = run.read(file, |records| progress.show(number, records));
        read.with_context(|| escape::path(file).to_string())?;
    }
    clear_live_line();
    let table = run.execution.finish()?;
    print(&shown(&table, args.output))?;
    for note in &table.notes {
        say!("{note}");
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(table: &Table, form: Form) -> String {
    match form {
        // Values come from files, and may hold anything.
        Form::Table => format!("{}\n", escaped(&table.to_text())),
        Form::Csv => table.to_csv(),
        Form::Json => format!("{}\n", table.to_json()),
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("standard output")
}

/// The live line of a long query, on a terminal.
struct Progress {
    files: usize,
    records: u64,
    shown: Instant,
    is_shown: bool,
}

impl Progress {
    fn new(files: usize) -> Self {
        Self { files, records: 0, shown: Instant::now(), is_shown: io::stderr().is_terminal() }
    }

    /// So many more records, of the file of this number.
    fn show(&mut self, file: usize, records: u64) {
        self.records += records;
        if self.is_shown && self.shown.elapsed() >= SHOWN_EVERY {
            self.shown = Instant::now();
            live_line(&format!("file {} of {}, {} records", file + 1, self.files, self.records));
        }
    }
}
