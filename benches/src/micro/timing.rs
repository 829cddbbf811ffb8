//! How long each part takes a frame, by criterion.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use criterion::{BenchmarkId, Criterion, Throughput};
use serde::Deserialize;

use super::{Part, per_frame};
use crate::{
    options::Options,
    report::schema::{Goal, Micro, Report},
    stats::spread,
};

/// ns that a filter expression may take for a frame.
const FILTER_GOAL: f64 = 15.0;

/// Measures one part.
///
/// # Errors
///
/// As [`Part::pass`].
pub fn bench(criterion: &mut Criterion, part: Part) -> Result<()> {
    let mut pass = part.pass()?;
    let (name, kind, parameter) = part.id();
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(part.frames()));
    group.bench_function(BenchmarkId::new(kind, parameter), |bencher| bencher.iter(&mut pass));
    group.finish();
    Ok(())
}

/// Measures each part.
pub(super) fn run(options: &Options, report: &mut Report) -> Result<()> {
    // A directory of its own: what is read there is of this run.
    let directory = tempfile::tempdir().context("a directory for criterion")?;
    let (warm_up, measurement, samples) = if options.quick { (50, 200, 20) } else { (1000, 3000, 100) };
    let mut criterion = Criterion::default()
        .without_plots()
        .output_directory(directory.path())
        .warm_up_time(Duration::from_millis(warm_up))
        .measurement_time(Duration::from_millis(measurement))
        .sample_size(samples);
    for part in Part::each() {
        options.go_on()?;
        bench(&mut criterion, part)?;
        let (name, kind, parameter) = part.id();
        let samples = directory.path().join(name).join(kind).join(parameter.to_string());
        let per_frame = spread(Samples::read(&samples.join("new/sample.json"))?.ns_per_frame(part));
        if part == Part::FILTER {
            report.goals.push(Goal::at_most("filter `tcp port 443`, ns per frame", FILTER_GOAL, per_frame));
        }
        report.micro.push(Micro { name: part.to_string(), unit: "ns".to_owned(), per_frame });
    }
    Ok(())
}

/// What criterion writes of a measurement: for each sample how often the part was done, and the ns that took.
///
/// Its own estimates have the same median with a confidence interval; quartiles need the samples.
#[derive(Debug, Deserialize)]
struct Samples {
    iters: Vec<f64>,
    times: Vec<f64>,
}

impl Samples {
    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }

    fn ns_per_frame(self, part: Part) -> Vec<f64> {
        let Self { iters, times } = self;
        times.iter().zip(iters).map(|(time, passes)| per_frame(time / passes, part.frames())).collect()
    }
}
