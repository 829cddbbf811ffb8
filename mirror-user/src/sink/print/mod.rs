//! Packets as text, in the format of tcpdump, for people and for what reads tcpdump's output.

mod arp;
mod checksum;
mod dns;
mod gre;
mod hex;
mod icmp;
mod icmpv6;
mod igmp;
mod ipsec;
mod ipv4;
mod ipv4_options;
mod ipv6;
mod ipv6_extensions;
mod lines;
mod link;
mod llc;
mod neighbours;
mod network;
mod sctp;
mod style;
mod tcp;
mod tcp_options;
mod text;
mod time;
mod tunnel;
mod udp;
mod view;

#[cfg(all(test, unix))]
mod tests;

pub use lines::Lines;
pub use style::{Dump, Style, Time};
