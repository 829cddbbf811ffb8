//! Who may have what.

use std::net::IpAddr;

use ipnet::IpNet;

/// What a client may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Access {
    /// Everything, from this host.
    Local,
    /// Everything.
    Allowed,
    /// Health without names and addresses.
    Health,
}

impl Access {
    /// By both ends of the connection.
    pub(super) fn of(local: IpAddr, peer: IpAddr, allowed: &[IpNet]) -> Self {
        // An IPv6 socket has IPv4 clients under mapped addresses (RFC 4291 section 2.5.5.2).
        let (local, peer) = (local.to_canonical(), peer.to_canonical());
        if local.is_loopback() {
            Self::Local
        } else if allowed.iter().any(|net| net.contains(&peer)) {
            Self::Allowed
        } else {
            Self::Health
        }
    }
}

/// Whether a Host field names this host. A page of somebody else whose name was made to resolve to a
/// loopback address (DNS rebinding) sends its own name.
pub(super) fn is_this_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, "")) => address,
            Some((address, port)) if is_port(port) => address,
            _ => return false,
        },
        None => match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            Some(_) => return false,
            None => host,
        },
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// A colon, and digits.
fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_field_names_this_host_or_another() {
        for host in ["localhost", "LocalHost:9464", "127.0.0.1", "127.1.2.3:80", "[::1]:80", "[::1]"] {
            assert!(is_this_host(host), "{host}");
        }
        for host in [
            "attacker.example",
            "attacker.example:9464",
            "localhost.attacker.example",
            "127.0.0.1.attacker.example",
            "10.0.0.1",
            "[::2]",
            "[::1]x",
            "[::1",
            "localhost:80:80",
            "localhost:x",
            "",
        ] {
            assert!(!is_this_host(host), "{host:?}");
        }
    }

    #[test]
    fn only_this_host_and_allowed_clients_get_more_than_health() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let allowed = ["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        for (local, peer, access) in [
            ("127.0.0.1", "127.0.0.1", Access::Local),
            ("::1", "::1", Access::Local),
            ("::ffff:127.0.0.1", "::ffff:127.0.0.1", Access::Local),
            ("192.0.2.1", "10.1.2.3", Access::Allowed),
            ("::ffff:192.0.2.1", "::ffff:10.1.2.3", Access::Allowed),
            ("2001:db8::1", "2001:db8::2", Access::Allowed),
            ("192.0.2.1", "192.0.2.1", Access::Health),
            ("192.0.2.1", "11.0.0.1", Access::Health),
        ] {
            assert_eq!(Access::of(address(local), address(peer), &allowed), access, "{local} {peer}");
        }
    }
}
