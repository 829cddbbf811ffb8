//! Connections of the protocols whose payload is printed, from the first segment to the last.

use super::{made::*, *};

#[test]
fn lines_of_http_are_printed_as_tcpdump_prints_them() {
    let said: [&[u8]; 10] = [
        b"GET /index.html HTTP/1.1\r\nHost: example.com\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"post /x HTTP/1.0\nA: b\n\n",
        b"the rest of a body\r\nwith lines\r\n",
        b"OPTIONS",
        b"HTTP/1.1 404",
        b"GET /\t\x01binary\r\n",
        b"HTTP/1.1 \x80200 x\r\n",
        b"VERSION-CONTROL /a HTTP/1.1\r",
        b"HTTP/1.1  301 Moved\r\nLocation:\t/x\r\nX: \xff\r\n",
    ];
    compare_full(&[session(80, &said), session(8080, &said[..2])].concat());
}

#[test]
fn lines_of_ftp_smtp_and_whois_are_printed_as_tcpdump_prints_them() {
    let ftp: [&[u8]; 6] = [
        b"",
        b"220 ready\r\n",
        b"USER me\r\n",
        b"331-Password\r\n331 please\r\n",
        b"PASS \x1b[31m\r\n",
        b"no end",
    ];
    let smtp: [&[u8]; 4] =
        [b"EHLO host\r\n", b"250-hello\r\n250 SIZE\r\n", b"DATA\rx\r\n", b"354 go\tahead\n"];
    let whois: [&[u8]; 2] = [b"example.com\r\n", b"% nothing\r\nhere\r\n"];
    compare_full(&[session(21, &ftp), session(25, &smtp), session(43, &whois)].concat());
}

#[test]
fn lines_of_rtsp_and_ssh_are_printed_as_tcpdump_prints_them() {
    let rtsp: [&[u8]; 4] = [
        b"DESCRIBE rtsp://x/y RTSP/1.0\r\nCSeq: 1\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n",
        b"SET_PARAMETER x RTSP/1.0\r\n",
        b"$\x00\x00\x10interleaved data",
    ];
    let ssh: [&[u8]; 7] = [
        b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n",
        b"SSH-2.0-x\nmore",
        b"SSH-\x01\n",
        b"SSH-2.0\rx\n",
        b"SSH-2.0\r",
        b"\x00\x00\x01",
        b"SSH-2.0-no end",
    ];
    compare_full(&[session(554, &rtsp), session(8554, &rtsp[..2]), session(22, &ssh)].concat());
}

#[test]
fn dns_over_tcp_and_bgp_are_printed_as_tcpdump_prints_them() {
    let query = b"\x00\x1d\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\
        \x03www\x07example\x03com\x00\x00\x01\x00\x01";
    let [_, rest @ ..] = query;
    let two = [&query[..], query].concat();
    let dns: [&[u8]; 6] = [&query[..query.len() - 2], query, rest, &two, b"\x00", b"\x00\x03\x12\x34\x01"];
    let mut right = query.to_vec();
    right[1] = 33;
    compare_full(&[session(53, &dns), session(53, &[&right])].concat());
    compare_brief(&session(179, &[&[0xff; 19]]));
}

#[test]
fn telnet_is_printed_as_tcpdump_prints_it() {
    let said: [&[u8]; 11] = [
        b"\xff\xfd\x18\xff\xfb\x20\xff\xfe\x63",
        b"\xff\xfa\x18\x01\xff\xf0",
        b"\xff\xfa\x18\x00xterm\xff\xf0\xff\xf9login: ",
        b"\xff\xfa\x25\x01\x02\x00\xff\xf0",
        b"\xff\xfa\x26\x01\x05\x09\xff\xf0\xff\xff",
        b"plain",
        b"\xff\xfa\x18\x01",
        b"\xff",
        b"\xff\x01",
        b"\xff\xfb",
        b"\xff\xfa\x63\xff\xf0",
    ];
    compare_full(&session(23, &said));
}

#[test]
fn redis_is_printed_as_tcpdump_prints_it() {
    let said: [&[u8]; 14] = [
        b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
        b"$5\r\nhello\r\n+OK\r\n:42\r\n-ERR no\r\n",
        b"$0\r\n\r\n$-1\r\n*0\r\n*-1\r\n",
        b"PING\r\nPING\n",
        b"\r\n\r\nPING\r",
        b"*2\r\n*1\r\n:1\r\n*1\r\n$1\r\n\x1b\r\n",
        b"$99\r\nshort\r\n",
        b"$-2\r\n",
        b"$99999999999\r\n",
        b"$2147483648\r\n",
        b"$x\r\n",
        b"$1\rx",
        b"no end",
        b"$5\r\nhelloworld\r\n",
    ];
    compare_full(&session(6379, &said));
}

#[test]
fn nested_arrays_are_printed_to_a_limit() {
    let text = b"*1\r\n".repeat(300);
    let frames: Vec<_> = session(6379, &[&text]).iter().map(|inner| outer(inner, inner.len())).collect();
    let mut text = String::new();
    let mut lines = Lines::new(Style::default());
    frames.iter().for_each(|frame| lines.line(&frame.frame(), &mut text));
    assert!(text.contains(": RESP [|resp]\n"), "{text}");
}

#[test]
fn multipath_options_are_printed_as_tcpdump_prints_them() {
    let options: [(&[u8], bool); 22] = [
        (&[30, 4, 0x01, 0x81], true),
        (&[30, 12, 0x00, 0x81, 1, 2, 3, 4, 5, 6, 7, 8], true),
        (&[30, 12, 0x03, 0x81, 1, 2, 3, 4, 5, 6, 7, 8], true),
        (&[30, 20, 0x01, 0x01, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8], false),
        (&[30, 12, 0x11, 7, 1, 2, 3, 4, 5, 6, 7, 8], true),
        (&[30, 16, 0x10, 7, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9], true),
        (&[30, 24, 0x10, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9, 1, 2, 3, 4, 5, 6, 7, 8], false),
        (&[30, 8, 0x20, 0x01, 1, 2, 3, 4], false),
        (&[30, 12, 0x20, 0x03, 1, 2, 3, 4, 5, 6, 7, 8], false),
        (&[30, 20, 0x20, 0x1d, 1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 9], false),
        (&[30, 20, 0x20, 0x05, 1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 7, 8, 0, 5, 0xab, 0xcd], false),
        (&[30, 8, 0x20, 0x03, 1, 2, 3, 4], false),
        (&[30, 8, 0x30, 7, 10, 0, 0, 1], false),
        (&[30, 16, 0x31, 7, 10, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8], false),
        (&[30, 18, 0x30, 7, 10, 0, 0, 1, 0, 80, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1], false),
        (
            &[
                30, 28, 0x36, 7, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7,
                8,
            ],
            false,
        ),
        (&[30, 6, 0x40, 1, 2, 3, 1, 1], false),
        (&[30, 4, 0x51, 9], false),
        (&[30, 12, 0x60, 0, 1, 2, 3, 4, 5, 6, 7, 8], false),
        (&[30, 12, 0x70, 0, 1, 2, 3, 4, 5, 6, 7, 8], false),
        (&[30, 4, 0xf0, 0], false),
        (&[30, 2, 1, 1], false),
    ];
    let frame = |(bytes, syn): &(&[u8], bool)| {
        let mut builder = etherparse::PacketBuilder::ethernet2(MACS.0, MACS.1)
            .ipv4(HOSTS.0, HOSTS.1, 64)
            .tcp(4000, 9999, 1, 1024)
            .ack(2);
        if *syn {
            builder = builder.syn();
        }
        let mut frame = Vec::new();
        builder.options_raw(bytes).expect("options").write(&mut frame, b"data").expect("a frame");
        frame
    };
    compare_full(&options.iter().map(frame).collect::<Vec<_>>());
}
