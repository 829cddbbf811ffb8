//! tshark as a reader of pcap-over-IP, from a server that sends given bytes. Needs root.

use std::{
    fs,
    io::Write as _,
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    path::Path,
    process::Command,
    sync::mpsc,
    thread::{self, JoinHandle},
};

use mirror_lab::{
    Lab, Namespace, Result,
    capture::write_pcap,
    flows::{FlowFrame, frames},
    run,
    tshark::PcapOverIp,
};

/// Serves bytes to one client, and returns the address.
fn serve(namespace: &Namespace, bytes: Vec<u8>) -> Result<(SocketAddrV4, JoinHandle<()>)> {
    let listener = namespace.enter(|| TcpListener::bind("127.0.0.1:0"))?.expect("a free port");
    let std::net::SocketAddr::V4(address) = listener.local_addr().expect("a bound socket") else {
        unreachable!("it is bound to IPv4");
    };
    let thread = thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        // A client that has all its packets may disconnect before the end.
        let _ = client.write_all(&bytes);
    });
    Ok((address, thread))
}

fn capture_of(frames: &[Vec<u8>], directory: &Path) -> Result<Vec<u8>> {
    let file = directory.join("stream.pcap");
    write_pcap(&file, frames)?;
    Ok(fs::read(&file).expect("a file of ours"))
}

#[test]
fn tshark_reads_every_packet_of_a_pcap_stream_and_prints_its_fields() -> Result<()> {
    let directory = tempfile::tempdir().expect("a directory for captures");
    let frames = frames(40, 2)?;
    let stream = capture_of(&frames, directory.path())?;
    let lab = Lab::new()?;
    let namespace = lab.namespace("reader")?;
    let (server, served) = serve(&namespace, stream)?;
    let packets = u32::try_from(frames.len()).expect("few");
    let fields = ["frame.number", "frame.len", "ip.src", "ipv6.src"];
    let rows = PcapOverIp::connect(&namespace, server, packets, &fields)?.wait()?;
    served.join().expect("no panic");
    lab.teardown()?;
    for ((row, frame), number) in rows.iter().zip(&frames).zip(1..) {
        let is_v4 = FlowFrame::of(frame).is_some_and(|frame| frame.flow % 4 < 2);
        assert_eq!(row[..2], [number.to_string(), frame.len().to_string()]);
        assert_eq!((row[2].is_empty(), row[3].is_empty()), (!is_v4, is_v4));
    }
    Ok(())
}

#[test]
fn a_stream_that_ends_early_is_an_error_that_counts() -> Result<()> {
    let directory = tempfile::tempdir().expect("a directory for captures");
    // Two of the three flows send a frame each way, one two fragments.
    let stream = capture_of(&frames(3, 1)?, directory.path())?;
    let lab = Lab::new()?;
    let namespace = lab.namespace("reader")?;
    let (server, served) = serve(&namespace, stream)?;
    let error = PcapOverIp::connect(&namespace, server, 100, &["frame.len"])?.wait().unwrap_err().to_string();
    served.join().expect("no panic");
    assert!(error.contains("8 of 100 packets"), "{error}");
    lab.teardown()
}

#[test]
fn a_port_where_nobody_listens_is_an_error_in_the_words_of_tshark() -> Result<()> {
    let lab = Lab::new()?;
    let namespace = lab.namespace("reader")?;
    let nobody = "127.0.0.1:9".parse().expect("an address");
    let error = PcapOverIp::connect(&namespace, nobody, 1, &["frame.len"]).unwrap_err().to_string();
    assert!(error.contains("127.0.0.1:9"), "{error}");
    assert!(error.to_lowercase().contains("refused"), "{error}");
    lab.teardown()
}

#[test]
fn a_dropped_reader_takes_its_dumpcap_and_its_file_along() -> Result<()> {
    let directory = tempfile::tempdir().expect("a directory for captures");
    let mut stream = capture_of(&frames(1, 1)?, directory.path())?;
    // The header alone.
    stream.truncate(24);
    let lab = Lab::new()?;
    let namespace = lab.namespace("reader")?;
    let listener = namespace.enter(|| TcpListener::bind("127.0.0.1:0"))?.expect("a free port");
    let port = listener.local_addr().expect("a bound socket").port();
    let (client, client_ended) = mpsc::channel::<()>();
    let served = thread::spawn(move || {
        let (mut connection, _) = listener.accept().expect("a client");
        connection.write_all(&stream).expect("a client that reads");
        // Open, so that the end of the stream does not end them.
        let _ = client_ended.recv();
    });
    let server = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    let reader = PcapOverIp::connect(&namespace, server, 1, &["frame.len"])?;
    let files = || {
        let entries = fs::read_dir(std::env::temp_dir()).expect("a directory for temporary files");
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter(|name| name.contains(&format!("127.0.0.1-{port}"))).count()
    };
    assert_eq!(files(), 1);
    drop(reader);
    assert_eq!(files(), 0);
    // Our own process may still have a thread there; no other process has.
    let listed = run(Command::new("ip").args(["netns", "pids", namespace.name()]))?;
    let others = listed.lines().filter(|pid| pid.trim() != std::process::id().to_string());
    assert_eq!(others.count(), 0, "{listed}");
    drop(client);
    served.join().expect("no panic");
    lab.teardown()
}
