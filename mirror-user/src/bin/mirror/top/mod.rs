//! `mirror top`: a run on one screen.

mod rates;
mod screen;
mod tty;

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    sync::mpsc::{self, Receiver, TryRecvError},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use mirror_user::{Report, settings::Control};

use self::{
    rates::View,
    screen::{Size, draw},
    tty::{Key, Tty},
};
use crate::{
    control::{Client, Clients, RunStatus, name},
    exit::Usage,
    terminal,
};

/// Between two reports of a run.
const INTERVAL: Duration = Duration::from_secs(1);
/// Between two questions to it.
const QUESTIONS: Duration = Duration::from_millis(500);
/// Between two looks at keys, answers and the size of the terminal.
const POLL: Duration = Duration::from_millis(100);

/// Arguments of `mirror top`.
#[derive(Args, Debug)]
pub(crate) struct TopArgs {
    /// The run, by the name of its control socket; not needed if there is only one
    #[arg(value_parser = name)]
    name: Option<Control>,
    /// Print one screen, of the rates of one second, and exit
    #[arg(short = '1', long)]
    once: bool,
}

pub(crate) fn run(args: &TopArgs) -> anyhow::Result<ExitCode> {
    if !args.once && !io::stdout().is_terminal() {
        return Err(Usage("standard output is no terminal: use -1 to print one screen".to_owned()).into());
    }
    let client = Clients::of_this_host().one(args.name.as_ref())?;
    let first = client.status()?;
    if args.once {
        once(&client, &first)?;
    } else {
        watch(&client, first)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints all there is.
fn once(client: &Client, first: &RunStatus<Report>) -> anyhow::Result<()> {
    // A run has a new report after a second, and may answer once more with the one before.
    let mut second = None;
    for _ in 0..3 {
        thread::sleep(INTERVAL);
        let status = client.status()?;
        let is_new = age(&status) != age(first);
        second = Some(status);
        if is_new {
            break;
        }
    }
    let second = second.as_ref().unwrap_or(first);
    let columns = tty::size().map_or(Size::USUAL.columns, |size| size.columns);
    let lines = draw(&View::of(second, Some(first)), Size { columns, rows: usize::MAX });
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{}", line.plain())?;
    }
    Ok(())
}

/// Draws the run until a key, a signal, or its end.
fn watch(client: &Client, first: RunStatus<Report>) -> anyhow::Result<()> {
    let answers = ask(client.clone(), first)?;
    let mut tty = Tty::enter().context("the terminal")?;
    let mut view = None;
    let end = loop {
        let is_new = match answers.try_recv() {
            Ok(Ok(answer)) => {
                view = Some(answer);
                true
            }
            Ok(Err(error)) => break Some(error),
            Err(TryRecvError::Empty) => false,
            Err(TryRecvError::Disconnected) => break Some(anyhow::anyhow!("nobody asks the run any more")),
        };
        let has_changed = tty.has_changed();
        if let Some(view) = view.as_ref().filter(|_| is_new || has_changed) {
            let size = tty::size().unwrap_or(Size::USUAL);
            tty::draw(&draw(view, size), size.rows).context("the terminal")?;
        }
        if let Some(Key::Quit) = tty.key(POLL)? {
            break None;
        }
    };
    drop(tty);
    match end {
        None => Ok(()),
        Some(_) if !client.is_live() => {
            terminal::say!("{}: the run has ended", client.shown());
            Ok(())
        }
        Some(error) => Err(error),
    }
}

/// When a report was made, in seconds of its run.
fn age(status: &RunStatus<Report>) -> Option<f64> {
    status.report.as_ref().map(|report| report.duration_s)
}

/// Asks at intervals, on a thread of its own: a run that does not answer must not keep the screen.
fn ask(client: Client, first: RunStatus<Report>) -> anyhow::Result<Receiver<anyhow::Result<View>>> {
    let (sender, answers) = mpsc::sync_channel(1);
    let (mut before, mut last) = (None, first);
    thread::Builder::new()
        .name("mirror-top".to_owned())
        .spawn(move || {
            // Until nobody looks any more, or the run has ended.
            while sender.send(Ok(View::of(&last, before.as_ref()))).is_ok() {
                thread::sleep(QUESTIONS);
                let status = match client.status() {
                    Ok(status) => status,
                    // Nobody may look any more.
                    Err(error) => return drop(sender.send(Err(error))),
                };
                if age(&status) != age(&last) || status.pid != last.pid {
                    before = Some(std::mem::replace(&mut last, status));
                } else {
                    // The same report, maybe in another phase.
                    last = status;
                }
            }
        })
        .context("cannot start a thread")?;
    Ok(answers)
}
