//! The key of an origin, packed so that hashing and comparing it costs little.

use std::{
    hash::{Hash, Hasher},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use crate::{
    account::{Directions, Origin},
    frame::Frame,
    mirroring::{KnownSession, SessionTable},
    tunnels::Encapsulation,
    wire::geneve::Gateway,
};

/// Outer source, VNI, and the endpoint of a Gateway Load Balancer, if the frame came through one. A VNI is
/// unique per AWS account only, and addresses may overlap between VPCs, so only all of them name an origin.
///
/// It also holds what else is known of an origin from its first frame, which is no part of its name:
/// encapsulation and attachment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OriginKey {
    /// Flags, the VNI, and an IPv4 address: all of most keys.
    word: u64,
    /// An IPv6 address; else 0.
    high: u64,
    low: u64,
    /// 0 without one.
    endpoint: u64,
    /// 0 without one.
    attachment: u64,
}

const VNI_SHIFT: u32 = 32;
const VNI: u64 = 0xff_ffff << VNI_SHIFT;
const IPV6: u64 = 1 << 56;
const HAS_ENDPOINT: u64 = 1 << 57;
const HAS_ATTACHMENT: u64 = 1 << 58;
const GENEVE: u64 = 1 << 59;
/// What is part of the name.
const NAME: u64 = !(HAS_ATTACHMENT | GENEVE);

impl OriginKey {
    pub(super) fn of(frame: &Frame<'_>) -> Self {
        let mut key = Self::new(frame.source(), frame.vni());
        if let Some(Gateway { endpoint, attachment, .. }) = frame.gateway() {
            key.put_endpoint(endpoint);
            key.put_attachment(attachment);
            if frame.encapsulation() == Encapsulation::Geneve {
                key.word |= GENEVE;
            }
        }
        key
    }

    /// The key of a frame, or `None` if it is this one, as it nearly always is where this is the key of the
    /// frame before. For frames over IPv4 without GENEVE, that is one comparison.
    #[inline]
    pub(super) fn another(&self, frame: &Frame<'_>) -> Option<Self> {
        match frame.source() {
            IpAddr::V4(source) if !frame.is_in_geneve() => {
                let word = word(source, frame.vni());
                (word != self.word).then_some(Self { word, ..Self::default() })
            }
            _ => self.another_of_any(frame),
        }
    }

    #[inline(never)]
    fn another_of_any(&self, frame: &Frame<'_>) -> Option<Self> {
        let key = Self::of(frame);
        (key != *self).then_some(key)
    }

    pub(super) fn new(source: IpAddr, vni: u32) -> Self {
        match source {
            IpAddr::V4(address) => Self { word: word(address, vni), ..Self::default() },
            IpAddr::V6(address) => {
                let (high, low) = split(address.to_bits());
                Self { word: word(Ipv4Addr::UNSPECIFIED, vni) | IPV6, high, low, ..Self::default() }
            }
        }
    }

    fn put_endpoint(&mut self, endpoint: Option<u64>) {
        if let Some(endpoint) = endpoint {
            (self.endpoint, self.word) = (endpoint, self.word | HAS_ENDPOINT);
        }
    }

    fn put_attachment(&mut self, attachment: Option<u64>) {
        if let Some(attachment) = attachment {
            (self.attachment, self.word) = (attachment, self.word | HAS_ATTACHMENT);
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "an IPv4 address is in the lower half")]
    pub(super) fn source(self) -> IpAddr {
        if self.word & IPV6 == 0 {
            return Ipv4Addr::from_bits(self.word as u32).into();
        }
        Ipv6Addr::from_bits(u128::from(self.high) << 64 | u128::from(self.low)).into()
    }

    pub(super) fn vni(self) -> u32 {
        ((self.word & VNI) >> VNI_SHIFT) as u32
    }

    pub(super) fn endpoint(self) -> Option<u64> {
        (self.word & HAS_ENDPOINT != 0).then_some(self.endpoint)
    }

    /// As it is reported.
    pub(super) fn origin(self, frames: u64, inner_bytes: u64) -> Origin {
        Origin {
            encapsulation: if self.word & GENEVE == 0 { Encapsulation::Vxlan } else { Encapsulation::Geneve },
            endpoint: self.endpoint(),
            attachment: (self.word & HAS_ATTACHMENT != 0).then_some(self.attachment),
            ..Origin::new(self.source(), self.vni(), frames, inner_bytes)
        }
    }
}

fn word(source: Ipv4Addr, vni: u32) -> u64 {
    u64::from(vni) << VNI_SHIFT | u64::from(source.to_bits())
}

impl PartialEq for OriginKey {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        let Self { word, high, low, endpoint, attachment: _ } = *self;
        (word ^ other.word) & NAME == 0
            && low == other.low
            && high == other.high
            && endpoint == other.endpoint
    }
}

impl Eq for OriginKey {}

impl Hash for OriginKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Every bit is hashed as it is: folding bits first would let senders choose keys that collide. The
        // flags in the first word say which others follow.
        state.write_u64(self.word & NAME);
        if self.word & IPV6 != 0 {
            state.write_u64(self.high);
            state.write_u64(self.low);
        }
        if self.word & HAS_ENDPOINT != 0 {
            state.write_u64(self.endpoint);
        }
    }
}

/// What origins are called: by their sessions, where they are known.
#[derive(Clone, Debug, Default)]
pub(crate) struct OriginNames(Option<Arc<SessionTable>>);

impl From<Arc<SessionTable>> for OriginNames {
    fn from(sessions: Arc<SessionTable>) -> Self {
        Self(Some(sessions))
    }
}

impl OriginNames {
    /// The sessions, if they are known.
    pub(super) fn sessions(&self) -> Option<&SessionTable> {
        self.0.as_deref()
    }

    /// As it is reported.
    pub(super) fn origin(&self, key: OriginKey, frames: u64, inner_bytes: u64) -> Origin {
        let origin = key.origin(frames, inner_bytes);
        let Some(sessions) = self.sessions() else { return origin };
        let directions = Some(Directions { unknown: frames, ..Directions::default() });
        match sessions.session_of(key.vni(), key.source()) {
            None => Origin { directions, ..origin },
            Some(KnownSession { id, interface, owner, tags, .. }) => Origin {
                session: Some(id.clone()),
                interface: Some(interface.clone()),
                owner: owner.clone(),
                tags: tags.clone(),
                directions,
                ..origin
            },
        }
    }

    /// A counter for each session.
    pub(super) fn of_each_session(&self) -> Vec<u64> {
        vec![0; self.sessions().map_or(0, |sessions| sessions.sessions().len())]
    }

    /// Adds an origin's frames to those of its session, if it is known.
    pub(super) fn add_to_session(&self, counts: &mut [u64], key: OriginKey, frames: u64) {
        let position = self.sessions().and_then(|sessions| sessions.position_of(key.vni(), key.source()));
        if let Some(count) = position.and_then(|position| counts.get_mut(position)) {
            *count += frames;
        }
    }

    /// The name of the origin's interface in a capture file.
    pub(super) fn name(&self, key: OriginKey) -> String {
        self.origin(key, 0, 0).interface_name()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves of a word twice as long")]
fn split(bits: u128) -> (u64, u64) {
    ((bits >> 64) as u64, bits as u64)
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, hash::BuildHasher as _};

    use mirror_lab::{
        frames::{Outer, inner_of_len},
        geneve::{ETHERNET, Geneve},
    };

    use super::*;
    use crate::{decap::decapsulate_frame, frame::Captured, tunnels::Tunnels};

    #[test]
    fn a_key_gives_back_its_source_and_vni() {
        for source in ["192.0.2.1", "::ffff:192.0.2.1", "::", "0.0.0.0", "2001:db8::1:2:3:4"] {
            let source: IpAddr = source.parse().unwrap();
            for vni in [0, 1, 0xff_ffff] {
                let key = OriginKey::new(source, vni);
                assert_eq!((key.source(), key.vni()), (source, vni));
            }
        }
    }

    #[test]
    fn an_ipv4_source_differs_from_the_ipv6_address_of_the_same_bits() {
        let v6 = OriginKey::new(Ipv6Addr::from_bits(0xc000_0201).into(), 7);
        assert_ne!(OriginKey::new(Ipv4Addr::from_bits(0xc000_0201).into(), 7), v6);
    }

    #[test]
    fn the_name_holds_vni_and_source() {
        let key = OriginKey::new("10.10.10.252".parse().unwrap(), 16_398_363);
        assert_eq!(OriginNames::default().name(key), "vni-16398363@10.10.10.252");
    }

    #[test]
    fn an_endpoint_is_part_of_the_name_and_what_else_is_known_is_not() {
        let key = OriginKey::new("10.10.10.252".parse().unwrap(), 7);
        let behind = |endpoint, attachment| {
            let mut key = key;
            key.put_endpoint(endpoint);
            key.put_attachment(attachment);
            key
        };
        let first = behind(Some(0x0ab1), Some(5));
        let hasher = foldhash::fast::RandomState::default();
        let geneve = OriginKey { word: first.word | GENEVE, ..first };
        for same in [behind(Some(0x0ab1), Some(6)), behind(Some(0x0ab1), None), geneve] {
            assert_eq!((first, hasher.hash_one(first)), (same, hasher.hash_one(same)));
        }
        // An endpoint of 0 is one.
        for other in [key, behind(Some(0), Some(5)), behind(Some(0x0ab2), Some(5))] {
            assert_ne!(first, other);
        }
        assert_ne!(key, behind(Some(0), None));
        assert_eq!((first.vni(), first.source()), (7, key.source()));
        assert_eq!(OriginNames::default().name(first), "vni-7@10.10.10.252%0000000000000ab1");
        let origin = first.origin(3, 180);
        assert_eq!((origin.endpoint, origin.attachment, origin.frames), (Some(0x0ab1), Some(5), 3));
        let encapsulations = [first, geneve].map(|key| key.origin(0, 0).encapsulation);
        assert_eq!(encapsulations, [Encapsulation::Vxlan, Encapsulation::Geneve]);
        assert_eq!(behind(None, Some(0)).origin(0, 0).attachment, Some(0));
    }

    #[test]
    fn a_frame_of_another_origin_is_seen_at_once() {
        let inner = inner_of_len(60).unwrap();
        let (v4, v6) = (|vni| Outer::sample(vni), |vni| Outer::sample_v6(vni, &[]));
        let mut captured = Vec::new();
        let balancer = Geneve::plain(7);
        let from = |last: u8| v4(7).between([10, 10, 10, last], [10, 10, 10, 1]);
        // The last has the balancer's address and VNI.
        for outer in [v4(7), v4(8), v6(7), v6(8), from(4), from(5)] {
            captured.push(outer.encapsulate(&inner).unwrap());
            for (endpoint, attachment) in [(0, 0), (1, 0), (1, 5)] {
                let geneve = Geneve::aws(endpoint, attachment, 6);
                captured.push(geneve.encapsulate_mirrored(&outer, &inner).unwrap());
            }
        }
        captured.push(balancer.encapsulate(ETHERNET, &inner).unwrap());
        let tunnels = Tunnels::from([4789, 6081]);
        let frames: Vec<_> = captured
            .iter()
            .map(|bytes| {
                let captured = Captured::new(bytes, u32::try_from(bytes.len()).unwrap(), 0);
                decapsulate_frame(captured, &tunnels).unwrap()
            })
            .collect();
        for last in &frames {
            let last = OriginKey::of(last);
            for frame in &frames {
                assert_eq!(last.another(frame).unwrap_or(last), OriginKey::of(frame));
            }
        }
        assert!(frames.iter().all(|frame| OriginKey::of(frame).another(frame).is_none()));
        let names: HashSet<_> = frames.iter().map(OriginKey::of).collect();
        assert_eq!(names.len(), 6 * 3);
    }
}
