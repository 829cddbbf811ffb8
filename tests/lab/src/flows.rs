//! Many flows in both directions: inner frames that carry the number of their flow.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{EtherType, Ethernet2HeaderSlice, Ipv4HeaderSlice};

use crate::{
    error::Result,
    fragment,
    frames::{Outer, TcpFields, inner_tcp, inner_udp},
};

/// In front of the numbers in each payload.
const MAGIC: &[u8; 8] = b"lab flow";
/// Magic, flow, direction, round.
const MARK: usize = 8 + 4 + 1 + 4;
/// Bytes of a payload that is sent whole.
const PAYLOAD: u32 = 64;
/// IP payload of a first fragment: what an MTU of 1500 holds.
const FIRST_FRAGMENT: usize = 1480;
/// One flow in so many sends its datagrams in fragments; a multiple of 4, so that all of them are UDP over
/// IPv4.
const FRAGMENTED: u32 = 100;

/// Which frame of [`frames`] one is.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FlowFrame {
    /// Number of the flow, from 0.
    pub flow: u32,
    /// From client to server, or back.
    pub to_server: bool,
    /// The round, from 0.
    pub round: u32,
}

impl FlowFrame {
    /// Reads it from a frame, inner or outer; `None` if the frame is not ours. Each fragment of a datagram
    /// has it.
    pub fn of(frame: &[u8]) -> Option<Self> {
        let start = frame.windows(MAGIC.len()).position(|bytes| bytes == MAGIC)?;
        let mark = frame.get(start..start + MARK)?;
        let number = |at: usize| Some(u32::from_be_bytes(mark.get(at..at + 4)?.try_into().ok()?));
        Some(Self { flow: number(8)?, to_server: mark[12] == 1, round: number(13)? })
    }

    /// Whether it is sent as two fragments.
    pub fn is_fragmented(self) -> bool {
        self.flow % FRAGMENTED == 1
    }

    /// The bytes that say so in a payload.
    pub fn mark(self) -> Vec<u8> {
        let Self { flow, to_server, round } = self;
        [&MAGIC[..], &flow.to_be_bytes(), &[u8::from(to_server)], &round.to_be_bytes()].concat()
    }

    /// One frame, or two fragments.
    fn build(self) -> Result<Vec<Vec<u8>>> {
        let (client, server) = ends(self.flow);
        let (from, to) = if self.to_server { (client, server) } else { (server, client) };
        let mut payload = self.mark();
        payload.resize(PAYLOAD as usize, b'.');
        if self.flow.is_multiple_of(2) {
            // Each side continues where its last segment ended; the answer acknowledges the question.
            let sent = |rounds: u32| rounds.wrapping_mul(PAYLOAD).wrapping_add(1_000);
            let acknowledgment = sent(self.round + u32::from(!self.to_server));
            let fields = TcpFields { sequence: sent(self.round), acknowledgment, window: 501 };
            return Ok(vec![inner_tcp(from, to, fields, &payload)?]);
        }
        if !self.is_fragmented() {
            return Ok(vec![inner_udp(from, to, &payload)?]);
        }
        // The UDP header is in the first fragment, too.
        payload.resize(FIRST_FRAGMENT - 8, b'.');
        payload.extend(self.mark());
        let id = u16::try_from(self.round % 0xffff).unwrap_or_default() + 1;
        fragment(&inner_udp(from, to, &payload)?, id.into(), &[FIRST_FRAGMENT])
    }
}

/// Inner frames of `flows` flows, the same on every call: in each of `rounds` rounds, each flow's client and
/// then its server sends once. Half of the flows are TCP, half UDP, half of each IPv4, half IPv6; every
/// hundredth sends its datagrams in two fragments, so that there are more frames than turns. All 5-tuples
/// differ.
///
/// # Errors
///
/// None in practice; those of the frame builder.
pub fn frames(flows: u32, rounds: u32) -> Result<Vec<Vec<u8>>> {
    let mut frames = Vec::new();
    for round in 0..rounds {
        for flow in 0..flows {
            for to_server in [true, false] {
                frames.extend(FlowFrame { flow, to_server, round }.build()?);
            }
        }
    }
    Ok(frames)
}

/// Those frames as a mirror sends them, with an outer source port that both directions of a flow have alike.
///
/// # Errors
///
/// Where the VNI is too large.
pub fn mirrored(frames: &[Vec<u8>], vni: u32) -> Result<Vec<Vec<u8>>> {
    let mirror = |inner: &Vec<u8>| {
        let source_port = source_port(FlowFrame::of(inner).map_or(0, |frame| frame.flow));
        Outer { source_port, ..Outer::sample(vni) }.encapsulate(inner)
    };
    frames.iter().map(mirror).collect()
}

/// The outer source port of a flow: one of 128, as AWS was seen to use.
pub fn source_port(flow: u32) -> u16 {
    let [.., low] = flow.to_be_bytes();
    0xff80 | u16::from(low & 0x7f)
}

/// An IPv4 fragment; those with the same addresses and id are of one datagram.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Fragment {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Identification.
    pub id: u16,
    /// Where in the datagram it starts, bytes.
    pub offset: u16,
    /// Whether more follow.
    pub more: bool,
}

impl Fragment {
    /// Reads it from an untagged inner frame; `None` if that is not an IPv4 fragment.
    pub fn of_inner(frame: &[u8]) -> Option<Self> {
        let ethernet = Ethernet2HeaderSlice::from_slice(frame).ok()?;
        let ip = Ipv4HeaderSlice::from_slice(frame.get(14..)?).ok()?;
        let fragment = ethernet.ether_type() == EtherType::IPV4 && ip.is_fragmenting_payload();
        fragment.then(|| Self {
            source: ip.source_addr(),
            destination: ip.destination_addr(),
            id: ip.identification(),
            offset: ip.fragments_offset().value() * 8,
            more: ip.more_fragments(),
        })
    }
}

/// Client and server of a flow: many clients of few servers. The client's address holds the flow's number.
fn ends(flow: u32) -> ((IpAddr, u16), (IpAddr, u16)) {
    let [_, high, middle, low] = flow.to_be_bytes();
    let client_port = 32_768 + u16::from_be_bytes([middle, low]) % 16_384;
    let server_port = 9_000 + u16::from(low % 4);
    let (client, server): (IpAddr, IpAddr) = if flow % 4 < 2 {
        (Ipv4Addr::new(10, high, middle, low).into(), Ipv4Addr::new(172, 31, 0, 1 + low % 16).into())
    } else {
        let address = |net: u16, host: [u8; 4]| {
            let [a, b, c, d] = host;
            let (e, f) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, e, f).into()
        };
        (address(1, [0, high, middle, low]), address(2, [0, 0, 0, 1 + low % 16]))
    };
    ((client, client_port), (server, server_port))
}
