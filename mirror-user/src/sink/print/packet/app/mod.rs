//! Application protocols over TCP and UDP, by port alone, as in tcpdump.

mod bootp;
mod dhcpv6;
mod intercepted;
mod kerberos;
mod lines;
mod nfs;
mod ntp;
mod radius;
mod resp;
mod sflow;
mod snmp;
mod ssh;
mod syslog;
mod telnet;
mod tftp;

pub(super) use nfs::{Call, over_udp as nfs_over_udp};

use super::{
    bridge, dns,
    network::Network,
    routing,
    text::{Printed, Text, put},
    tunnels,
    view::View,
};

/// The protocol of a segment's ports, in tcpdump's sequence of checks: both ports may have one.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
enum OverTcp {
    Telnet,
    Smtp,
    Whois,
    Bgp,
    Redis,
    Ssh,
    Ftp,
    Http,
    Rtsp,
    Dns,
    Nfs,
}

impl OverTcp {
    fn of(port: u16) -> Option<Self> {
        Some(match port {
            21 => Self::Ftp,
            22 => Self::Ssh,
            23 => Self::Telnet,
            25 => Self::Smtp,
            43 => Self::Whois,
            53 => Self::Dns,
            80 | 8080 => Self::Http,
            179 => Self::Bgp,
            2049 => Self::Nfs,
            554 | 8554 => Self::Rtsp,
            6379 => Self::Redis,
            _ => return None,
        })
    }
}

/// Prints the payload of a segment, which is not empty; nothing if the protocol is unknown.
pub(super) fn over_tcp(
    text: &mut Text<'_>,
    payload: View<'_>,
    (source, destination): (u16, u16),
    below: &Network,
) -> Printed {
    let Some(known) = OverTcp::of(source).into_iter().chain(OverTcp::of(destination)).min() else {
        return Ok(());
    };
    if matches!(known, OverTcp::Smtp | OverTcp::Whois | OverTcp::Ftp | OverTcp::Http | OverTcp::Rtsp) {
        put!(text, ": ");
    }
    match known {
        OverTcp::Telnet => telnet::print(text, payload),
        OverTcp::Smtp => lines::plain(text, "smtp", payload),
        OverTcp::Whois => lines::plain(text, "whois", payload),
        OverTcp::Bgp => {
            text.protocol = "bgp";
            put!(text, ": BGP");
            Ok(())
        }
        OverTcp::Redis => resp::print(text, payload),
        OverTcp::Ssh => ssh::print(text, payload),
        OverTcp::Ftp => lines::plain(text, "ftp", payload),
        OverTcp::Http => lines::http(text, payload),
        OverTcp::Rtsp => lines::rtsp(text, payload),
        OverTcp::Dns => dns::over_tcp(text, payload),
        OverTcp::Nfs => nfs::over_tcp(text, payload, (source, destination), below).map(|_| ()),
    }
}

/// The protocol of a datagram's ports, in tcpdump's sequence of checks.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
enum OverUdp {
    Dns,
    MulticastDns,
    Tftp,
    Bootp,
    Rip,
    Snmp,
    Ntp,
    Kerberos,
    RipNextGeneration,
    Dhcpv6,
    Babel,
    Radius,
    Hsrp,
    Intercepted,
    Bfd(u16),
    Sflow,
    Sip,
    Syslog,
    Otv,
    Vxlan,
    Geneve,
    VxlanGpe,
    Mpls,
    Ptp,
}

impl OverUdp {
    /// The protocol of either port.
    fn of(port: u16) -> Option<Self> {
        Some(match port {
            53 => Self::Dns,
            67 | 68 => Self::Bootp,
            69 => Self::Tftp,
            88 | 750 => Self::Kerberos,
            123 => Self::Ntp,
            161 | 162 => Self::Snmp,
            319 | 320 => Self::Ptp,
            514 => Self::Syslog,
            520 => Self::Rip,
            521 => Self::RipNextGeneration,
            546 | 547 => Self::Dhcpv6,
            1645 | 1646 | 1700 | 1812 | 1813 | 3799 => Self::Radius,
            4789 => Self::Vxlan,
            4790 => Self::VxlanGpe,
            5060 => Self::Sip,
            5353 => Self::MulticastDns,
            6081 => Self::Geneve,
            6343 => Self::Sflow,
            6635 => Self::Mpls,
            6696 | 6697 => Self::Babel,
            8472 => Self::Otv,
            _ => return None,
        })
    }

    fn of_source(port: u16) -> Option<Self> {
        if port == 49_152 { Some(Self::Intercepted) } else { Self::of(port) }
    }

    fn of_destination(port: u16) -> Option<Self> {
        match port {
            1985 => Some(Self::Hsrp),
            3784 | 3785 | 4784 | 6784 => Some(Self::Bfd(port)),
            _ => Self::of(port),
        }
    }
}

/// Prints the payload of a datagram; returns whether its protocol is known.
pub(super) fn over_udp(
    text: &mut Text<'_>,
    payload: View<'_>,
    (source, destination): (u16, u16),
) -> Printed<bool> {
    let known = OverUdp::of_source(source).into_iter().chain(OverUdp::of_destination(destination)).min();
    let Some(known) = known else { return Ok(false) };
    match known {
        OverUdp::Dns => dns::print(text, payload, false),
        OverUdp::MulticastDns => dns::print(text, payload, true),
        OverUdp::Tftp => tftp::print(text, payload),
        OverUdp::Bootp => bootp::print(text, payload),
        OverUdp::Rip => routing::rip(text, payload),
        OverUdp::Snmp => snmp::print(text, payload),
        OverUdp::Ntp => ntp::print(text, payload),
        OverUdp::Kerberos => kerberos::print(text, payload),
        OverUdp::RipNextGeneration => routing::rip_next_generation(text, payload),
        OverUdp::Dhcpv6 => dhcpv6::print(text, payload),
        OverUdp::Babel => routing::babel(text, payload),
        OverUdp::Radius => radius::print(text, payload),
        OverUdp::Hsrp => routing::hsrp(text, payload),
        OverUdp::Intercepted => intercepted::print(text, payload),
        OverUdp::Bfd(port) => routing::bfd(text, payload, port),
        OverUdp::Sflow => sflow::print(text, payload),
        OverUdp::Sip => lines::sip(text, payload),
        OverUdp::Syslog => syslog::print(text, payload),
        OverUdp::Otv => tunnels::otv(text, payload),
        OverUdp::Vxlan => tunnels::vxlan(text, payload),
        OverUdp::Geneve => tunnels::geneve(text, payload),
        OverUdp::VxlanGpe => tunnels::vxlan_gpe(text, payload),
        OverUdp::Mpls => tunnels::mpls(text, payload),
        OverUdp::Ptp => bridge::ptp(text, payload),
    }?;
    Ok(true)
}
