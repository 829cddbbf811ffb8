//! Fragments of one tenant beside another's with the same addresses and ids: a group of targets keeps each
//! datagram whole.

use mirror_lab::{
    Injector, Listener, fragment,
    frames::{Outer, inner_udp},
};
use nix::sys::signal::Signal;

use super::common::{
    Cable, SENDER,
    mirror::{Mirror, balanced_report, until},
};

const TENANT: u32 = 7;
const STRANGER: u32 = 8;
const DATAGRAMS: u32 = 100;
const TAPS: [&str; 2] = ["ids0", "ids1"];

/// A datagram with its own flow in three fragments, as the tenant's host sent them.
fn datagram(id: u32, port: u16) -> Vec<Vec<u8>> {
    let ends = [([10, 0, 0, 1].into(), port), ([10, 0, 0, 2].into(), 53)];
    let whole = inner_udp(ends[0], ends[1], &[b'x'; 600]).expect("a datagram");
    fragment(&whole, id, &[208, 416]).expect("fragments")
}

fn mirrored(vni: u32, inner: &[u8]) -> Vec<u8> {
    Outer::sample(vni).encapsulate(inner).expect("values that fit")
}

/// The IPv4 identification of a fragment.
fn id_of(frame: &[u8]) -> Option<u16> {
    let id = frame.get(18..20)?.try_into().ok()?;
    (frame.get(12..14) == Some(&[8, 0])).then(|| u16::from_be_bytes(id))
}

#[test]
fn another_tenant_s_first_fragments_split_no_datagram_of_a_tenant_s() {
    let directory = tempfile::tempdir().expect("directory");
    let cable = Cable::with_queues(1);
    let forward = format!(
        "--forward tap:{} --forward tap:{} --forward-balance flow --forward-seed 5 --report report.json",
        TAPS[0], TAPS[1]
    );
    let run = Mirror::ingest(&cable, directory.path(), &forward);
    let listeners = TAPS.map(|tap| Listener::open(&cable.target, tap).expect("listener"));
    let mut frames = Vec::new();
    for number in 0..DATAGRAMS {
        let port = 20_000 + u16::try_from(number).expect("few");
        let [first, middle, last] = <[_; 3]>::try_from(datagram(number, port)).expect("three fragments");
        // Same addresses and id, another flow.
        let stranger = datagram(number, port + 10_000).swap_remove(0);
        frames.extend([
            mirrored(TENANT, &first),
            mirrored(STRANGER, &stranger),
            mirrored(TENANT, &middle),
            mirrored(STRANGER, &stranger),
            mirrored(TENANT, &last),
        ]);
        // And a flood of first fragments.
        let flood = (0..100).map(|n| datagram(1_000 + number * 100 + n, 9).swap_remove(0));
        frames.extend(flood.map(|inner| mirrored(STRANGER, &inner)));
    }
    Injector::new(&cable.sender, SENDER).expect("injector").send_all(&frames).expect("injected");
    run.has(frames.len() as u64);
    let mut received = TAPS.map(|_| Vec::new());
    until("all are forwarded", || {
        for (received, listener) in received.iter_mut().zip(&listeners) {
            received.extend(listener.frames().expect("what is forwarded"));
        }
        (received.iter().map(Vec::len).sum::<usize>() >= frames.len()).then_some(())
    });
    run.end_by(Signal::SIGINT).expect_code(0);
    balanced_report(&directory.path().join("report.json"));

    let mut per_device = [0; TAPS.len()];
    for number in 0..DATAGRAMS {
        let id = u16::try_from(number).expect("few");
        // A fragment offset (RFC 791 section 3.1): not the first.
        let is_later = |frame: &Vec<u8>| frame[20] & 0x1f != 0 || frame[21] != 0;
        let later = |frame: &&Vec<u8>| id_of(frame) == Some(id) && is_later(frame);
        let on = received.each_ref().map(|received| received.iter().filter(later).count());
        let whole = on.iter().position(|fragments| *fragments == 2);
        let device = whole.unwrap_or_else(|| panic!("datagram {number} is on two devices: {on:?}"));
        let first = datagram(number, 20_000 + id).swap_remove(0);
        assert!(received[device].contains(&first), "datagram {number}: its first fragment went elsewhere");
        per_device[device] += 1;
    }
    // Both devices are used, otherwise the test shows nothing.
    assert!(per_device.iter().all(|datagrams| *datagrams > 20), "{per_device:?}");
}
