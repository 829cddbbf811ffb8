//! A summary of the outer headers.

use super::text::{Address, Text, put};
use crate::{frame::Frame, tunnels::Encapsulation, wire::geneve::Gateway};

/// The outer headers of a frame: addresses and ports, VXLAN flags and VNI (RFC 7348 section 5). Where VXLAN
/// came in GENEVE (RFC 8926), they are those of VXLAN, behind what the load balancer says.
pub(super) fn print(text: &mut Text<'_>, frame: &Frame<'_>) {
    let gateway = frame.gateway();
    let encapsulation = frame.encapsulation();
    if let Some(gateway) = gateway.filter(|_| encapsulation == Encapsulation::Vxlan) {
        put!(text, "Geneve");
        put_gateway(text, gateway);
        put!(text, ": ");
    }
    let (source, destination) = (frame.source(), frame.destination());
    put!(
        text,
        "{} {}.{} > {}.{}: ",
        if source.is_ipv4() { "IP" } else { "IP6" },
        Address(source),
        frame.source_port(),
        Address(destination),
        frame.destination_port()
    );
    match encapsulation {
        Encapsulation::Vxlan => {
            let [flags, ..] = frame.vxlan();
            let valid = if flags & 0x08 == 0 { "invalid" } else { "I" };
            put!(text, "VXLAN, flags [{valid}] (0x{flags:02x}), vni {}", frame.vni());
        }
        Encapsulation::Geneve => {
            put!(text, "Geneve, vni {}", frame.vni());
            put_gateway(text, gateway.unwrap_or_default());
        }
    }
}

fn put_gateway(text: &mut Text<'_>, Gateway { endpoint, attachment, flow_cookie, .. }: Gateway) {
    if let Some(endpoint) = endpoint {
        put!(text, ", endpoint {endpoint:016x}");
    }
    if let Some(attachment) = attachment {
        put!(text, ", attachment {attachment:016x}");
    }
    if let Some(cookie) = flow_cookie {
        put!(text, ", flow {cookie:08x}");
    }
}
