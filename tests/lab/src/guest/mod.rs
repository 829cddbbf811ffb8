//! What runs inside a guest that `cargo xtask vmtest` boots: `mirror` on cards of several kinds and as a
//! service of systemd, and test programs, as a plan has them. Each step gives one line of JSON, as soon as it
//! is over.
//!
//! The guest is discarded afterwards, so only what would disturb the next step is restored.

mod capabilities;
mod card;
mod ingest;
mod judge;
mod numbered;
mod package;
mod plan;
mod service;
mod test_program;

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    time::Instant,
};

use serde_json::json;

pub use self::capabilities::exec_with_capabilities;
pub use self::plan::{
    Card, Cell, During, Expect, Frames, Package, PackageScenario, Plan, Scenario, Service, Step, TestProgram,
};
use crate::error::{LabError, Result};

/// Set in guests: programs that would be large in one (tshark) are not there, and tests do without that
/// witness.
pub const GUEST_VARIABLE: &str = "MIRROR_GUEST";

/// Whether this is a guest of `cargo xtask vmtest`.
pub fn is_guest() -> bool {
    std::env::var_os(GUEST_VARIABLE).is_some()
}

/// How one step ended: what was seen, or what was wrong.
type Verdict = std::result::Result<String, String>;

/// Carries out the plan in this file. Results go to `results`, a line each; reports, standard error and other
/// papers of each step into the folder `papers`.
///
/// # Errors
///
/// Where the plan cannot be read or results cannot be written. A step that fails is a result, not an error.
pub fn run(plan: &Path, results: &Path, papers: &Path) -> Result<()> {
    let text = fs::read_to_string(plan).map_err(|error| LabError::file(plan, error))?;
    let plan_read: Plan = serde_json::from_str(&text)
        .map_err(|error| LabError::Unexpected(format!("{}: {error}", plan.display())))?;
    let mut results_file =
        File::options().append(true).open(results).map_err(|error| LabError::file(results, error))?;
    let mut tell = |line: serde_json::Value| {
        results_file.write_all(format!("{line}\n").as_bytes()).map_err(|error| LabError::file(results, error))
    };
    for step in &plan_read.steps {
        let start = Instant::now();
        let verdict = match step {
            Step::Cell(cell) => cell_verdict(cell, papers),
            Step::Test(program) => test_program::run(program, papers),
            Step::Service(service) => service::run(service, papers),
            Step::Package(package) => package::run(package, papers),
        };
        let seconds = start.elapsed().as_secs_f64();
        let (ok, detail) = match verdict {
            Ok(detail) => (true, detail),
            Err(detail) => (false, detail),
        };
        tell(json!({ "step": step.name(), "ok": ok, "detail": detail, "seconds": seconds }))?;
    }
    tell(json!({ "steps": plan_read.steps.len() }))
}

/// How often a cell is run whose frames did not all leave the source.
const ATTEMPTS: u32 = 3;

fn cell_verdict(cell: &Cell, papers: &Path) -> Verdict {
    until_all_are_sent(|| attempt(cell, papers))
}

/// The verdict of the first attempt whose frames all left the source: no other says anything of the card
/// under test.
fn until_all_are_sent(mut attempt: impl FnMut() -> std::result::Result<(u64, Verdict), String>) -> Verdict {
    let mut unsent = Vec::new();
    for _ in 0..ATTEMPTS {
        let (lost, verdict) = attempt()?;
        if lost == 0 {
            if unsent.is_empty() {
                return verdict;
            }
            let repeated = format!("; repeated, for the source lost {unsent:?} frames itself");
            return verdict.map(|detail| detail + &repeated).map_err(|detail| detail + &repeated);
        }
        unsent.push(lost);
    }
    Err(format!("no result: the source lost {unsent:?} frames itself, before they came to the card"))
}

/// Frames that never left the source, and how the run ended.
fn attempt(cell: &Cell, papers: &Path) -> std::result::Result<(u64, Verdict), String> {
    let failed = |error: LabError| format!("the guest's lab: {error}");
    let card = card::Raised::raise(cell).map_err(failed)?;
    let frames = numbered::frames(&cell.frames, card.hardware_address).map_err(failed)?;
    let ending = ingest::run(cell, &card, &frames, papers).map_err(failed)?;
    let verdict = judge::judge(cell, &frames, &ending);
    // All that a guest writes is in its memory.
    fs::remove_dir_all(&ending.directory)
        .map_err(|error| format!("{}: {error}", ending.directory.display()))?;
    Ok((ending.counted.unsent(), verdict))
}

/// The name of a step as the beginning of a file's name.
fn file_stem(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(attempts: &[(u64, Verdict)]) -> Verdict {
        let mut attempts = attempts.iter().cloned();
        until_all_are_sent(|| Ok(attempts.next().expect("no more attempts than that")))
    }

    #[test]
    fn losses_of_the_source_are_no_result_and_losses_of_the_card_are_one() {
        let (whole, short) = (Ok("whole".to_owned()), Err("short".to_owned()));
        assert_eq!(verdict(&[(0, whole.clone())]), whole);
        assert_eq!(verdict(&[(0, short.clone())]), short);
        let repeated = verdict(&[(20, short.clone()), (0, whole.clone())]).unwrap();
        assert!(repeated.contains("whole") && repeated.contains("[20]"), "{repeated}");
        let repeated = verdict(&[(1, whole.clone()), (0, short)]).unwrap_err();
        assert!(repeated.contains("short") && repeated.contains("[1]"), "{repeated}");
        let lost = vec![(1, whole); ATTEMPTS as usize];
        assert!(verdict(&lost).unwrap_err().contains("no result"));
        assert_eq!(until_all_are_sent(|| Err("no card".into())), Err("no card".into()));
    }
}
