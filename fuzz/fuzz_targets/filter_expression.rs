//! Any words as a filter expression: an error with its place, or a program that gives the same result in
//! libpcap's interpreter.
#![no_main]

use std::{net::UdpSocket, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use mirror_user::select::Filter;
use nix::sched::{CloneFlags, unshare};
use pcap::{Capture, Linktype};

static FRAMES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(mirror_fuzz::packets);

/// libpcap resolves names: this prevents it.
static NO_NETWORK: LazyLock<()> = LazyLock::new(|| {
    if unshare(CloneFlags::CLONE_NEWNET).is_err() {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET).expect("a namespace without a network");
    }
    let socket = UdpSocket::bind("0.0.0.0:0").expect("socket");
    socket.send_to(&[0], "192.0.2.1:53").expect_err("a network, in which names would be looked up");
});

fuzz_target!(|expression: &str| {
    LazyLock::force(&NO_NETWORK);
    match Filter::compile(expression) {
        Err(error) => {
            if let Some(place) = &error.place {
                assert!(expression.get(place.clone()).is_some(), "{error:?}");
            }
            assert!(error.to_string().lines().count() <= 3, "{error}");
        }
        Ok(filter) => {
            let libpcap = Capture::dead(Linktype::ETHERNET).expect("libpcap");
            let libpcap = libpcap.compile(expression, true).expect("the same words a second time");
            let len = |frame: &Vec<u8>| u32::try_from(frame.len()).expect("a short frame");
            let together = filter.matching(FRAMES.iter().map(|frame| (frame.as_slice(), len(frame))));
            for (number, frame) in FRAMES.iter().enumerate() {
                let alone = filter.matches(frame, len(frame));
                assert_eq!(alone, libpcap.filter(frame), "{expression}");
                assert_eq!(alone, together >> number & 1 == 1, "{expression}");
            }
        }
    }
});
