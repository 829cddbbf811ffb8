//! The engine itself.

use std::sync::Arc;

use anyhow::{Result, ensure};
use mirror_ebpf::{bench as floor, mirror::PROGRAM};
use mirror_lab::{
    Namespace, XdpProgram,
    xdp_program::{Settings, XdpAttach},
};
use mirror_user::{
    Engine,
    engine::{self, ForwardPath, Mode, Running},
    sink::{Counters, Forward, LatencySink, Pcap, SinkFactory, pcap::Target},
};

use super::{Account, Kind, Receiver, Wait, pin, stage, window::Window};
use crate::{
    bed::{BEYOND, Bed, FORWARDING, RECEIVING, TUNNEL_END},
    null::Null,
    stats::count,
};

/// A running engine.
#[derive(Debug)]
pub(super) struct EngineWork {
    running: Running,
    latency: Option<Arc<LatencySink>>,
    /// At the far end of the target, without which the kernel does not forward.
    _far: Option<XdpProgram>,
}

/// Percentiles of a latency curve, as fractions: 0.5, 0.75, 0.875 and so on up to 1 - 2^-20.
const CURVE: i32 = 20;

/// A forwarder whose thread runs on the workers' CPU, as the writer of captures does.
fn forward(receiver: &Receiver, bed: &Bed, target: &str) -> Result<Arc<dyn SinkFactory>> {
    let cpus = receiver.cpus.clone();
    let builder = Forward::builder(target.parse()?).on_thread_start(move || pin(&cpus));
    Ok(Arc::new(bed.receiver.enter(|| builder.build())??))
}

impl EngineWork {
    pub(super) fn start(receiver: &Receiver, bed: &Bed) -> Result<Self> {
        let far = match receiver.kind {
            Kind::KernelDrop => Some(XdpProgram::load_floor(floor::PROGRAM_DROP)?),
            // It passes what is no tunnel packet.
            Kind::KernelPass => Some(XdpProgram::load(PROGRAM, &Settings::default())?),
            _ => None,
        };
        let far = far.map(|mut program| {
            program.attach(&bed.beyond, BEYOND, XdpAttach::Native)?;
            anyhow::Ok(program)
        });
        let far = far.transpose()?;
        let mut latency = None;
        let sink: Arc<dyn SinkFactory> = match receiver.kind {
            Kind::Pcap => {
                let target = Target::writer("memory", Window::new()?);
                // On the workers' CPU, not on the one that sends and receives.
                let cpus = receiver.cpus.clone();
                Arc::new(Pcap::builder(target).on_thread_start(move || pin(&cpus)).build()?)
            }
            Kind::Tap => forward(receiver, bed, "tap:tap0")?,
            Kind::Device | Kind::KernelDrop | Kind::KernelPass => {
                forward(receiver, bed, &format!("dev:{FORWARDING}"))?
            }
            Kind::Tunnel => forward(receiver, bed, &format!("vxlan:{TUNNEL_END}"))?,
            Kind::Latency => Arc::clone(latency.insert(Arc::new(LatencySink::new()))) as _,
            Kind::Counters => Arc::new(Counters::default()),
            _ => Arc::new(Null),
        };
        let builder = Engine::builder(RECEIVING)
            .mode(Mode::Native)
            .forward_path(if far.is_some() { ForwardPath::Kernel } else { ForwardPath::User })
            .wait(match receiver.wait {
                Wait::Spin => engine::Wait::Spin,
                Wait::Poll => engine::Wait::Poll,
                Wait::BusyPoll => engine::Wait::BusyPoll,
            })
            .priority(receiver.priority)
            .rx_ring(receiver.sizes.rx_ring)
            .umem_frames(receiver.sizes.umem_frames)
            .chunk_size(receiver.sizes.chunk_size)
            .cpus(receiver.cpus.iter().copied())
            .sink(sink);
        // Busy polling has settings under /sys.
        let running = bed.receiver.enter_with_sysfs(|| builder.build().and_then(Engine::start))??;
        Ok(Self { running, latency, _far: far })
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
        let sent: u64 = report.interfaces.iter().filter_map(|it| it.forward_path.as_ref()?.sent).sum();
        account.lose(stage::NOT_SENT, report.not_sent_by_kernel());
        let written: u64 = report.sinks.iter().map(|sink| sink.written).sum();
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
