//! The account of a mirror source.
//!
//! Two laws, of two units. Of packets as the host has them, super-frames among them: each that an interface
//! has seen has one fate, and what was cloned was read from a carrier, or dropped by it. Of packets as they
//! are sent: each segment was sent, or has a reason.

use std::{
    borrow::Cow,
    fmt,
    time::{Duration, SystemTime},
};

use mirror_ebpf::source::{Count, Counts, OfSession, SessionCounts};
use serde::Serialize;

use super::{CarrierCounters, SendFailed, SessionOut};
use crate::account::begins_with_schema;

/// `mirror.source/1`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SourceReport {
    /// `mirror.source/1`.
    pub schema: Cow<'static, str>,
    /// RFC 3339.
    pub started: String,
    /// Seconds since then.
    pub duration_s: f64,
    /// By source.
    pub interfaces: Vec<InterfaceReport>,
    /// Whether the laws hold.
    pub accounting: SourceAccounting,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct InterfaceReport {
    /// Its id as a source.
    pub interface: String,
    /// Its name on this host.
    pub name: String,
    /// `tcx` or `clsact`.
    pub hook: Cow<'static, str>,
    /// Whether it was deleted during the run, or moved to another network namespace. If it was there again
    /// and was mirrored again, that is a further entry.
    pub lost: bool,
    /// What it has received.
    pub ingress: DirectionReport,
    /// What it has sent.
    pub egress: DirectionReport,
    /// Those that have ended, and behind them the others in the sequence in which they are asked.
    pub sessions: Vec<SessionReport>,
}

/// Packets of a direction; of a super-frame, one.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DirectionReport {
    /// All.
    pub seen: u64,
    /// Neither IPv4 nor IPv6.
    pub not_ip: u64,
    /// Never mirrored, by reason.
    pub excluded: ExcludedReport,
    /// No rule of any session matches.
    pub no_session: u64,
    /// A rule rejects them.
    pub rejected: u64,
    /// They would have exceeded a rate.
    pub rate: u64,
    /// Cloned to a carrier.
    pub cloned: u64,
    /// The kernel could not clone them.
    pub clone_failed: u64,
}

/// Packets that are never mirrored.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ExcludedReport {
    /// IPv6's ARP.
    pub neighbor_discovery: u64,
    /// DHCP and DHCPv6.
    pub dhcp: u64,
    /// Instance metadata.
    pub metadata: u64,
    /// Time from the link-local address.
    pub time: u64,
    /// Activation of Windows.
    pub windows_activation: u64,
    /// Queries to Amazon's resolver, without `amazon-dns`.
    pub resolver: u64,
    /// Copies of this host, and ICMP errors about them.
    pub copy: u64,
}

/// A session.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SessionReport {
    /// Its id.
    pub session: String,
    /// The id of its target.
    pub target: String,
    /// The address that copies are sent to.
    pub to: String,
    /// Its VXLAN network identifier.
    pub vni: u32,
    /// When it has ended, if it did before the run: a reload no longer had it, or its interface was lost.
    /// RFC 3339.
    pub ended: Option<String>,
    /// Packets that its rules reject.
    pub rejected: u64,
    /// Packets that would have exceeded a rate.
    pub rate: u64,
    /// Packets that were cloned to its carrier.
    pub cloned: u64,
    /// Packets that could not be cloned.
    pub clone_failed: u64,
    /// What became of those that were cloned, and of their segments.
    #[serde(flatten)]
    pub carrier: CarrierCounters,
}

/// Whether the laws hold: at rest both are 0.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SourceAccounting {
    /// Packets without a fate.
    pub residue: i64,
    /// Segments without one.
    pub segments_residue: i64,
}

impl DirectionReport {
    pub(super) fn of(counts: &Counts) -> Self {
        let of = |count: Count| counts[count as usize];
        Self {
            seen: of(Count::Seen),
            not_ip: of(Count::NotIp),
            excluded: ExcludedReport {
                neighbor_discovery: of(Count::NeighborDiscovery),
                dhcp: of(Count::Dhcp),
                metadata: of(Count::Metadata),
                time: of(Count::Time),
                windows_activation: of(Count::WindowsActivation),
                resolver: of(Count::Resolver),
                copy: of(Count::Copy),
            },
            no_session: of(Count::NoMatch),
            rejected: of(Count::Rejected),
            rate: of(Count::Rate),
            cloned: of(Count::Cloned),
            clone_failed: of(Count::CloneFailed),
        }
    }

    fn explained(&self) -> u64 {
        let Self { seen: _, not_ip, excluded, no_session, rejected, rate, cloned, clone_failed } = self;
        not_ip + excluded.total() + no_session + rejected + rate + cloned + clone_failed
    }
}

impl ExcludedReport {
    fn each(&self) -> [(&'static str, u64); 7] {
        let Self { neighbor_discovery, dhcp, metadata, time, windows_activation, resolver, copy } = *self;
        [
            ("neighbour discovery", neighbor_discovery),
            ("DHCP", dhcp),
            ("instance metadata", metadata),
            ("time", time),
            ("Windows activation", windows_activation),
            ("resolver", resolver),
            ("copies of this host", copy),
        ]
    }

    fn total(&self) -> u64 {
        self.each().iter().map(|(_, packets)| packets).sum()
    }
}

impl SessionReport {
    pub(super) fn of(
        session: &str,
        target: &str,
        out: &SessionOut,
        counts: &SessionCounts,
        carrier: &CarrierCounters,
    ) -> Self {
        let of = |count: OfSession| counts[count as usize];
        Self {
            session: session.to_owned(),
            target: target.to_owned(),
            to: out.to.to_string(),
            vni: out.vni,
            ended: None,
            rejected: of(OfSession::Rejected),
            rate: of(OfSession::Rate),
            cloned: of(OfSession::Cloned),
            clone_failed: of(OfSession::CloneFailed),
            carrier: carrier.clone(),
        }
    }
}

impl SourceReport {
    pub(super) fn new(started: SystemTime, elapsed: Duration, interfaces: Vec<InterfaceReport>) -> Self {
        let mut accounting = SourceAccounting::default();
        let difference = |all: u64, explained: u64| all.wrapping_sub(explained).cast_signed();
        for interface in &interfaces {
            let directions = [&interface.ingress, &interface.egress];
            for direction in directions {
                accounting.residue += difference(direction.seen, direction.explained());
            }
            let cloned: u64 = directions.iter().map(|direction| direction.cloned).sum();
            accounting.residue +=
                difference(cloned, interface.sessions.iter().map(|session| session.cloned).sum());
            for SessionReport { cloned, carrier, .. } in &interface.sessions {
                let CarrierCounters { carrier_dropped, frames, .. } = carrier;
                let read = frames.read + carrier_dropped.unwrap_or_default();
                accounting.residue += difference(*cloned, read);
                let explained = frames.sent + frames.oversize + frames.send_failed.total();
                accounting.segments_residue += difference(frames.segments, explained);
            }
        }
        Self {
            schema: "mirror.source/1".into(),
            started: jiff::Timestamp::try_from(started).unwrap_or_default().to_string(),
            duration_s: elapsed.as_secs_f64(),
            interfaces,
            accounting,
        }
    }

    /// Whether these are the first bytes of such a report, as [`serde_json`] writes it.
    #[must_use]
    pub fn begins(bytes: &[u8]) -> bool {
        begins_with_schema(bytes, b"\"mirror.source/")
    }

    /// Whether both laws hold.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.accounting == SourceAccounting::default()
    }

    /// Whether both laws hold, and no interface was lost.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.is_balanced() && self.interfaces.iter().all(|interface| !interface.lost)
    }
}

/// Lines for people.
impl fmt::Display for SourceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for interface in &self.interfaces {
            let InterfaceReport { interface: id, name, hook, lost, ingress, egress, sessions } = interface;
            writeln!(f, "{id} at {name} ({hook}){}", if *lost { ", lost" } else { "" })?;
            for (direction, report) in [("ingress", ingress), ("egress", egress)] {
                let DirectionReport {
                    seen,
                    not_ip,
                    excluded,
                    no_session,
                    rejected,
                    rate,
                    cloned,
                    clone_failed,
                } = report;
                write!(f, "  {direction}: {seen} seen = {cloned} cloned + {no_session} without a match")?;
                let others = [
                    ("rejected by a rule", *rejected),
                    ("over the rate", *rate),
                    ("could not be cloned", *clone_failed),
                    ("not IP", *not_ip),
                ];
                let others = others.into_iter().chain(excluded.each());
                for (what, packets) in others.filter(|(_, packets)| *packets > 0) {
                    write!(f, " + {packets} {what}")?;
                }
                writeln!(f)?;
            }
            for session in sessions {
                let SessionReport { session, target, to, vni, ended, cloned, carrier, .. } = session;
                let CarrierCounters { carrier_dropped, frames, .. } = carrier;
                write!(f, "  {session}: VNI {vni} to {target} at {to}")?;
                if let Some(time) = ended {
                    write!(f, ", ended {time}")?;
                }
                writeln!(f)?;
                let dropped = carrier_dropped.map_or("unknown".to_owned(), |dropped| dropped.to_string());
                write!(f, "    {cloned} cloned = {} read + {dropped} dropped by the carrier", frames.read)?;
                if frames.unreadable > 0 {
                    write!(f, ", {} unreadable", frames.unreadable)?;
                }
                writeln!(f)?;
                write!(f, "    {} segments = {} sent", frames.segments, frames.sent)?;
                let SendFailed { unresolved, too_large, no_buffer, down, io } = frames.send_failed;
                let reasons = [
                    ("over the MTU", frames.oversize),
                    ("without a next hop", unresolved),
                    ("over an MTU that became less", too_large),
                    ("without room in the queue", no_buffer),
                    ("with the interface down", down),
                    ("with another error", io),
                ];
                for (what, segments) in reasons.into_iter().filter(|(_, segments)| *segments > 0) {
                    write!(f, " + {segments} {what}")?;
                }
                writeln!(f, "; {} truncated to the MTU", frames.truncated)?;
            }
        }
        let SourceAccounting { residue, segments_residue } = self.accounting;
        write!(f, "accounting: residue {residue} packets, {segments_residue} segments")
    }
}
