//! RX ring and UMEM sizes: small ones stay in the caches of both cores, large ones absorb delays of the
//! worker.

use std::collections::BTreeMap;

use anyhow::Result;
use mirror_lab::{Traffic, generator::ONE_CALL};
use mirror_user::engine::Priority;

use crate::{
    bed::{Bed, MTU},
    options::Options,
    progress::Progress,
    raw::Sizes,
    receiver::{Kind, Receiver, Wait, default_sizes},
    report::schema::{Report, SweepPoint},
    stats::spread,
    trial::{Sample, measure},
};

/// Descriptors of the RX ring.
const RX_RINGS: [u32; 6] = [1024, 2048, 4096, 8192, 16384, 32768];
/// Chunks beyond those of the RX ring: a batch, or as many as the fill ring holds.
const CHUNKS: [fn(u32) -> u32; 2] = [|rx_ring| rx_ring + Sizes::SPARE, |rx_ring| rx_ring * 2];
const KINDS: [Kind; 3] = [Kind::Bare, Kind::Touch, Kind::Counters];

/// Tries all sizes.
///
/// # Errors
///
/// If the bed or a receiver cannot be created, or a residue is left.
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    let bed = Bed::new(1, MTU)?;
    let defaults = default_sizes(&bed)?;
    let traffic = Traffic { cpus: vec![options.kernel_cpu], ..Traffic::default() };
    let sizes: Vec<_> = RX_RINGS
        .iter()
        .flat_map(|&rx_ring| CHUNKS.map(|chunks| Sizes { rx_ring, umem_frames: chunks(rx_ring), ..defaults }))
        .collect();
    let progress = Progress::start();
    let mut samples = BTreeMap::<_, Vec<Sample>>::new();
    for round in 0..options.rounds {
        progress.show(format_args!("sweep: round {} of {}", round + 1, options.rounds));
        for place in 0..sizes.len() {
            // Each round begins with another one, so that no size always follows the same.
            let place = (place + round) % sizes.len();
            for kind in KINDS {
                options.go_on()?;
                let receiver = Receiver {
                    kind,
                    wait: Wait::Spin,
                    priority: Priority::Auto,
                    sizes: sizes[place],
                    cpus: vec![options.worker_cpu],
                };
                samples.entry((place, kind)).or_default().push(measure(&bed, &receiver, &traffic, ONE_CALL)?);
            }
        }
    }
    for ((place, kind), own) in &samples {
        let bare = &samples[&(*place, Kind::Bare)];
        report.sweep.push(SweepPoint {
            rung: kind.to_string(),
            rx_ring: sizes[*place].rx_ring,
            umem_frames: sizes[*place].umem_frames,
            mpps: spread(own.iter().map(|sample| sample.received_rate / 1e6)),
            ratio_to_bare: spread(own.iter().zip(bare).map(|(a, b)| a.received_rate / b.received_rate)),
            offered: own.iter().map(|sample| sample.offered).sum(),
            lost: own.iter().map(Sample::lost).sum(),
        });
    }
    Ok(())
}
