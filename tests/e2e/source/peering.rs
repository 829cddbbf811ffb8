//! Two networks joined by a router: a web server in the one fetches a page from outside, and its copies reach
//! a target in the other. Addresses and VNI are those of such a run in AWS.

use std::{
    fs,
    io::Read as _,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
};

use mirror_lab::{Exchange, HttpServer, Namespace, VethEnd, VethOptions, VethPair, exchange, run};
use serde_json::json;
use tempfile::TempDir;

use super::{
    CAPTURE, Cable, ETHERNET, SENDER, accept_all,
    common::mirror::{Mirror, mirror_in},
    end_both, filter, of_sessions,
};

/// The source, which is the client here.
const WEB: Ipv4Addr = Ipv4Addr::new(10, 10, 10, 252);
const MONITOR: Ipv4Addr = Ipv4Addr::new(10, 120, 8, 71);
const SITE: Ipv4Addr = Ipv4Addr::new(34, 160, 111, 145);
const VNI: u32 = 16_398_363;
/// What tcpdump printed of inner packets at the target in AWS, of `curl http://…`.
const IN_AWS: &str = "\
IP 10.10.10.252.45604 > 34.160.111.145.80: Flags [S], seq 1018303536, win 62727, options [mss \
1460,sackOK,TS val 169071433 ecr 0,nop,wscale 7], length 0
IP 34.160.111.145.80 > 10.10.10.252.45604: Flags [S.], seq 3070071967, ack 1018303537, win 65535, options \
[mss 1412,sackOK,TS val 603833672 ecr 169071433,nop,wscale 8], length 0
IP 10.10.10.252.45604 > 34.160.111.145.80: Flags [.], ack 1, win 491, options [nop,nop,TS val 169071435 \
ecr 603833672], length 0
IP 10.10.10.252.45604 > 34.160.111.145.80: Flags [P.], seq 1:76, ack 1, win 491, options [nop,nop,TS val \
169071435 ecr 603833672], length 75: HTTP: GET / HTTP/1.1
IP 34.160.111.145.80 > 10.10.10.252.45604: Flags [.], ack 76, win 256, options [nop,nop,TS val 603833673 \
ecr 169071435], length 0
IP 34.160.111.145.80 > 10.10.10.252.45604: Flags [P.], seq 1:298, ack 76, win 256, options [nop,nop,TS val \
603833821 ecr 169071435], length 297: HTTP: HTTP/1.1 200 OK
IP 10.10.10.252.45604 > 34.160.111.145.80: Flags [.], ack 298, win 489, options [nop,nop,TS val 169071584 \
ecr 603833821], length 0
IP 10.10.10.252.45604 > 34.160.111.145.80: Flags [F.], seq 76, ack 298, win 489, options [nop,nop,TS val \
169071584 ecr 603833821], length 0
IP 34.160.111.145.80 > 10.10.10.252.45604: Flags [F.], seq 298, ack 77, win 256, options [nop,nop,TS val \
603833823 ecr 169071584], length 0
IP 10.10.10.252.45604 > 34.160.111.145.80: Flags [.], ack 299, win 489, options [nop,nop,TS val 169071586 \
ecr 603833823], length 0
";

#[test]
fn across_a_router_a_page_that_curl_fetches_is_printed_as_tcpdump_prints_it() {
    let network = Network::lay();
    let server = HttpServer::start(&network.site, SocketAddr::from((SITE, 80))).expect("server");
    let (target, mut reader) = Mirror::ingest_to_pipe(
        &network.cable,
        network.path(),
        "--print --outer -w outer.pcapng --report ingest.json",
    );
    let source = network.mirror();
    exchange(&network.web, server.address(), Exchange::Page).expect("a page");
    let (source, _) = end_both(network.path(), source, target);
    let mut printed = String::new();
    reader.read_to_string(&mut printed).expect("text");

    let origin = format!("vni-{VNI}@{WEB}");
    let lines: Vec<_> = printed
        .lines()
        .map(|line| {
            let (time, line) = line.split_once(' ').expect("a time");
            let line = line.strip_prefix(&origin).unwrap_or_else(|| panic!("not of {origin}: {line}"));
            (time, line.trim_start())
        })
        .collect();
    let pairs: Vec<_> = lines.chunks(2).collect();
    let mirrored = of_sessions(&source, "sent");
    assert_eq!(pairs.len() as u64, mirrored, "{printed}");
    for pair in &pairs {
        let (from, rest) = pair[0].1.split_once(" > ").expect("addresses");
        let port = from.strip_prefix(&format!("IP {WEB}.")).and_then(|port| port.parse().ok());
        assert!(port.is_some_and(|port: u16| port >= 65_408), "{from}");
        assert_eq!(rest, format!("{MONITOR}.4789: VXLAN, flags [I] (0x08), vni {VNI}"));
    }

    // tcpdump has the time once, before the outer line, and no origin.
    let ours: Vec<_> = pairs
        .iter()
        .flat_map(|pair| [format!("{} {}", pair[0].0, pair[0].1), pair[1].1.to_owned()])
        .collect();
    let file = network.path().join("outer.pcapng");
    let theirs = run(Command::new("tcpdump").args(["-n", "-r"]).arg(&file)).expect("tcpdump");
    assert_eq!(ours, theirs.lines().collect::<Vec<_>>());

    let inner = |lines: &mut dyn Iterator<Item = &str>| lines.map(shape).collect::<Vec<_>>();
    let ours = inner(&mut pairs.iter().map(|pair| pair[1].1));
    let in_aws = inner(&mut IN_AWS.lines());
    // Where segments without data come depends on the time that each end takes.
    let (acknowledgments, ours): (Vec<_>, Vec<_>) =
        ours.into_iter().partition(|line| is_acknowledgment(line));
    let (known, in_aws): (Vec<_>, Vec<_>) = in_aws.into_iter().partition(|line| is_acknowledgment(line));
    assert_eq!(ours, in_aws, "{printed}");
    assert_eq!(acknowledgments.first(), known.first(), "{printed}");
    assert!(acknowledgments.iter().all(|line| known.contains(line)), "{acknowledgments:#?}");
}

/// A line with `#` for each number that depends on the run: those of 0 and 1 do not, nor does a relative
/// sequence number.
fn shape(line: &str) -> String {
    let line = line.replace(&WEB.to_string(), "web").replace(&format!("{SITE}.80"), "site");
    let mut shape = String::new();
    for part in line.split_inclusive(|end: char| !end.is_ascii_digit()) {
        let number = part.trim_end_matches(|end: char| !end.is_ascii_digit());
        shape.push_str(if number.parse().is_ok_and(|number: u64| number > 1) { "#" } else { number });
        shape.push_str(&part[number.len()..]);
    }
    shape
}

fn is_acknowledgment(line: &str) -> bool {
    line.contains("Flags [.]")
}

/// A web server, a monitor and a site, each behind another interface of a router.
struct Network {
    cable: Cable,
    web: Namespace,
    site: Namespace,
    directory: TempDir,
}

impl Network {
    fn lay() -> Self {
        let cable = Cable::with_queues(1);
        let (router, monitor) = (&cable.sender, &cable.target);
        let ip = |namespace: &Namespace, arguments: &str| namespace.ip(arguments).expect("ip");
        router.sysctl("net/ipv4/ip_forward", "1").expect("forwarding");
        ip(router, &format!("address add 10.120.8.1/24 dev {SENDER}"));
        ip(monitor, &format!("address add {MONITOR}/24 dev {CAPTURE}"));
        ip(monitor, "route add 10.10.10.0/24 via 10.120.8.1");
        let host = |role: &str, address: Ipv4Addr| {
            let host = cable.lab.namespace(role).expect("namespace");
            let (port, end) = (VethEnd::new(router, role), VethEnd::new(&host, ETHERNET));
            let options = VethOptions { offloads: true, ..VethOptions::default() };
            VethPair::create(port, end, &options).expect("veth");
            let [a, b, c, _] = address.octets();
            ip(router, &format!("address add {a}.{b}.{c}.1/24 dev {role}"));
            ip(&host, &format!("address add {address}/24 dev {ETHERNET}"));
            // To the outside; only the peer has room for encapsulated packets of that length.
            ip(&host, &format!("route add default via {a}.{b}.{c}.1 mtu 1500"));
            host
        };
        let (web, site) = (host("web", WEB), host("site", SITE));
        ip(&web, "route add 10.120.8.0/24 via 10.10.10.1");
        let directory = tempfile::tempdir().expect("directory");
        let all = accept_all();
        let mirroring = [
            json!({ "TrafficMirrorFilters": [filter("tmf-1", &all, &all)] }),
            json!({ "TrafficMirrorTargets": [
                { "TrafficMirrorTargetId": "tmt-1", "NetworkInterfaceId": "eni-9" }] }),
            json!({ "TrafficMirrorSessions": [
                { "TrafficMirrorSessionId": "tms-1", "TrafficMirrorTargetId": "tmt-1",
                "TrafficMirrorFilterId": "tmf-1", "NetworkInterfaceId": "eni-1", "SessionNumber": 1,
                "VirtualNetworkId": VNI }] }),
        ];
        let text: String = mirroring.iter().map(|document| format!("{document}\n")).collect();
        fs::write(directory.path().join("mirroring.json"), text).expect("written");
        Self { cable, web, site, directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// `mirror source` on the web server, once it mirrors.
    fn mirror(&self) -> Mirror {
        let arguments = format!(
            "source --config mirroring.json --interface eni-1={ETHERNET} --target tmt-1={MONITOR} \
            --report source.json"
        );
        let run = Mirror::start(mirror_in(&self.web, self.path(), &arguments));
        run.says(&format!("mirroring eni-1 at {ETHERNET}"));
        run
    }
}
