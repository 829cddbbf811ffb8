//! Why frames were not decapsulated, passed to the kernel, or dropped.

use super::tally::tally;

tally! {
    /// Why a received frame was not decapsulated.
    pub enum Reject;

    /// Frames that were not decapsulated, by reason; see [`Reject`].
    pub struct Rejected {
        /// The frame ends before its VXLAN header or its inner Ethernet header does, and had no more on the
        /// wire.
        Short: short = "too short for VXLAN and an inner Ethernet header",
        /// The same, because who captured it kept fewer bytes than it had on the wire.
        Snapped: snapped = "cut by the snaplen of the capture before its inner Ethernet header ends",
        /// The outer Ethernet, IP or UDP header contradicts itself or the frame's length.
        BadOuter: bad_outer = "outer headers contradict each other",
        /// The VXLAN header has no valid VNI: the I flag is missing (RFC 7348 section 5).
        NoVniFlag: no_vni_flag = "VXLAN without a VNI (I flag missing)",
        /// The VNI is not among those asked for.
        Vni: vni = "VNI not allowed",
        /// The outer source is not among those asked for.
        Source: source = "outer source not allowed",
        /// The frame came in more descriptors than a batch has.
        MultiDescriptor: multi_descriptor = "in several descriptors",
        /// Not UDP to a tunnel port. On a live interface the XDP program passes such frames to the kernel.
        NotTunnel: not_tunnel = "not UDP to a tunnel port",
        /// GENEVE (RFC 8926), which is not decapsulated. On a live interface the XDP program passes such
        /// frames to the kernel.
        Geneve: geneve = "GENEVE, which is not decapsulated",
        /// An IPv6 extension header before UDP. On a live interface the XDP program passes such frames to the
        /// kernel.
        Extension: extension = "IPv6 extension headers",
        /// VXLAN-GPE (draft-ietf-nvo3-vxlan-gpe) of something else than Ethernet.
        NotEthernet: not_ethernet = "VXLAN-GPE whose next protocol is not Ethernet",
        /// Of a link type that is not read, in a capture file;
        /// [`FileReport::link_types`](super::FileReport::link_types) has them by number.
        LinkType: link_type = "of a link type that is not read",
        /// A fragment of a UDP datagram, and fragments are not reassembled. On a live interface the XDP
        /// program passes such frames to the kernel.
        Fragment: fragment = "IP fragments",
        /// A fragment whose datagram did not become whole in time, or before the run ended.
        FragmentTimeout: fragment_timeout = "IP fragments whose others did not come in time",
        /// A fragment of a datagram of which two overlap, or contradict its length (RFC 5722).
        Overlap: overlap = "IP fragments that overlap",
        /// A fragment that may belong to more than one datagram, because the id does not tell them apart, or
        /// what was joined is not what its UDP header says. See [`reassembly`](crate::reassembly).
        Ambiguous: ambiguous = "IP fragments that fit more than one datagram",
        /// A fragment that was given up because the memory for fragments was full.
        TableFull: table_full = "IP fragments, for want of memory",
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
        fragment = "IP fragments that nothing shows to be of a tunnel",
        /// Shorter than their headers say.
        malformed = "malformed",
        /// IPv6 extension headers before UDP.
        extension = "IPv6 extension headers",
        /// To a tunnel port, but not to this interface's MAC or IP address, or from a loopback address
        /// (`engine::Destination::Own`).
        not_local = "addressed to others, or from a loopback address",
        /// GENEVE (UDP port 6081), which is not decapsulated.
        geneve = "GENEVE, which is not decapsulated",
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
