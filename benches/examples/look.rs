use mirror_bench::{bed::Bed, raw::Sizes, receiver::*, stats::spread, trial};
use mirror_lab::Traffic;
fn main() -> anyhow::Result<()> {
    let rounds: usize = std::env::args().nth(1).map_or(5, |a| a.parse().unwrap());
    let wait = match std::env::args().nth(2).as_deref() {
        Some("poll") => Wait::Poll,
        _ => Wait::Spin,
    };
    let frame_len: usize = std::env::args().nth(3).map_or(114, |a| a.parse().unwrap());
    let rx: Option<u32> = std::env::args().nth(4).map(|a| a.parse().unwrap());
    let umem: Option<u32> = std::env::args().nth(5).map(|a| a.parse().unwrap());
    let bed = Bed::new(1)?;
    let mut sizes = default_sizes(&bed)?;
    if let Some(rx) = rx {
        sizes = Sizes { rx_ring: rx, umem_frames: umem.unwrap_or(rx * 2), ..sizes };
    }
    if let Ok(h) = std::env::var("HEADROOM") {
        sizes.headroom = h.parse()?;
    }
    println!("{sizes:?} {wait} {frame_len}");
    let traffic = Traffic { frame_len, ..Traffic::default() };
    let mut all = vec![Vec::new(); Kind::LADDER.len()];
    for round in 0..rounds {
        for i in 0..Kind::LADDER.len() {
            let i = (i + round) % Kind::LADDER.len();
            let r = Receiver { kind: Kind::LADDER[i], wait, sizes, cpus: vec![1] };
            all[i].push(trial::measure(&bed, &r, &traffic, 1 << 20)?);
        }
    }
    for (i, kind) in Kind::LADDER.iter().enumerate() {
        let s = &all[i];
        let rate = spread(s.iter().map(|s| s.received_rate / 1e6));
        let ratio = spread(s.iter().zip(&all[2]).map(|(a, b)| a.received_rate / b.received_rate));
        let busy = spread(s.iter().map(|s| s.busy_ns_per_frame));
        let lost: u64 = s.iter().map(|s| s.lost()).sum();
        let off: u64 = s.iter().map(|s| s.offered).sum();
        println!(
            "{kind:9} {:.2} [{:.2} {:.2}] Mpps  /touch {:.3} [{:.3} {:.3}]  busy {:.1} ns  lost {lost} of {off} {:?}",
            rate.median,
            rate.q1,
            rate.q3,
            ratio.median,
            ratio.q1,
            ratio.q3,
            busy.median,
            s.iter().map(|s| s.lost_by.clone()).collect::<Vec<_>>().first()
        );
    }
    Ok(())
}
