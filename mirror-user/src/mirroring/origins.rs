//! Which session a mirrored packet is of, and in which direction its source saw it.
//!
//! A packet has its session's VNI, and outside the address of its source: the primary one of the interface.
//! It says nothing else of both.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{Direction, Mirroring, Packet};

/// Octets of a MAC address.
const MAC: usize = 6;

/// The sessions of a set-up, by what their packets have.
#[derive(Clone, Debug, Default)]
pub struct SessionTable {
    sessions: Vec<KnownSession>,
    /// Positions in these.
    by_vni: HashMap<u32, Vec<usize>>,
}

/// A session with what is known of its source.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct KnownSession {
    /// Such as `tms-0123456789abcdef0`.
    pub id: String,
    /// Its VXLAN network identifier, [derived](Mirroring::vnis) if it has none.
    pub vni: u32,
    /// The source: the id of its interface.
    pub interface: String,
    /// The account that it belongs to, or else the interface.
    pub owner: Option<String>,
    /// Its tags, and those of the interface under other keys.
    pub tags: BTreeMap<String, String>,
    mac: Option<[u8; MAC]>,
    addresses: Vec<IpAddr>,
    prefixes: Vec<IpNet>,
}

impl Mirroring {
    /// The sessions, by what their packets have.
    #[must_use]
    pub fn session_table(&self) -> SessionTable {
        let vnis = self.vnis();
        let known = self.sessions.iter().map(|session| {
            let interface = self.interface(&session.interface);
            let tags = interface.iter().flat_map(|interface| &interface.tags).chain(&session.tags);
            KnownSession {
                id: session.id.clone(),
                vni: vnis.get(session.id.as_str()).copied().unwrap_or_default(),
                interface: session.interface.clone(),
                owner: session.owner.clone().or_else(|| interface?.owner.clone()),
                tags: tags.cloned().collect(),
                mac: interface.and_then(|interface| interface.mac),
                addresses: interface.map(|interface| interface.addresses.clone()).unwrap_or_default(),
                prefixes: interface.map(|interface| interface.prefixes.clone()).unwrap_or_default(),
            }
        });
        SessionTable::of(known.collect())
    }
}

impl SessionTable {
    fn of(sessions: Vec<KnownSession>) -> Self {
        let mut by_vni: HashMap<_, Vec<_>> = HashMap::new();
        for (position, session) in sessions.iter().enumerate() {
            by_vni.entry(session.vni).or_default().push(position);
        }
        Self { sessions, by_vni }
    }

    /// All of them, in the sequence of the set-up.
    #[must_use]
    pub fn sessions(&self) -> &[KnownSession] {
        &self.sessions
    }

    /// Only those with one of these VNIs.
    #[must_use]
    pub fn with_vnis(self, vnis: &[u32]) -> Self {
        Self::of(self.sessions.into_iter().filter(|session| vnis.contains(&session.vni)).collect())
    }

    /// The sessions of this id, or of this value of the tag `Name`.
    pub fn named<'t>(&'t self, name: &'t str) -> impl Iterator<Item = &'t KnownSession> {
        self.sessions.iter().filter(move |session| session.id == name || session.name() == Some(name))
    }

    /// The session of packets with this VNI and outer source, as a position in
    /// [`sessions`](Self::sessions).
    ///
    /// The VNI decides. Where several sessions have it, it is the one whose interface has the address, or
    /// else the only one whose interface's addresses are not known.
    #[must_use]
    pub fn position_of(&self, vni: u32, source: IpAddr) -> Option<usize> {
        let positions = self.by_vni.get(&vni)?;
        if let [only] = positions[..] {
            return Some(only);
        }
        let only = |is_meant: &dyn Fn(&KnownSession) -> bool| {
            let mut meant = positions.iter().filter(|position| is_meant(&self.sessions[**position]));
            match (meant.next(), meant.next()) {
                (Some(one), None) => Some(*one),
                _ => None,
            }
        };
        only(&|session| session.addresses.contains(&source))
            .or_else(|| only(&|session| session.addresses.is_empty()))
    }

    /// The session of packets with this VNI and outer source.
    #[must_use]
    pub fn session_of(&self, vni: u32, source: IpAddr) -> Option<&KnownSession> {
        self.sessions.get(self.position_of(vni, source)?)
    }
}

impl KnownSession {
    /// The value of the tag `Name`.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.tags.get("Name").map(String::as_str)
    }

    /// In which direction the source saw an Ethernet frame: by the MAC address of its interface, else by the
    /// interface's addresses and prefixes; `None` if neither is in the frame.
    #[inline]
    #[must_use]
    pub fn direction(&self, frame: &[u8]) -> Option<Direction> {
        if let (Some(mac), Some((destination, rest))) = (&self.mac, frame.split_first_chunk::<MAC>()) {
            if rest.starts_with(mac) {
                return Some(Direction::Egress);
            }
            if destination == mac {
                return Some(Direction::Ingress);
            }
        }
        self.direction_by_address(frame)
    }

    #[inline(never)]
    fn direction_by_address(&self, frame: &[u8]) -> Option<Direction> {
        if self.addresses.is_empty() && self.prefixes.is_empty() {
            return None;
        }
        let Packet { source, destination, .. } = Packet::of_frame(frame)?;
        let is_own = |address: IpAddr| {
            self.addresses.contains(&address) || self.prefixes.iter().any(|prefix| prefix.contains(&address))
        };
        if is_own(source) {
            return Some(Direction::Egress);
        }
        is_own(destination).then_some(Direction::Ingress)
    }
}

#[cfg(test)]
mod tests {
    use mirror_lab::frames::inner_udp;
    use proptest::prelude::*;

    use super::{
        super::testing::{interface, session},
        *,
    };

    const OWN: [u8; MAC] = [2, 0, 0, 0, 0, 9];
    const GATEWAY: [u8; MAC] = [2, 0, 0, 0, 0, 1];

    /// `tms-1` and `tms-2` share a VNI, `tms-3` has its own.
    fn table() -> SessionTable {
        let of = |id: &str, eni: &str, vni| {
            let mut session = session(id, 1);
            (session.interface, session.vni) = (eni.to_owned(), Some(vni));
            session
        };
        let mut all = Mirroring {
            sessions: vec![of("tms-1", "eni-1", 7), of("tms-2", "eni-2", 7), of("tms-3", "eni-3", 8)],
            interfaces: vec![interface("eni-1", OWN, "10.0.0.9"), interface("eni-2", GATEWAY, "10.0.0.8")],
            ..Mirroring::default()
        };
        all.interfaces[0].owner = Some("111122223333".to_owned());
        all.interfaces[0].tags = vec![("Name".into(), "web".into()), ("env".into(), "prod".into())];
        all.interfaces[0].prefixes = vec!["10.9.0.0/28".parse().unwrap()];
        all.sessions[0].tags = vec![("Name".into(), "front".into())];
        all.session_table()
    }

    fn id(table: &SessionTable, vni: u32, source: &str) -> Option<String> {
        table.session_of(vni, source.parse().unwrap()).map(|session| session.id.clone())
    }

    #[test]
    fn the_vni_names_the_session_and_where_two_have_it_the_outer_source() {
        let table = table();
        assert_eq!(id(&table, 8, "192.0.2.1").as_deref(), Some("tms-3"));
        assert_eq!(id(&table, 7, "10.0.0.9").as_deref(), Some("tms-1"));
        assert_eq!(id(&table, 7, "10.0.0.8").as_deref(), Some("tms-2"));
        assert_eq!(id(&table, 7, "10.0.0.7"), None, "both addresses are known, and others");
        assert_eq!(id(&table, 9, "10.0.0.9"), None);
        let mut other = table;
        other.sessions[1].addresses.clear();
        assert_eq!(id(&other, 7, "10.0.0.7").as_deref(), Some("tms-2"), "the only one that it can be of");
        other.sessions[0].addresses.clear();
        assert_eq!(id(&other, 7, "10.0.0.7"), None);
    }

    #[test]
    fn a_session_without_a_vni_has_the_derived_one() {
        let all = Mirroring { sessions: vec![session("tms-0a", 1)], ..Mirroring::default() };
        let table = all.session_table();
        assert_eq!(table.sessions()[0].vni, all.vnis()["tms-0a"]);
    }

    #[test]
    fn a_session_has_the_owner_and_the_further_tags_of_its_interface() {
        let table = table();
        let [first, second, third] = table.sessions() else { panic!() };
        assert_eq!(first.owner.as_deref(), Some("111122223333"));
        assert_eq!((first.name(), first.tags["env"].as_str()), (Some("front"), "prod"));
        assert_eq!((second.name(), third.owner.as_deref(), third.tags.len()), (None, None, 0));
    }

    #[test]
    fn sessions_are_found_by_id_and_by_name_and_selected_by_vni() {
        let table = table();
        let ids = |name| table.named(name).map(|session| session.id.as_str()).collect::<Vec<_>>();
        assert_eq!((ids("tms-2"), ids("front")), (vec!["tms-2"], vec!["tms-1"]));
        assert!(ids("web").is_empty(), "the session's own Name");
        let selected = table.clone().with_vnis(&[8]);
        assert_eq!((selected.sessions().len(), id(&selected, 7, "10.0.0.9")), (1, None));
        assert_eq!(id(&selected, 8, "10.0.0.9").as_deref(), Some("tms-3"));
    }

    #[test]
    fn the_direction_is_known_by_the_mac_address_and_else_by_addresses_and_prefixes() {
        let table = table();
        let [session, _, unknown] = table.sessions() else { panic!() };
        let frame = |destination: [u8; MAC], source: [u8; MAC], from: [u8; 4], to: [u8; 4]| {
            let mut frame = inner_udp((from.into(), 1000), (to.into(), 2000), &[0; 8]).unwrap();
            frame[..MAC].copy_from_slice(&destination);
            frame[MAC..2 * MAC].copy_from_slice(&source);
            frame
        };
        let (own, other, delegated) = ([10, 0, 0, 9], [10, 0, 0, 1], [10, 9, 0, 15]);
        let (egress, ingress) = (Some(Direction::Egress), Some(Direction::Ingress));
        for (frame, expected) in [
            // Whatever the addresses are, as of a NAT instance.
            (frame(GATEWAY, OWN, other, own), egress),
            (frame(OWN, GATEWAY, own, other), ingress),
            // As of another interface of the instance.
            (frame(GATEWAY, GATEWAY, own, other), egress),
            (frame(GATEWAY, GATEWAY, other, own), ingress),
            (frame(GATEWAY, GATEWAY, delegated, other), egress),
            (frame(GATEWAY, GATEWAY, other, delegated), ingress),
            (frame(GATEWAY, GATEWAY, other, other), None),
        ] {
            assert_eq!(session.direction(&frame), expected, "{frame:02x?}");
            assert_eq!(unknown.direction(&frame), None);
        }
        assert_eq!(session.direction(&OWN), ingress, "a frame that was cut");
        assert_eq!(session.direction(&[]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_direction_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            for session in table().sessions() {
                let direction = session.direction(&bytes);
                prop_assert!(direction.is_none() || session.mac.is_some());
            }
        }
    }
}
