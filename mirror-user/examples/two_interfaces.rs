//! Ingest from several interfaces, with a report per second from another thread. It continues when one of
//! them is deleted.
//!
//! ```console
//! # cargo run --example two_interfaces -- ens6 ens7
//! ```
//!
//! It ends when the last interface is deleted.

use std::{env, error::Error, ops::ControlFlow, sync::mpsc, thread, time::Duration};

use mirror_user::{
    Engine, Report,
    engine::{EngineBuilder, OnInterfaceLost},
    sink::Counters,
};

/// The interval between reports.
const EVERY: Duration = Duration::from_secs(1);

/// Runs until no interface is left, or `show`, which gets a report per second on a thread of its own, asks
/// to stop. Returns the final report.
pub(crate) fn run(
    interfaces: &[String],
    mut show: impl FnMut(&Report) -> ControlFlow<()> + Send,
) -> Result<Report, Box<dyn Error + Send + Sync>> {
    let (first, others) = interfaces.split_first().ok_or("name the interfaces to read")?;
    let builder = Engine::builder(first).on_interface_lost(OnInterfaceLost::GoOn).sink(Counters::default());
    let builder = others.iter().fold(builder, EngineBuilder::interface);
    let running = builder.build()?.start()?;
    let stopper = running.stopper();
    let (over, is_over) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let running = &running;
        scope.spawn(move || {
            while is_over.recv_timeout(EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
                if show(&running.report()).is_break() {
                    return stopper.stop();
                }
            }
        });
        loop {
            let event = running.wait(Duration::from_secs(60));
            if let Some(event) = &event {
                println!("{event:?}");
            }
            if event.is_some_and(|event| event.ends_run()) {
                break;
            }
        }
        drop(over);
    });
    Ok(running.stop())
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let interfaces: Vec<_> = env::args().skip(1).collect();
    let report = run(&interfaces, |report| {
        println!("{:.0} s: {} frames", report.duration_s, report.frames.decapsulated);
        for origin in &report.origins {
            println!("  {} VNI {}: {} frames", origin.source, origin.vni, origin.frames);
        }
        ControlFlow::Continue(())
    })?;
    println!("{} frames, residue {}", report.frames.decapsulated, report.accounting.residue);
    if report.is_clean() { Ok(()) } else { Err("the run did not end cleanly".into()) }
}
