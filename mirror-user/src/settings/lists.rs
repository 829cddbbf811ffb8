//! Values that are lists.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    net::IpAddr,
    str::FromStr,
};

use ipnet::IpNet;

use super::words::{Invalid, Word};
use crate::tunnels::{Encapsulation, Tunnels};

/// Parses `0,2-4` into numbers, in the given order and without duplicates.
fn numbers(text: &str, what: &str, most: u32) -> Result<Vec<u32>, Invalid> {
    let mut list = Vec::new();
    let mut known = HashSet::new();
    for part in text.split(',') {
        add_range(part, what, most, |number| {
            list.push(number);
            known.insert(number)
        })?;
    }
    Ok(list)
}

/// Adds the numbers of one part, `7` or `2-4`; `add` returns whether it was not there yet.
fn add_range(part: &str, what: &str, most: u32, mut add: impl FnMut(u32) -> bool) -> Result<(), Invalid> {
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let number = |text: &str| {
        text.trim()
            .parse::<u32>()
            .ok()
            .filter(|number| *number <= most)
            .ok_or_else(|| Invalid(format!("{text:?} is not a {what} (0 to {most})")))
    };
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(Invalid(format!("range {part}: the start exceeds the end")));
    }
    if last - first >= 65_536 {
        return Err(Invalid(format!("range {part}: more than 65536 {what}s")));
    }
    for number in first..=last {
        if !add(number) {
            return Err(Invalid(format!("{what} {number} is listed twice")));
        }
    }
    Ok(())
}

/// TCP ports.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ports(pub Vec<u16>);

/// UDP ports of tunnels, each perhaps with its protocol: `4789,6081`, `8472=vxlan`, `7000=geneve`. Without
/// one, [`Encapsulation::of_port`] has it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TunnelPorts(pub Tunnels);

/// RX queues: all, or these.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct QueueList(pub Option<Vec<u32>>);

/// CPUs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cpus(pub Vec<usize>);

/// VXLAN network identifiers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Vnis(pub Vec<u32>);

/// Prefixes of outer sources.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sources(pub Vec<IpNet>);

impl FromStr for Ports {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let ports = numbers(text, "port", u16::MAX.into())?;
        Ok(Self(ports.into_iter().filter_map(|port| u16::try_from(port).ok()).collect()))
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&ports.join(","))
    }
}

impl FromStr for TunnelPorts {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut tunnels = BTreeMap::new();
        for part in text.split(',') {
            let (ports, named) = match part.split_once('=') {
                None => (part, None),
                Some((ports, "vxlan")) => (ports, Some(Encapsulation::Vxlan)),
                Some((ports, "geneve")) => (ports, Some(Encapsulation::Geneve)),
                Some((_, other)) => {
                    return Err(Invalid(format!("{other:?} is not a tunnel protocol (vxlan or geneve)")));
                }
            };
            add_range(ports, "port", u16::MAX.into(), |port| {
                let Ok(port) = u16::try_from(port) else { return false };
                tunnels.insert(port, named.unwrap_or_else(|| Encapsulation::of_port(port))).is_none()
            })?;
        }
        Ok(Self(tunnels.into_iter().collect()))
    }
}

impl fmt::Display for TunnelPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = |(port, encapsulation): (u16, Encapsulation)| {
            if encapsulation == Encapsulation::of_port(port) {
                port.to_string()
            } else {
                format!("{port}={encapsulation}")
            }
        };
        let ports: Vec<_> = self.0.iter().map(port).collect();
        f.write_str(&ports.join(","))
    }
}

impl FromStr for QueueList {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text == "all" { Ok(Self(None)) } else { numbers(text, "queue", 4095).map(|list| Self(Some(list))) }
    }
}

impl fmt::Display for QueueList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(queues) = &self.0 else { return f.write_str("all") };
        let queues: Vec<_> = queues.iter().map(ToString::to_string).collect();
        f.write_str(&queues.join(","))
    }
}

impl FromStr for Cpus {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Ok(Self(numbers(text, "CPU", 65_535)?.into_iter().map(|cpu| cpu as usize).collect()))
    }
}

impl FromStr for Vnis {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        numbers(text, "VNI", 0xff_ffff).map(Self)
    }
}

impl FromStr for Sources {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let source = |part: &str| {
            let part = part.trim();
            part.parse::<IpNet>().or_else(|_| part.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
                Invalid(format!("{part:?} is neither an address nor a prefix such as 10.0.0.0/8"))
            })
        };
        text.split(',').map(source).collect::<Result<_, _>>().map(Self)
    }
}

/// A list that is one word, or an array.
macro_rules! lists {
    ($($name:ty, $joined:literal;)*) => {$(
        impl Word for $name {
            const JOINED_BY: Option<&'static str> = Some($joined);
        }
    )*};
}

lists! {
    Ports, ",";
    TunnelPorts, ",";
    QueueList, ",";
    Cpus, ",";
    Vnis, ",";
    Sources, ",";
    Phrase, " ";
}

/// Words that form one text: a filter expression, or a name. Words of a command line stay separate.
#[derive(Clone, Debug, Eq)]
pub struct Phrase(pub Vec<String>);

impl FromStr for Phrase {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Ok(Self(vec![text.to_owned()]))
    }
}

impl fmt::Display for Phrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

/// Two phrases are equal if their text is, however it is split into words.
impl PartialEq for Phrase {
    fn eq(&self, other: &Self) -> bool {
        self.0.join(" ") == other.0.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::{super::words::testing::read, *};

    #[test]
    fn lists_take_commas_and_ranges() {
        assert_eq!(read("0,2-4"), Ok(Vnis(vec![0, 2, 3, 4])));
        assert_eq!(read("16777215"), Ok(Vnis(vec![0xff_ffff])));
        assert_eq!(read("4789,8472"), Ok(Ports(vec![4789, 8472])));
    }

    #[test]
    fn a_tunnel_port_may_have_its_protocol() {
        use Encapsulation::{Geneve, Vxlan};
        let tunnels = |list: &[(u16, Encapsulation)]| Ok(TunnelPorts(list.iter().copied().collect()));
        assert_eq!(read("4789"), Ok(TunnelPorts::default()));
        assert_eq!(read("4789,6081"), tunnels(&[(4789, Vxlan), (6081, Geneve)]));
        assert_eq!(
            read("6081=vxlan,7000-7001=geneve"),
            tunnels(&[(6081, Vxlan), (7000, Geneve), (7001, Geneve)])
        );
        assert_eq!(read("6081=geneve"), tunnels(&[(6081, Geneve)]));
        let refused = |text: &str| read::<TunnelPorts>(text).unwrap_err();
        assert_eq!(refused("4789,4789=geneve"), "port 4789 is listed twice");
        assert_eq!(refused("4789=gre"), "\"gre\" is not a tunnel protocol (vxlan or geneve)");
        assert!(
            ["=geneve", "70000", "4789=", "", "1=vxlan=geneve"].iter().all(|text| !refused(text).is_empty())
        );
        for text in ["4789,6081", "4789=geneve,6081=vxlan"] {
            assert_eq!(read::<TunnelPorts>(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn an_invalid_list_is_reported_with_the_reason() {
        let refused = |text: &str| read::<Vnis>(text).unwrap_err();
        assert_eq!(refused("3-1"), "range 3-1: the start exceeds the end");
        assert_eq!(refused("1,0-2"), "VNI 1 is listed twice");
        assert_eq!(refused("16777216"), "\"16777216\" is not a VNI (0 to 16777215)");
        assert!(["70000", "", "-1"].iter().all(|text| read::<Ports>(text).is_err()));
        assert!(refused("0-16777215").contains("more than 65536"));
    }

    #[test]
    fn a_source_is_an_address_or_a_prefix() {
        assert_eq!(read::<Sources>("10.0.0.0/8, 2001:db8::1").unwrap().0.len(), 2);
        assert!(read::<Sources>("10.0.0.0/33").unwrap_err().contains("neither an address nor a prefix"));
    }

    #[test]
    fn queues_are_all_or_a_list() {
        assert_eq!(read("all"), Ok(QueueList(None)));
        assert_eq!(read("0,2-4"), Ok(QueueList(Some(vec![0, 2, 3, 4]))));
        assert_eq!(read("1,0"), Ok(Cpus(vec![1, 0])));
    }
}
