//! Values that are lists.

use std::{collections::HashSet, fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;

use super::words::{Invalid, Word};

/// Parses `0,2-4` into numbers, in the given order and without duplicates.
fn numbers(text: &str, what: &str, most: u32) -> Result<Vec<u32>, Invalid> {
    let mut list = Vec::new();
    let mut known = HashSet::new();
    for part in text.split(',') {
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
            if !known.insert(number) {
                return Err(Invalid(format!("{what} {number} is listed twice")));
            }
            list.push(number);
        }
    }
    Ok(list)
}

/// UDP or TCP ports.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ports(pub Vec<u16>);

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

impl Default for Ports {
    /// The port of VXLAN, RFC 7348 section 5.
    fn default() -> Self {
        Self(vec![4789])
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports: Vec<_> = self.0.iter().map(ToString::to_string).collect();
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
