//! The engine itself.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use mirror_ebpf::{bench as floor, wire::ETHERNET_HEADER};
use mirror_lab::{Namespace, XdpProgram, xdp_program::XdpAttach};
use mirror_user::{
    Engine,
    account::ForwardPathReport,
    engine::{self, EngineBuilder, ForwardPath, Mode, Running},
    sink::{Counters, Forward, LatencySink, Pcap, SinkFactory, pcap::Target},
};
use tempfile::TempDir;

use super::{Account, Kind, Receiver, Wait, pin, stage, window::Window};
use crate::{
    bed::{Bed, CABLES, RECEIVING, TUNNEL_END, far_end, near_end},
    null::Null,
    process::Process,
    stats::count,
};

/// A running engine.
#[derive(Debug)]
pub(super) struct EngineWork {
    running: Running,
    latency: Option<Arc<LatencySink>>,
    /// At the far ends of the targets, without which the kernel does not forward.
    _far: Vec<XdpProgram>,
    /// On the far end of a `veth:`.
    _reader: Option<Reader>,
}

/// Percentiles of a latency curve, as fractions: 0.5, 0.75, 0.875 and so on up to 1 - 2^-20.
const CURVE: i32 = 20;

/// The far end of a `veth:`.
const LISTENING: &str = "ids0";

/// A forwarder whose threads run on the workers' CPU, as the writer of captures does.
fn forward(receiver: &Receiver, bed: &Bed, targets: &[String]) -> Result<Arc<dyn SinkFactory>> {
    let cpus = receiver.cpus.clone();
    let mut targets = targets.iter().map(|target| target.parse());
    let first = targets.next().context("a target")??;
    let max_frame = bed.mtu as usize + ETHERNET_HEADER;
    let mut builder = Forward::builder(first).max_frame(max_frame).on_thread_start(move || pin(&cpus));
    for target in targets {
        builder = builder.member(target?);
    }
    Ok(Arc::new(bed.receiver.enter(|| builder.build())??))
}

/// tcpdump, which reads by AF_PACKET and writes to nowhere.
#[derive(Debug)]
struct Reader {
    _process: Process,
    _directory: TempDir,
}

impl Reader {
    fn start(receiver: &Receiver, bed: &Bed) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let cpus: Vec<_> = receiver.cpus.iter().map(usize::to_string).collect();
        let mut command = bed.beyond.command("taskset");
        command.args([
            "-c",
            &cpus.join(","),
            "tcpdump",
            "-i",
            LISTENING,
            "-n",
            "-B",
            "16384",
            "-w",
            "/dev/null",
        ]);
        let mut process = Process::start(command, directory.path())?;
        process.wait_until(|said| Ok(said.contains("listening on")))?;
        Ok(Self { _process: process, _directory: directory })
    }
}

/// Starts the engine.
fn run(
    receiver: &Receiver,
    bed: &Bed,
    sinks: Vec<Arc<dyn SinkFactory>>,
    forward_path: ForwardPath,
) -> Result<Running> {
    let builder = Engine::builder(RECEIVING)
        .mode(Mode::Native)
        .forward_path(forward_path)
        .wait(match receiver.wait {
            Wait::Spin => engine::Wait::Spin,
            Wait::Poll => engine::Wait::Poll,
            Wait::BusyPoll => engine::Wait::BusyPoll,
        })
        .priority(receiver.priority)
        .rx_ring(receiver.sizes.rx_ring)
        .umem_frames(receiver.sizes.umem_frames)
        .chunk_size(receiver.sizes.chunk_size)
        .cpus(receiver.cpus.iter().copied());
    let builder = sinks.into_iter().fold(builder, EngineBuilder::sink);
    // Busy polling has settings under /sys.
    Ok(bed.receiver.enter_with_sysfs(|| builder.build().and_then(Engine::start))??)
}

impl EngineWork {
    pub(super) fn start(receiver: &Receiver, bed: &Bed) -> Result<Self> {
        let cables = match receiver.kind {
            Kind::KernelDrop | Kind::KernelTunnel => 1,
            Kind::KernelGroup => CABLES,
            _ => 0,
        };
        let far = (0..cables).map(|number| {
            let mut program = XdpProgram::load_floor(floor::PROGRAM_DROP)?;
            program.attach(&bed.beyond, &far_end(number), XdpAttach::Native)?;
            anyhow::Ok(program)
        });
        let far = far.collect::<Result<_>>()?;
        let in_kernel = receiver.kind.is_in_kernel();
        let listens = matches!(receiver.kind, Kind::Veth | Kind::KernelVeth);
        let mut latency = None;
        let sink: Arc<dyn SinkFactory> = match receiver.kind {
            Kind::Pcap => {
                let target = Target::writer("memory", Window::new()?);
                // On the workers' CPU, not on the one that sends and receives.
                let cpus = receiver.cpus.clone();
                Arc::new(Pcap::builder(target).on_thread_start(move || pin(&cpus)).build()?)
            }
            Kind::Tap => forward(receiver, bed, &["tap:tap0".to_owned()])?,
            Kind::Veth | Kind::KernelVeth => {
                forward(receiver, bed, &[format!("veth:{LISTENING},netns={}", bed.beyond.name())])?
            }
            Kind::KernelDrop | Kind::KernelGroup => {
                let targets: Vec<_> = (0..cables).map(|number| format!("dev:{}", near_end(number))).collect();
                forward(receiver, bed, &targets)?
            }
            Kind::Tunnel | Kind::KernelTunnel => forward(receiver, bed, &[format!("vxlan:{TUNNEL_END}")])?,
            Kind::Latency => Arc::clone(latency.insert(Arc::new(LatencySink::new()))) as _,
            Kind::Counters => Arc::new(Counters::default()),
            _ => Arc::new(Null),
        };
        let mut sinks = vec![sink];
        // As in the command, which counts origins.
        if in_kernel {
            sinks.push(Arc::new(Counters::default()));
        }
        let reader = listens.then(|| Reader::start(receiver, bed)).transpose()?;
        let forward_path = if in_kernel { ForwardPath::Kernel } else { ForwardPath::User };
        let running = run(receiver, bed, sinks, forward_path)?;
        Ok(Self { running, latency, _far: far, _reader: reader })
    }

    /// The engine with this sink.
    pub(super) fn start_with(receiver: &Receiver, bed: &Bed, sink: Arc<dyn SinkFactory>) -> Result<Self> {
        let running = run(receiver, bed, vec![sink], ForwardPath::User)?;
        Ok(Self { running, latency: None, _far: Vec::new(), _reader: None })
    }

    /// Frames that its sinks have written, as of the last tick.
    pub(super) fn written(&self) -> u64 {
        self.running.report().sinks.iter().map(|sink| sink.written).sum()
    }

    pub(super) fn finish(self, namespace: &Namespace) -> Result<Account> {
        let running = self.running;
        let report = namespace.enter_with_sysfs(|| running.stop())?;
        ensure!(
            report.accounting.residue == 0,
            "the engine's accounting has a residue of {}",
            report.accounting.residue
        );
        let mut account = Account::default();
        let mut busy_ns = 0.0;
        for interface in &report.interfaces {
            account.lose(stage::REDIRECT_FAILED, interface.xdp.redirect_failed.unwrap_or(0));
            for queue in &interface.queues {
                account.lose(stage::RX_DROPPED, queue.rx_dropped);
                account.lose(stage::RX_RING_FULL, queue.rx_ring_full);
                busy_ns += queue.busy_ns_per_frame * count(queue.received);
            }
        }
        let sent: u64 = report
            .interfaces
            .iter()
            .filter_map(|it| it.forward_path.as_ref())
            .map(ForwardPathReport::sent)
            .sum();
        account.lose(stage::NOT_SENT, report.not_sent_by_kernel());
        // The sink that is measured is the first.
        let written = report.sinks.first().map_or(0, |sink| sink.written);
        account.lose(stage::SINK, report.frames.decapsulated - written);
        account.received = written + sent;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an elapsed time")]
        let busy_ns = busy_ns as u64;
        account.busy_ns = busy_ns;
        if let Some(latency) = self.latency {
            let shares = (1..=CURVE).map(|halvings| 1.0 - 0.5_f64.powi(halvings)).chain([0.99, 0.999, 1.0]);
            account.latency =
                shares.filter_map(|share| Some((share, latency.value_at_quantile(share)?))).collect();
            account.latency.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        Ok(account)
    }
}
