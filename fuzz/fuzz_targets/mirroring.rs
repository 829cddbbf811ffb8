//! Any text as what the AWS CLI prints of Traffic Mirroring, and behind a zero byte any bytes as a packet: a
//! set-up that is read is written and read again as it was, has an answer for each packet of its sources, and
//! knows the direction of any frame of its sessions, or that it does not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mirror_user::mirroring::{Direction, Mirroring, Outcome, Packet};

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let text = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let frame = parts.next().unwrap_or_default();
    let packet = Packet::of_frame(frame);
    let Ok(all) = Mirroring::read([("any", &*text)]) else { return };
    let written = all.to_json().to_string();
    assert_eq!(Mirroring::read([("written", written.as_str())]).expect("it is read again"), all);
    let vnis = all.vnis();
    assert_eq!(vnis.len(), all.sessions.len());
    let table = all.session_table();
    for session in table.sessions() {
        assert_eq!(vnis[session.id.as_str()], session.vni);
        let _ = session.direction(frame);
    }
    let Some(packet) = packet else { return };
    for session in &all.sessions {
        for direction in [Direction::Ingress, Direction::Egress] {
            if let Outcome::Mirrored { session: by, length, .. } =
                all.evaluate(&session.interface, direction, &packet)
            {
                assert!(by.interface == session.interface && length <= packet.length);
            }
        }
    }
});
