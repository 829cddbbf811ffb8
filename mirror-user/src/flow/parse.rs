//! Parses addresses, protocol and ports.

use std::net::IpAddr;

use mirror_ebpf::wire::has_ports;

use super::{Flow, Fragment, Packet, Ports, protocol};
use crate::wire::{
    ethernet::{self, ethertype},
    ipv4, ipv6, vlan,
};

/// The most extension headers that are skipped; real packets have one or two.
const MAX_EXTENSIONS: usize = 8;

// IANA "IPv6 Extension Header Types".
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;

pub(super) fn packet(frame: &[u8]) -> Option<Packet> {
    let frame = ethernet::Frame::new_checked(frame).ok()?;
    let (mut ethertype, mut payload) = (frame.ethertype(), frame.payload());
    for _ in 0..vlan::MAX_TAGS {
        if !vlan::announces_tag(ethertype) {
            break;
        }
        let tag = vlan::Tag::new_checked(payload).ok()?;
        (ethertype, payload) = (tag.ethertype(), tag.payload());
    }
    match ethertype {
        ethertype::IPV4 => over_ipv4(payload),
        ethertype::IPV6 => over_ipv6(payload),
        _ => None,
    }
}

fn over_ipv4(bytes: &[u8]) -> Option<Packet> {
    let ip = ipv4::Packet::new_checked(bytes).ok()?;
    let (source, destination) = (ip.source().into(), ip.destination().into());
    let protocol = ip.protocol();
    let is_first = ip.fragment_offset() == 0;
    let fragment = ip.is_fragment().then(|| Fragment {
        source,
        destination,
        protocol,
        id: ip.identification().into(),
        is_first,
    });
    // Bytes after the packet in a short frame are padding.
    let len = usize::from(ip.total_len()).checked_sub(ip.header_len()).unwrap_or(usize::MAX);
    let payload = &ip.payload()[..ip.payload().len().min(len)];
    let ports = if is_first { ports(protocol, payload) } else { Ports::None };
    Some(Packet { flow: Flow { source, destination, protocol, ports }, fragment })
}

fn over_ipv6(bytes: &[u8]) -> Option<Packet> {
    let ip = ipv6::Packet::new_checked(bytes).ok()?;
    let (source, destination): (IpAddr, IpAddr) = (ip.source().into(), ip.destination().into());
    let (mut protocol, mut rest) = (ip.next_header(), ip.payload());
    let mut fragment = None;
    let mut is_first = true;
    for _ in 0..MAX_EXTENSIONS {
        if protocol == ipv6::FRAGMENT {
            let Ok(header) = ipv6::FragmentHeader::new_checked(rest) else { break };
            is_first = header.offset() == 0;
            // An atomic fragment (RFC 6946) is a whole packet.
            if header.has_more() || !is_first {
                let (protocol, id) = (header.next_header(), header.identification());
                fragment = Some(Fragment { source, destination, protocol, id, is_first });
            }
            (protocol, rest) = (header.next_header(), header.payload());
            if !is_first {
                break;
            }
            continue;
        }
        // A frame truncated within an extension header has no ports, and the protocol of the last complete
        // header.
        let Some((header, payload)) =
            extension_len(protocol, rest).and_then(|len| rest.split_at_checked(len))
        else {
            break;
        };
        (protocol, rest) = (header[0], payload);
    }
    let ports = if is_first { ports(protocol, rest) } else { Ports::None };
    Some(Packet { flow: Flow { source, destination, protocol, ports }, fragment })
}

/// Length of the extension header at the start of `bytes`; `None` if there is none, or its length is missing.
pub(crate) fn extension_len(protocol: u8, bytes: &[u8]) -> Option<usize> {
    let units = || bytes.get(1).copied().map(usize::from);
    match protocol {
        // RFC 8200 sections 4.3, 4.4 and 4.6, RFC 6275 section 6.1: in units of 8 bytes, without the first.
        HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY => units().map(|units| 8 + 8 * units),
        // RFC 4302 section 2.2: in units of 4 bytes, without the first two.
        AUTHENTICATION => units().map(|units| 8 + 4 * units),
        _ => None,
    }
}

fn ports(protocol: u8, payload: &[u8]) -> Ports {
    match (protocol, payload) {
        (protocol, &[a, b, c, d, ..]) if has_ports(protocol) => {
            Ports::Pair(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
        }
        (protocol::ICMP | protocol::ICMPV6, &[kind, code, ..]) => Ports::Icmp(kind, code),
        _ => Ports::None,
    }
}
