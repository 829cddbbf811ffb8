//! `mirror ingest`: mirrored packets off the NIC.

mod run;
mod watch;

use std::time::Duration;

use clap::{Args, ValueEnum};
use mirror_user::{
    Engine,
    engine::{BindMode, Destination, EngineBuilder, EngineError, Mode, OnInterfaceLost, Queues, Wait},
};

pub(crate) use self::run::run;
use crate::{Usage, lists, output::OutputArgs};

/// Arguments of `mirror ingest`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct IngestArgs {
    /// Interfaces to read
    #[arg(
        short = 'i',
        long,
        help_heading = "Source",
        value_name = "IF[,IF…]",
        value_delimiter = ',',
        required_unless_present = "list_interfaces"
    )]
    interface: Vec<String>,
    /// List the interfaces, and exit
    #[arg(short = 'D', long, help_heading = "Source")]
    list_interfaces: bool,
    /// RX queues to read; the others' packets go to the host
    #[arg(long, help_heading = "Source", value_name = "all|LIST", default_value = "all", value_parser = lists::queues)]
    queues: lists::QueueList,
    /// CPUs for the workers, one a queue, in turn [default: all allowed, from the last down]
    #[arg(long, help_heading = "Source", value_name = "LIST", value_parser = lists::cpus)]
    cpus: Option<lists::Cpus>,
    /// XDP mode
    #[arg(long, help_heading = "Source", value_enum, default_value_t = ModeArg::Auto)]
    mode: ModeArg,
    /// How packets get from the NIC to the ring
    #[arg(long, help_heading = "Source", value_enum, default_value_t = BindArg::Auto)]
    bind: BindArg,
    /// How workers wait for packets
    #[arg(long, help_heading = "Source", value_enum, default_value_t = WaitArg::Poll)]
    wait: WaitArg,
    /// Packets to take: those addressed to the interface, by MAC and IP address, or all (SPAN ports, promiscuous mode)
    #[arg(long, help_heading = "Source", value_enum, default_value_t = DestinationArg::Own)]
    destination: DestinationArg,
    /// Packets an RX ring holds, a power of two: a longer one outlasts a worker that is late, a shorter one stays in
    /// the caches
    #[arg(long, help_heading = "Source", value_name = "64-32768", default_value_t = EngineBuilder::DEFAULT_RX_RING)]
    rx_ring: u32,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    /// End after this time, such as 10s or 5m
    #[arg(long, help_heading = "Run", value_name = "TIME", value_parser = lists::duration)]
    duration: Option<Duration>,
    /// How often to log a line where standard error is no terminal
    #[arg(long, help_heading = "Run", value_name = "TIME", default_value = "10s", value_parser = lists::duration)]
    stats: Duration,
}

const EXAMPLES: &str = "\
Examples:
  mirror ingest -i ens6                              count, by VNI and source
  mirror ingest -i ens6 -w inner.pcapng              write the inner packets
  mirror ingest -i ens6 -w web.pcapng tcp port 443   those that match
  mirror ingest -i ens6 --print tcp port 443         print them, as tcpdump does
  mirror ingest -i ens6 --vni 12345 -w - | tshark -n -r -
  mirror ingest -i ens6 -C 100 -W 10 -w ring.pcapng  ten files of 100 MB
  mirror ingest -i ens6 --outer -w - | tcpdump -n -r -
  mirror ingest -i ens6 --forward tap:ids0           for Suricata, Zeek, tcpdump
  mirror ingest -i ens6,ens7 --duration 1m -q --json

Lists are numbers and ranges: 0,2-4.

Signals: INT and TERM end the run in order, a second one at once. HUP completes the
capture file and begins the next one; without a file it is as INT. USR1 prints how
it goes. USR2 has buffered packets written.";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeArg {
    /// Native, or generic with a warning
    Auto,
    /// In the driver, or not at all
    Native,
    /// In the kernel's stack: any driver, several times slower
    Generic,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BindArg {
    /// Copy
    Auto,
    /// The kernel copies each packet once
    Copy,
    /// The NIC writes into the ring's memory, or not at all
    Zerocopy,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum WaitArg {
    /// Sleep while there is nothing
    Poll,
    /// Never sleep: a CPU for each queue
    Spin,
    /// Poll the NIC's queue from the worker (kernel 5.11)
    BusyPoll,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DestinationArg {
    /// To the interface's MAC address, and to one of its IP addresses if it has any of the family
    Own,
    /// To whomever
    Any,
}

impl IngestArgs {
    fn wait(&self) -> Wait {
        match self.wait {
            WaitArg::Poll => Wait::Poll,
            WaitArg::Spin => Wait::Spin,
            WaitArg::BusyPoll => Wait::BusyPoll,
        }
    }

    /// What is wrong with what is read, and how, on any host.
    pub(crate) fn judge_source(&self) -> anyhow::Result<()> {
        self.builder()?.validate().map_err(usage)
    }

    /// What is wrong with it on any host.
    pub(crate) fn judge(&self) -> anyhow::Result<()> {
        self.judge_source()?;
        self.output.judge().map(drop)
    }

    fn builder(&self) -> Result<EngineBuilder, Usage> {
        let (first, others) =
            self.interface.split_first().ok_or_else(|| Usage("no interface is named".to_owned()))?;
        let mut builder = Engine::builder(first)
            .queues(self.queues.0.clone().map_or(Queues::All, Queues::List))
            .cpus(self.cpus.iter().flat_map(|list| list.0.iter().copied()))
            .mode(match self.mode {
                ModeArg::Auto => Mode::Auto,
                ModeArg::Native => Mode::Native,
                ModeArg::Generic => Mode::Generic,
            })
            .bind(match self.bind {
                BindArg::Auto => BindMode::Auto,
                BindArg::Copy => BindMode::Copy,
                BindArg::Zerocopy => BindMode::ZeroCopy,
            })
            .wait(self.wait())
            .destination(match self.destination {
                DestinationArg::Own => Destination::Own,
                DestinationArg::Any => Destination::Any,
            })
            .rx_ring(self.rx_ring)
            .on_interface_lost(OnInterfaceLost::GoOn)
            .tunnels(self.output.ports())
            .select(self.output.selection()?)
            .reassemble(!self.output.no_reassemble)
            .kernel_log(self.output.log_verbosity() > 1);
        for interface in others {
            builder = builder.interface(interface);
        }
        if let Some(count) = self.output.count {
            builder = builder.count(count);
        }
        Ok(builder)
    }
}

/// Options that contradict each other, or the host, are wrong usage.
fn usage(error: EngineError) -> anyhow::Error {
    match error {
        EngineError::Options(text) => Usage(text).into(),
        error => error.into(),
    }
}
