//! Why frames were not decapsulated, passed to the kernel, or dropped.

use super::tally::tally;

tally! {
    /// Why a received frame was not decapsulated.
    pub enum Reject;

    /// Frames that were not decapsulated, by reason; see [`Reject`].
    pub struct Rejected {
        /// The frame is too short for its VXLAN header and inner Ethernet header, also on the wire.
        Short: short = "too short for VXLAN and an inner Ethernet header",
        /// The same, because the capture has fewer bytes than the frame had on the wire.
        Snapped: snapped = "truncated by the capture's snap length before the inner Ethernet header ends",
        /// The outer Ethernet, IP or UDP header contradicts itself or the frame's length.
        BadOuter: bad_outer = "outer headers contradict each other",
        /// The VXLAN header has no valid VNI: the I flag is missing (RFC 7348 section 5).
        NoVniFlag: no_vni_flag = "VXLAN without a VNI (I flag missing)",
        /// The VNI is not allowed.
        Vni: vni = "VNI not allowed",
        /// The outer source is not allowed.
        Source: source = "outer source not allowed",
        /// The frame has more descriptors than a batch holds.
        MultiDescriptor: multi_descriptor = "in more descriptors than a batch holds",
        /// Not UDP to a tunnel port. On a live interface the XDP program passes such frames to the kernel.
        NotTunnel: not_tunnel = "not UDP to a tunnel port",
        /// GENEVE (RFC 8926) by its port 6081, which is no tunnel port of this run. On a live interface the
        /// XDP program passes such frames to the kernel.
        Geneve: geneve = "GENEVE, to a port that is not listed as one of a tunnel",
        /// A GENEVE header whose version is not 0, or whose options do not end where it says: RFC 8926
        /// sections 3.4 and 3.5 have such packets dropped, because the payload may begin anywhere.
        BadGeneve: bad_geneve = "GENEVE of another version, or with options that contradict its length",
        /// A GENEVE control packet (the O bit): a message between tunnel endpoints, in which nothing is
        /// mirrored (RFC 8926 section 3.4).
        GeneveControl: geneve_control = "GENEVE control packets",
        /// GENEVE whose payload is neither an Ethernet frame nor UDP over IP to a port of VXLAN: traffic of a
        /// Gateway Load Balancer that no mirror session sent.
        GenevePayload: geneve_payload = "GENEVE with neither an Ethernet frame nor VXLAN inside",
        /// A fragment of an IP packet inside GENEVE: the load balancer was sent fragments.
        GeneveFragment: geneve_fragment = "fragments of VXLAN inside GENEVE, which are not reassembled",
        /// An IPv6 extension header before UDP. On a live interface the XDP program passes such frames to the
        /// kernel.
        Extension: extension = "IPv6 extension headers",
        /// VXLAN-GPE (draft-ietf-nvo3-vxlan-gpe) whose next protocol is not Ethernet.
        NotEthernet: not_ethernet = "VXLAN-GPE whose next protocol is not Ethernet",
        /// Of an unsupported link type, in a capture file;
        /// [`FileReport::link_types`](super::FileReport::link_types) has them by number.
        LinkType: link_type = "unsupported link type",
        /// A fragment of a UDP datagram, and fragments are not reassembled. On a live interface the XDP
        /// program passes such frames to the kernel.
        Fragment: fragment = "IP fragments",
        /// A fragment whose datagram was not completed in time, or before the run ended.
        FragmentTimeout: fragment_timeout = "IP fragments whose datagram was not completed in time",
        /// A fragment of a datagram in which fragments overlap, or contradict its length (RFC 5722).
        Overlap: overlap = "IP fragments that overlap",
        /// A fragment that may belong to more than one datagram, because the id does not distinguish them, or
        /// because the reassembled datagram contradicts its UDP header. See
        /// [`reassembly`](crate::reassembly).
        Ambiguous: ambiguous = "IP fragments that fit more than one datagram",
        /// A fragment that was discarded because the memory for fragments was full.
        TableFull: table_full = "IP fragments, because the memory for fragments was full",
    }
}

/// Frames rejected, by [`Reject`].
pub(crate) type Rejections = [u64; Reject::COUNT];

tally! {
    /// Frames passed to the kernel, by reason.
    pub struct Passed {
        /// Not UDP to a tunnel port.
        not_tunnel = "not UDP to a tunnel port",
        /// Fragments of UDP datagrams.
        fragment = "IP fragments not known to belong to a tunnel",
        /// Shorter than their headers declare.
        malformed = "malformed",
        /// IPv6 extension headers before UDP.
        extension = "IPv6 extension headers",
        /// To a tunnel port, but not to this interface's MAC and IP address, or from a loopback address
        /// (`engine::Destination::Own`).
        not_local = "addressed to others, or from a loopback address",
        /// GENEVE (UDP port 6081), which is no tunnel port of this run.
        geneve = "GENEVE, to a port that is not listed as one of a tunnel",
        /// No socket on the queue.
        no_socket = "no socket on the queue",
    }
}

tally! {
    /// Frames dropped in the XDP program, by reason.
    pub struct Dropped {
        /// VNI not allowed.
        vni = "VNI not allowed",
        /// Outer source not allowed.
        source = "outer source not allowed",
        /// The target of forwarding in the kernel was deleted.
        no_target = "the target was deleted",
    }
}

impl Dropped {
    /// Frames that were not allowed.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.vni + self.source
    }
}

tally! {
    /// Frames that the XDP program forwarded and the target did not take, by reason.
    pub struct NotSent {
        /// The device was given them and did not take them: of a veth, the far end is down or its ring full.
        refused = "refused by the interface",
        /// The interface was down.
        down = "the interface is down",
        /// The interface takes no redirected frames: the far end of a veth has no XDP program.
        no_program = "the far end has no XDP program",
        /// Longer than the interface's MTU.
        too_large = "longer than the MTU",
        /// Another error of the kernel.
        other = "other errors",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_in_the_place_of_its_variant_and_in_the_sum() {
        let mut counts = Rejections::default();
        for (place, count) in (1..).zip(&mut counts) {
            *count = place;
        }
        let mut rejected = Rejected::from(&counts);
        assert_eq!((rejected.short, rejected.table_full), (1, Reject::TableFull as u64 + 1));
        assert_eq!(rejected.multi_descriptor, Reject::MultiDescriptor as u64 + 1);
        assert_eq!(rejected.reasons().map(|(_, frames, _)| frames).collect::<Vec<_>>(), counts);
        let sum = counts.iter().sum::<u64>();
        assert_eq!(rejected.total(), sum);
        rejected.add(&Rejected::from(&counts));
        assert_eq!(rejected.total(), 2 * sum);
    }

    #[test]
    fn reasons_have_the_names_of_their_fields_in_the_report() {
        let passed = Passed { not_local: 3, ..Passed::default() };
        let json = serde_json::to_value(&passed).unwrap();
        for (name, frames, words) in passed.reasons() {
            assert_eq!(json[name], frames);
            assert!(!words.is_empty());
        }
        assert_eq!(passed.reasons().count(), json.as_object().unwrap().len());
    }
}
