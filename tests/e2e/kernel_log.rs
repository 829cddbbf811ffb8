//! Messages of the XDP program reach the user who requests them. Needs root.

mod common;

use common::{Cable, mirror::Mirror};
use mirror_lab::Traffic;
use nix::sys::signal::Signal;

const LOGGED: &str = "no AF_XDP socket on queue 1";

#[test]
fn a_queue_without_a_socket_is_logged_once() {
    let cable = Cable::with_queues(2);
    let directory = tempfile::tempdir().expect("directory");
    let run = Mirror::ingest(&cable, directory.path(), "--queues 0 -vv");
    // Frames of the second CPU arrive on the second queue.
    cable
        .generator(Traffic { cpus: vec![1], rate: Some(20_000), ..Traffic::default() })
        .send(2_000)
        .expect("generated");
    run.says(LOGGED);
    let ending = run.end_by(Signal::SIGINT).expect_code(0);
    assert_eq!(ending.said.matches(LOGGED).count(), 1, "{}", ending.said);
}
