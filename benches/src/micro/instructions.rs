//! Instructions per frame of each part, by callgrind: independent of the host's load.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use super::{Part, per_frame, probe};
use crate::report::schema::{Goal, Micro, Report, Spread};

/// Counts each part; the report says why if it cannot.
pub(super) fn run(report: &mut Report) -> Result<()> {
    let Some(probe) = probe::path()? else {
        super::miss(report, format!("instructions: {} was not built", probe::PROGRAM));
        return Ok(());
    };
    let directory = tempfile::tempdir().context("a directory for callgrind")?;
    let files = directory.path().join("callgrind");
    let mut callgrind = Command::new("valgrind");
    callgrind
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .arg(format!("--toggle-collect=*::{}*", probe::COLLECTED))
        .arg(format!("--dump-after=*::{}*", probe::SEPARATED))
        .arg(format!("--callgrind-out-file={}", files.display()))
        .arg(probe)
        .arg(probe::INSTRUCTIONS);
    if probe::output(&mut callgrind)?.is_none() {
        super::miss(report, "instructions: valgrind is not installed".to_owned());
        return Ok(());
    }

    let mut empty_loop = None;
    for (part, number) in probe::instruction_parts().into_iter().zip(1_u32..) {
        let total = read_total(&files.with_extension(number.to_string()))?;
        let instructions = per_frame(total, part.frames() * probe::passes(part));
        let instructions = match part {
            Part::Loop => {
                empty_loop = Some(instructions);
                instructions
            }
            Part::Decap(..) => instructions - empty_loop.context("the empty loop comes first")?,
            Part::Dispatch(_)
            | Part::Counters(_)
            | Part::Filter(..)
            | Part::Pcap(..)
            | Part::Print(_)
            | Part::Segment(_) => instructions,
        };
        let per_frame = Spread::of(instructions);
        if part == GOAL.0 {
            report.goals.push(Goal::at_most("decapsulation, instructions per packet", GOAL.1, per_frame));
        }
        report.micro.push(Micro { name: part.to_string(), unit: "instructions".to_owned(), per_frame });
    }
    Ok(())
}

/// The part with a goal, and its limit.
const GOAL: (Part, f64) = (Part::Decap(super::Shape::Ipv4, 114), 70.0);

fn read_total(path: &Path) -> Result<f64> {
    let text = fs::read_to_string(path).with_context(|| {
        format!("{}: callgrind did not write it; was {} inlined?", path.display(), probe::SEPARATED)
    })?;
    let total = total(&text).with_context(|| format!("{}: no totals", path.display()))?;
    if total == 0.0 {
        bail!("{}: callgrind counted nothing; was {} inlined?", path.display(), probe::COLLECTED);
    }
    Ok(total)
}

/// The line `totals: N` of a profile in callgrind's format, with one event, Ir.
fn total(profile: &str) -> Option<f64> {
    profile.lines().find_map(|line| line.strip_prefix("totals:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_of_a_profile_is_its_last_line() {
        let profile = "# callgrind format\nversion: 1\ndesc: Trigger: --dump-after=x\n\nevents: Ir\n\
            summary: 7\n\n\
            fn=(1) x\n12 7\n\ntotals: 7\n";
        assert_eq!(total(profile), Some(7.0));
        assert_eq!(total("# callgrind format\n"), None);
    }

    #[test]
    fn the_goal_is_a_part_that_is_counted() {
        assert!(probe::instruction_parts().contains(&GOAL.0));
    }
}
