//! `cargo bench -p mirror-bench --bench micro`: the parts, with all of criterion's options.

use anyhow::Result;
use criterion::Criterion;
use mirror_bench::micro::{Part, bench};

fn main() -> Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    for part in Part::each() {
        bench(&mut criterion, part)?;
    }
    criterion.final_summary();
    Ok(())
}
