//! The cost of waiting. Needs root.

mod common;

use std::{
    fs,
    time::{Duration, Instant},
};

use common::{
    Cable,
    mirror::{Mirror, assert_next_run_works, inject},
};
use nix::{
    sys::signal::Signal,
    unistd::{Pid, SysconfVar, sysconf},
};

/// CPU time of all threads of a process, user and system: fields 14 and 15 of proc_pid_stat(5).
fn cpu_time(process: Pid) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("stat");
    // The name in parentheses may contain anything.
    let fields: Vec<&str> = stat.rsplit_once(") ").expect("name").1.split(' ').collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("ticks")).sum();
    let per_second = sysconf(SysconfVar::CLK_TCK).expect("sysconf").expect("ticks a second");
    Duration::from_secs(ticks) / u32::try_from(per_second).expect("ticks a second")
}

/// Two queues and a capture file, with the default `--wait poll`: under 2 % of one CPU for all threads
/// together.
#[test]
fn an_idle_run_uses_less_than_two_per_cent_of_a_cpu() {
    const OVER: Duration = Duration::from_secs(10);
    let cable = Cable::with_queues(2);
    let directory = tempfile::tempdir().expect("directory");
    let run = Mirror::ingest(&cable, directory.path(), "-w out.pcapng");
    // Frames first, so that the run idles after work.
    inject(&cable, 1_000);
    run.has(1_000);
    let (start, before) = (Instant::now(), cpu_time(run.pid()));
    std::thread::sleep(OVER);
    let (elapsed, used) = (start.elapsed(), cpu_time(run.pid()) - before);
    let share = used.as_secs_f64() / elapsed.as_secs_f64();
    println!("idle: {used:?} of CPU in {elapsed:?}, {:.2} %", share * 100.0);
    assert!(share < 0.02, "{used:?} of CPU in {elapsed:?} of idling");
    run.end_by(Signal::SIGINT).expect_code(0);
    assert_next_run_works(&cable);
}
