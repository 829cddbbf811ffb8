//! Lists on the command line: commas, and ranges where they make sense.

use std::time::Duration;

use ipnet::IpNet;

/// Parses `0,2-4` into numbers, in the order given, none twice.
fn numbers(text: &str, what: &str, most: u32) -> Result<Vec<u32>, String> {
    let mut list = Vec::new();
    let mut known = std::collections::HashSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| {
            text.trim()
                .parse::<u32>()
                .ok()
                .filter(|number| *number <= most)
                .ok_or_else(|| format!("{text:?} is not a {what} (0 to {most})"))
        };
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("the range {part} runs backwards"));
        }
        if last - first >= 65_536 {
            return Err(format!("the range {part} names more than 65536 {what}s"));
        }
        for number in first..=last {
            if !known.insert(number) {
                return Err(format!("{what} {number} is named twice"));
            }
            list.push(number);
        }
    }
    Ok(list)
}

/// UDP ports.
#[derive(Clone, Debug)]
pub(crate) struct Ports(pub(crate) Vec<u16>);

/// RX queues.
#[derive(Clone, Debug)]
pub(crate) struct QueueList(pub(crate) Option<Vec<u32>>);

/// CPUs.
#[derive(Clone, Debug)]
pub(crate) struct Cpus(pub(crate) Vec<usize>);

/// VXLAN network identifiers.
#[derive(Clone, Debug)]
pub(crate) struct Vnis(pub(crate) Vec<u32>);

/// Prefixes of outer sources.
#[derive(Clone, Debug)]
pub(crate) struct Sources(pub(crate) Vec<IpNet>);

pub(crate) fn ports(text: &str) -> Result<Ports, String> {
    let ports = numbers(text, "UDP port", u16::MAX.into())?;
    Ok(Ports(ports.into_iter().filter_map(|port| u16::try_from(port).ok()).collect()))
}

pub(crate) fn queues(text: &str) -> Result<QueueList, String> {
    if text == "all" {
        Ok(QueueList(None))
    } else {
        numbers(text, "queue", 4095).map(|list| QueueList(Some(list)))
    }
}

pub(crate) fn cpus(text: &str) -> Result<Cpus, String> {
    Ok(Cpus(numbers(text, "CPU", 65_535)?.into_iter().map(|cpu| cpu as usize).collect()))
}

pub(crate) fn vnis(text: &str) -> Result<Vnis, String> {
    numbers(text, "VNI", 0xff_ffff).map(Vnis)
}

pub(crate) fn sources(text: &str) -> Result<Sources, String> {
    text.split(',')
        .map(|part| {
            let part = part.trim();
            part.parse::<IpNet>()
                .or_else(|_| part.parse::<std::net::IpAddr>().map(IpNet::from))
                .map_err(|_| format!("{part:?} is neither an address nor a prefix such as 10.0.0.0/8"))
        })
        .collect::<Result<_, _>>()
        .map(Sources)
}

/// The longest time taken: far more than anybody waits, and far less than a clock can hold.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// A time with its unit (`10s`, `500ms`, `1h 30m`), or plain seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let parsed = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string()),
        Err(_) => humantime::parse_duration(text).map_err(|error| error.to_string()),
    };
    match parsed {
        Ok(time) if time > LONGEST => Err(format!("{text:?} is longer than a hundred years")),
        Ok(Duration::ZERO) => Err("a time of 0 asks for nothing".to_owned()),
        Ok(time) => Ok(time),
        Err(error) => Err(format!("{text:?} is no time such as 10s, 500ms or 1h: {error}")),
    }
}

/// The size of a file as tcpdump's -C has it: millions of bytes, or with k, m or g behind it KiB, MiB or GiB.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(char, u64); 3] = [('k', 1 << 10), ('m', 1 << 20), ('g', 1 << 30)];
    let unit = text.chars().next_back().map(|last| last.to_ascii_lowercase());
    let (number, unit) = UNITS
        .into_iter()
        .find(|(letter, _)| Some(*letter) == unit)
        .map_or((text, 1_000_000), |(_, unit)| (&text[..text.len() - 1], unit));
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    bytes
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| format!("{text:?} is no size such as 100 (millions of bytes), 512k, 100m or 2g"))
}

/// How much of a packet is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Snap {
    Bytes(u32),
    Headers,
}

pub(crate) fn snap(text: &str) -> Result<Snap, String> {
    match text {
        "headers" => Ok(Snap::Headers),
        _ => text
            .parse()
            .map(Snap::Bytes)
            .map_err(|_| format!("{text:?} is neither a number of bytes nor `headers`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_take_commas_and_ranges() {
        assert_eq!(vnis("0,2-4").unwrap().0, [0, 2, 3, 4]);
        assert_eq!(vnis("16777215").unwrap().0, [0xff_ffff]);
        assert_eq!(ports("4789,8472").unwrap().0, [4789, 8472]);
    }

    #[test]
    fn what_is_no_list_says_why() {
        assert_eq!(vnis("3-1").unwrap_err(), "the range 3-1 runs backwards");
        assert_eq!(vnis("1,0-2").unwrap_err(), "VNI 1 is named twice");
        assert_eq!(vnis("16777216").unwrap_err(), "\"16777216\" is not a VNI (0 to 16777215)");
        assert!(ports("70000").is_err() && ports("").is_err() && ports("-1").is_err());
        assert!(vnis("0-16777215").unwrap_err().contains("more than 65536"));
    }

    #[test]
    fn a_source_is_an_address_or_a_prefix() {
        assert_eq!(sources("10.0.0.0/8, 2001:db8::1").unwrap().0.len(), 2);
        assert!(sources("10.0.0.0/33").unwrap_err().contains("neither an address nor a prefix"));
    }

    #[test]
    fn queues_are_all_or_a_list() {
        assert!(queues("all").unwrap().0.is_none());
        assert_eq!(queues("0,2-4").unwrap().0.unwrap(), [0, 2, 3, 4]);
        assert_eq!(cpus("1,0").unwrap().0, [1, 0]);
    }

    #[test]
    fn a_time_has_a_unit_or_is_in_seconds() {
        assert_eq!(duration("10s").unwrap(), Duration::from_secs(10));
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("1.5").unwrap(), Duration::from_millis(1500));
        assert!(duration("0").is_err() && duration("-1").is_err() && duration("soon").is_err());
        assert!(duration("nan").is_err() && duration("1e300").is_err() && duration("1e19").is_err());
    }

    #[test]
    fn a_size_is_in_millions_of_bytes_unless_it_says_otherwise() {
        let sizes = ["1", "12", "3k", "3K", "5m", "2G"].map(|text| size(text).unwrap());
        assert_eq!(sizes, [1_000_000, 12_000_000, 3072, 3072, 5 << 20, 2 << 30]);
        for text in ["", "0", "k", "-1", "1.5", "1t", "1kk", "99999999999999999999", "18446744073709g", "1ä"]
        {
            assert!(size(text).unwrap_err().contains("no size such as"), "{text}");
        }
    }

    #[test]
    fn a_snap_length_is_a_number_or_the_word() {
        assert_eq!((snap("96"), snap("headers")), (Ok(Snap::Bytes(96)), Ok(Snap::Headers)));
        assert!(snap("header").unwrap_err().contains("neither"));
    }
}
