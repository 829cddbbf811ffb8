//! Suricata as a witness, without the engine: its counts are those of the frames sent. Needs root.
//!
//! Tests that run Suricata have names that begin with `suricata_sees`: they are skipped, with a message, on
//! hosts whose distribution does not have it.

use std::net::SocketAddr;

use mirror_lab::{
    Exchange, HttpServer, Injector, Lab, Result, Suricata, VethEnd, VethOptions, VethPair, Witness, exchange,
    suricata::{Alert, SIGNATURE},
};

const SERVER: &str = "10.88.0.1";
const CLIENT: &str = "10.88.0.2";
/// The request of the rule: for this many bytes.
const BYTES: usize = 4_711;

/// Two hosts with addresses, and a server on one of them.
struct Hosts {
    link: VethPair,
    server: HttpServer,
}

impl Hosts {
    fn raise(lab: &Lab) -> Result<Self> {
        let (server, client) = (lab.namespace("server")?, lab.namespace("client")?);
        let (a, b) = (VethEnd::new(&server, "eth0"), VethEnd::new(&client, "eth0"));
        let link = VethPair::create(a, b, &VethOptions { mtu: 1500, ..VethOptions::default() })?;
        link.a.address(&format!("{SERVER}/24"))?;
        link.b.address(&format!("{CLIENT}/24"))?;
        let address = SocketAddr::new(SERVER.parse().expect("an address"), 80);
        Ok(Self { server: HttpServer::start(&server, address)?, link })
    }

    /// Requests for the URI of the rule, for one that only begins so, and for another.
    fn talk(&self) -> Result<()> {
        [BYTES, BYTES * 10, 1].into_iter().try_for_each(|bytes| {
            exchange(&self.link.b.namespace, self.server.address(), Exchange::Get(bytes))
        })
    }
}

/// The one alert that such a conversation raises.
fn assert_is_ours(alerts: &[Alert]) {
    let [Alert { signature, source, destination, url }] = alerts else {
        panic!("not one alert but {alerts:?}");
    };
    assert_eq!((*signature, url.as_deref()), (SIGNATURE, Some("/bytes/4711")));
    assert_eq!(source.ip().to_string(), CLIENT);
    assert_eq!(destination.to_string(), format!("{SERVER}:80"));
}

fn uri() -> String {
    format!("/bytes/{BYTES}")
}

#[test]
fn suricata_sees_the_one_request_that_its_rule_is_about() -> Result<()> {
    let directory = tempfile::tempdir().expect("a directory for logs");
    let lab = Lab::new()?;
    let hosts = Hosts::raise(&lab)?;
    let suricata = Suricata::start(&hosts.link.a.namespace, "eth0", directory.path(), &uri())?;
    hosts.talk()?;
    let found = suricata.stop_after(1)?;
    drop(hosts);
    lab.teardown()?;
    assert_is_ours(&found.alerts);
    assert_eq!((found.kernel_drops, found.invalid), (0, 0));
    Ok(())
}

/// As a forwarding engine would send them: the frames of the talk, and no others, into an interface that is
/// quiet.
#[test]
fn suricata_sees_every_injected_frame_once_and_no_other() -> Result<()> {
    let directory = tempfile::tempdir().expect("a directory for logs");
    let lab = Lab::new()?;
    let hosts = Hosts::raise(&lab)?;
    let witness =
        Witness::start(&hosts.link.a.namespace, "eth0", &directory.path().join("talk.pcap"), "tcp")?;
    hosts.talk()?;
    let mut frames = witness.stop()?.frames;
    drop(hosts);
    // An IPv4 packet that ends within its header.
    let cut = frames[0][..30].to_vec();
    frames.push(cut);

    let (left, right) = (lab.namespace("left")?, lab.namespace("right")?);
    let (a, b) = (VethEnd::new(&left, "out0"), VethEnd::new(&right, "ids0"));
    VethPair::create(a, b, &VethOptions::default())?;
    let suricata = Suricata::start(&right, "ids0", directory.path(), &uri())?;
    let sent = Injector::new(&left, "out0")?.send_all(&frames)?;
    let found = suricata.stop_after(sent)?;
    lab.teardown()?;
    assert_is_ours(&found.alerts);
    assert_eq!((found.packets, found.kernel_packets), (sent, sent));
    assert_eq!((found.kernel_drops, found.invalid), (0, 1));
    Ok(())
}

#[test]
fn suricata_sees_that_an_interface_is_missing() -> Result<()> {
    let directory = tempfile::tempdir().expect("a directory for logs");
    let lab = Lab::new()?;
    let namespace = lab.namespace("nowhere")?;
    let error = Suricata::start(&namespace, "ids9", directory.path(), "/").unwrap_err().to_string();
    assert!(error.contains("ids9") && error.contains("suricata"), "{error}");
    lab.teardown()
}
