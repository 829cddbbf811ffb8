//! Community ID, version 1: <https://github.com/corelight/community-id-spec>.

use std::{fmt, net::IpAddr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha1::{Digest as _, Sha1};

use super::{Flow, Ports, protocol};

/// `1:` and a SHA-1 in base64: 30 characters.
const LEN: usize = 30;

/// The Community ID of a flow; it displays as in other tools.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct CommunityId([u8; LEN]);

impl CommunityId {
    pub(super) fn new(flow: &Flow, seed: u16) -> Self {
        let (from, to, one_way) = match flow.ports {
            Ports::Pair(from, to) => (Some(from), Some(to), false),
            Ports::Icmp(kind, code) => {
                let counterpart = counterpart(flow.protocol, kind);
                let to = counterpart.unwrap_or(code);
                (Some(kind.into()), Some(to.into()), counterpart.is_none())
            }
            Ports::None => (None, None, false),
        };
        let ends = [(flow.source, from), (flow.destination, to)];
        let ordered = one_way || ends[0] <= ends[1];
        let [low, high] = if ordered { ends } else { [ends[1], ends[0]] };
        let mut hash = Sha1::new_with_prefix(seed.to_be_bytes());
        for (address, _) in [low, high] {
            match address {
                IpAddr::V4(address) => hash.update(address.octets()),
                IpAddr::V6(address) => hash.update(address.octets()),
            }
        }
        hash.update([flow.protocol, 0]);
        for port in [low.1, high.1].into_iter().flatten() {
            hash.update(port.to_be_bytes());
        }
        let mut id = *b"1:............................";
        // 20 bytes are 28 characters, so they fit.
        let encoded = STANDARD.encode_slice(hash.finalize(), &mut id[2..]);
        debug_assert_eq!(encoded, Ok(LEN - 2));
        Self(id)
    }

    /// The 30 characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Always ASCII.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The type of the reply to a message type, and the reverse; `None` for messages without reply.
fn counterpart(protocol: u8, kind: u8) -> Option<u8> {
    const V4: [(u8, u8); 5] = [(8, 0), (13, 14), (15, 16), (10, 9), (17, 18)];
    const V6: [(u8, u8); 6] = [(128, 129), (133, 134), (135, 136), (130, 131), (139, 140), (144, 145)];
    let pairs: &[_] = if protocol == protocol::ICMP { &V4 } else { &V6 };
    pairs.iter().find_map(|&(one, other)| match kind {
        _ if kind == one => Some(other),
        _ if kind == other => Some(one),
        _ => None,
    })
}

impl fmt::Display for CommunityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for CommunityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CommunityId").field(&self.as_str()).finish()
    }
}
