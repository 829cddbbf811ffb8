//! The way to the target changes.

use std::net::{Ipv4Addr, UdpSocket};

use mirror_lab::{VethEnd, VethOptions, VethPair};

use super::{CLIENT, ETHERNET, SOURCE, Subnet, TARGET, accept_all, filter, of_sessions, session};

/// The second interface of the source, by which the target can be reached, too.
const OTHER: &str = "eth1";
const OTHER_SOURCE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 4);
const DATAGRAMS: u64 = 20;

/// The last ones go by the first interface again, because the second one is gone.
#[test]
fn copies_follow_the_route_to_another_interface_and_back() {
    let subnet = Subnet::lay(false);
    let switch = &subnet.cable.sender;
    let ends = (VethEnd::new(switch, "other"), VethEnd::new(&subnet.source, OTHER));
    VethPair::create(ends.0, ends.1, &VethOptions::default()).expect("veth");
    let ip = |arguments: &str| subnet.source.ip(arguments).expect("ip");
    switch.ip("link set dev other master switch0").expect("a port");
    ip(&format!("link set dev {OTHER} address 02:00:00:00:01:04"));
    ip(&format!("address add {OTHER_SOURCE}/32 dev {OTHER}"));
    let hardware = subnet.cable.veth.b.hardware_address().expect("address");
    ip(&format!("neighbour replace {TARGET} lladdr {hardware} dev {OTHER} nud permanent"));
    // Both interfaces of the source would answer for its address.
    let neighbour = format!("neighbour replace {SOURCE} lladdr 02:00:00:00:01:02 dev {ETHERNET}");
    subnet.client.ip(&neighbour).expect("neighbour");
    subnet.set_up(&[filter("tmf-1", &accept_all(), &[])], &[session(1, "tmf-1")]);
    let target = subnet.ingest("");
    let source = subnet.mirror();
    let bind = || UdpSocket::bind((CLIENT, 0)).expect("socket");
    let socket = subnet.client.enter(bind).expect("namespace");
    let mut sent = 0;
    let mut send = || {
        for _ in 0..DATAGRAMS {
            socket.send_to(&[0; 8], (SOURCE, 9)).expect("sent");
        }
        sent += DATAGRAMS;
        target.has(sent);
    };
    send();
    ip(&format!("route add {TARGET}/32 dev {OTHER} src {OTHER_SOURCE}"));
    source.says(&format!("its route has changed, copies leave by {OTHER}"));
    send();
    ip(&format!("link delete {OTHER}"));
    source.says(&format!("its route has changed, copies leave by {ETHERNET}"));
    send();
    let (source, target) = subnet.end_both(source, target);
    assert_eq!(of_sessions(&source, "sent"), 3 * DATAGRAMS, "{source:#}");
    let origins = target["origins"].as_array().expect("origins");
    let frames = |address: Ipv4Addr| {
        let origin = origins.iter().find(|origin| origin["source"] == address.to_string());
        origin.unwrap_or_else(|| panic!("no {address} in {target:#}"))["frames"].clone()
    };
    assert_eq!([frames(SOURCE), frames(OTHER_SOURCE)], [2 * DATAGRAMS, DATAGRAMS], "{target:#}");
}
