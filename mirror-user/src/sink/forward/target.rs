//! What one can forward to, as a user writes it.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use crate::{escape, sink::pcap::Format, wire::vxlan};

/// Where inner frames are forwarded to.
///
/// Its text, which is parsed and displayed alike:
///
/// | | |
/// |---|---|
/// | `tap:NAME[,persist][,to-host]` | a TAP device that is made, or taken over: IPv6 and ARP off, no address; it goes with the run unless `persist`; the host itself receives nothing by it unless `to-host` |
/// | `dev:NAME` | sent on an interface that is there, but not the loopback |
/// | `vxlan:ADDR[:PORT][,vni=N]` | wrapped in VXLAN again, to another target or a collector; port 4789 and the VNI it came with, unless said otherwise |
/// | `pcap-over-ip:listen=ADDR:PORT[,allow-remote][,format=pcapng]` | a capture as a TCP stream, for whoever connects; beyond loopback only with `allow-remote` |
/// | `pcap-over-ip:listen=PATH[,mode=0600][,group=NAME][,format=pcapng]` | the same over a Unix socket, for those whom its mode and group let in |
/// | `pcap-over-ip:connect=ADDR:PORT[,format=pcapng]` | the same to a reader that listens |
///
/// # Examples
///
/// ```
/// use mirror_user::sink::forward::Target;
///
/// let target: Target = "vxlan:192.0.2.7,vni=42".parse()?;
/// assert_eq!(target.to_string(), "vxlan:192.0.2.7:4789,vni=42");
/// # Ok::<(), mirror_user::sink::forward::TargetError>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Target {
    /// A TAP device.
    Tap {
        /// Its name.
        name: String,
        /// Whether it stays after the run.
        persist: bool,
        /// Whether the host's own network stack receives what it carries, as a bridge or a virtual machine
        /// needs; it may answer.
        to_host: bool,
    },
    /// An interface that is there.
    Device {
        /// Its name.
        name: String,
    },
    /// Another VXLAN tunnel.
    Vxlan {
        /// Its far end.
        to: SocketAddr,
        /// The VNI to give to every frame; each keeps its own where this is `None`.
        vni: Option<u32>,
    },
    /// A capture as a TCP stream, for readers that connect.
    PcapListen {
        /// Where to listen.
        at: SocketAddr,
        /// Layout of the stream.
        format: Format,
    },
    /// A capture as a stream, for readers that connect to a Unix socket.
    PcapSocket {
        /// Its name.
        path: PathBuf,
        /// Its permission bits: to connect takes leave to write.
        mode: u32,
        /// Its group, by name or number; that of the process where it is `None`.
        group: Option<String>,
        /// Layout of the stream.
        format: Format,
    },
    /// A capture as a TCP stream, to a reader that listens.
    PcapConnect {
        /// The reader.
        to: SocketAddr,
        /// Layout of the stream.
        format: Format,
    },
}

/// Why a text is no target.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}: {}", escape::line(text), escape::line(cause))]
pub struct TargetError {
    text: String,
    cause: String,
}

const KINDS: &str = "tap:NAME, dev:NAME, vxlan:ADDR[:PORT][,vni=N], pcap-over-ip:listen=ADDR:PORT, \
                     pcap-over-ip:listen=/PATH and pcap-over-ip:connect=ADDR:PORT";
/// A socket is its owner's alone, unless told otherwise.
const MODE: u32 = 0o600;
/// The longest name of a socket that a reader can connect to: `sun_path` with its NUL, unix(7).
const LONGEST: usize = 107;

impl Target {
    /// Whether frames can be sent there with a VLAN tag for their VNI.
    #[must_use]
    pub fn takes_vlans(&self) -> bool {
        matches!(self, Self::Tap { .. } | Self::Device { .. })
    }

    /// Whether packets can have a comment there, such as a Community ID.
    #[must_use]
    pub fn takes_comments(&self) -> bool {
        self.format() == Some(Format::Pcapng)
    }

    /// Whether it is a stream that readers take.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.format().is_some()
    }

    /// Whether readers come to it, instead of it to them.
    #[must_use]
    pub fn listens(&self) -> bool {
        matches!(self, Self::PcapListen { .. } | Self::PcapSocket { .. })
    }

    fn format(&self) -> Option<Format> {
        match self {
            Self::PcapListen { format, .. }
            | Self::PcapSocket { format, .. }
            | Self::PcapConnect { format, .. } => Some(*format),
            Self::Tap { .. } | Self::Device { .. } | Self::Vxlan { .. } => None,
        }
    }

    /// Who can read what is mirrored there, where anybody may come; and whether that is more than those who
    /// were chosen.
    pub(super) fn readers(&self) -> Option<(String, bool)> {
        const ANY_USER: &str = "every user of this host can read it, and so what is mirrored";
        match self {
            Self::PcapListen { at, .. } if at.ip().is_loopback() => Some((
                format!(
                    "{ANY_USER}; `pcap-over-ip:listen=/PATH[,mode=0660][,group=NAME]` is for those who are \
                    chosen"
                ),
                true,
            )),
            Self::PcapListen { .. } => {
                Some(("whoever reaches this address can read it, and so what is mirrored".to_owned(), true))
            }
            Self::PcapSocket { mode, .. } if mode & 0o002 != 0 => Some((ANY_USER.to_owned(), true)),
            Self::PcapSocket { mode, group, .. } if mode & 0o020 != 0 => {
                let group =
                    group.as_ref().map_or_else(|| "its group".to_owned(), |group| format!("group {group}"));
                Some((format!("its owner and {group} can read it"), false))
            }
            Self::PcapSocket { .. } => Some(("its owner alone can read it".to_owned(), false)),
            _ => None,
        }
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        parse(text).map_err(|cause| TargetError { text: text.to_owned(), cause })
    }
}

fn parse(text: &str) -> Result<Target, String> {
    let (kind, rest) =
        text.split_once(':').ok_or_else(|| format!("says not what it is; there are {KINDS}"))?;
    let mut options = rest.split(',');
    let value = options.next().unwrap_or_default();
    let options: Vec<_> = options.collect();
    match kind {
        "tap" => {
            let (mut persist, mut to_host) = (false, false);
            for option in options {
                match option {
                    "persist" => persist = true,
                    "to-host" => to_host = true,
                    _ => return Err(unknown(option, "are `persist` and `to-host`")),
                }
            }
            Ok(Target::Tap { name: interface(value)?, persist, to_host })
        }
        "dev" => match options.first() {
            Some(option) => Err(unknown(option, "are none")),
            None => Ok(Target::Device { name: interface(value)? }),
        },
        "vxlan" => {
            let mut vni = None;
            for option in options {
                let number = option.strip_prefix("vni=").ok_or_else(|| unknown(option, "is `vni=N`"))?;
                let number = number.parse().ok().filter(|vni| *vni <= vxlan::MAX_VNI);
                vni = Some(number.ok_or_else(|| format!("a VNI is a number up to {}", vxlan::MAX_VNI))?);
            }
            Ok(Target::Vxlan { to: tunnel_end(value)?, vni })
        }
        "pcap-over-ip" => match value.split_once('=') {
            Some(("listen", path)) if path.contains('/') => socket(path, &options),
            _ => over_tcp(value, &options),
        },
        _ => Err(format!("there is nothing called {kind} to forward to; there are {KINDS}")),
    }
}

fn unknown(option: &str, known: &str) -> String {
    format!("has an option {option}; there {known}")
}

fn over_tcp(value: &str, options: &[&str]) -> Result<Target, String> {
    let (mut format, mut allow_remote) = (Format::Pcap, false);
    for option in options {
        match *option {
            "format=pcap" => format = Format::Pcap,
            "format=pcapng" => format = Format::Pcapng,
            "allow-remote" => allow_remote = true,
            _ => return Err(unknown(option, "are `format=pcap`, `format=pcapng` and `allow-remote`")),
        }
    }
    let address = |text: &str| {
        text.parse::<SocketAddr>().map_err(|_| {
            format!(
                "{text} is no address with a port, as 127.0.0.1:57012 is, and no path, as /run/mirror.sock is"
            )
        })
    };
    match value.split_once('=') {
        Some(("listen", at)) => {
            let at = address(at)?;
            if !at.ip().is_loopback() && !allow_remote {
                return Err(format!(
                    "anybody who reaches {at} could read what is mirrored; if that is meant, add \
                    `,allow-remote`"
                ));
            }
            Ok(Target::PcapListen { at, format })
        }
        Some(("connect", to)) => Ok(Target::PcapConnect { to: address(to)?, format }),
        _ => Err("wants listen=ADDR:PORT, listen=/PATH or connect=ADDR:PORT".to_owned()),
    }
}

fn socket(path: &str, options: &[&str]) -> Result<Target, String> {
    let (mut format, mut mode, mut group) = (Format::Pcap, MODE, None);
    for option in options {
        match option.split_once('=') {
            Some(("format", "pcap")) => format = Format::Pcap,
            Some(("format", "pcapng")) => format = Format::Pcapng,
            Some(("mode", text)) => {
                let bits = u32::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o777);
                mode = bits.ok_or_else(|| format!("{text} is no mode, as 0660 is"))?;
            }
            Some(("group", name)) if !name.is_empty() => group = Some((*name).to_owned()),
            _ => {
                return Err(unknown(
                    option,
                    "are `mode=0660`, `group=NAME`, `format=pcap` and `format=pcapng`",
                ));
            }
        }
    }
    if path.ends_with('/') || path.contains('\0') || matches!(path.rsplit('/').next(), Some("." | "..")) {
        return Err(format!("{path} names no socket"));
    }
    if path.len() > LONGEST {
        return Err(format!("{path} is longer than {LONGEST} bytes, so that no reader could connect to it"));
    }
    Ok(Target::PcapSocket { path: path.into(), mode, group, format })
}

fn interface(name: &str) -> Result<String, String> {
    if name.is_empty() {
        return Err("the name of the interface is missing".to_owned());
    }
    // What the kernel refuses (dev_valid_name), told before anything is opened.
    if name.len() > 15 || name.contains(['/', ' ', '%', ':']) || matches!(name, "." | "..") {
        return Err(format!("{name} is no name of an interface: at most 15 characters, no /, no space"));
    }
    Ok(name.to_owned())
}

/// An address, with or without a port.
fn tunnel_end(text: &str) -> Result<SocketAddr, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let end = match bare.parse::<IpAddr>() {
        Ok(address) => SocketAddr::new(address, vxlan::PORT),
        Err(_) => {
            text.parse().map_err(|_| format!("{text} is no address, as 192.0.2.7 or 192.0.2.7:4789 is"))?
        }
    };
    if end.ip().is_unspecified() || end.ip().is_multicast() || end.port() == 0 {
        return Err(format!("{end} is not the address of one host, and a port"));
    }
    Ok(end)
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tap { name, persist, to_host } => {
                let (persist, to_host) =
                    (if *persist { ",persist" } else { "" }, if *to_host { ",to-host" } else { "" });
                write!(f, "tap:{name}{persist}{to_host}")
            }
            Self::Device { name } => write!(f, "dev:{name}"),
            Self::Vxlan { to, vni: None } => write!(f, "vxlan:{to}"),
            Self::Vxlan { to, vni: Some(vni) } => write!(f, "vxlan:{to},vni={vni}"),
            Self::PcapListen { at, format } => {
                let remote = if at.ip().is_loopback() { "" } else { ",allow-remote" };
                write!(f, "pcap-over-ip:listen={at}{remote}{}", of(*format))
            }
            Self::PcapSocket { path, mode, group, format } => {
                write!(f, "pcap-over-ip:listen={}", path.display())?;
                if *mode != MODE {
                    write!(f, ",mode={mode:04o}")?;
                }
                if let Some(group) = group {
                    write!(f, ",group={group}")?;
                }
                f.write_str(of(*format))
            }
            Self::PcapConnect { to, format } => write!(f, "pcap-over-ip:connect={to}{}", of(*format)),
        }
    }
}

fn of(format: Format) -> &'static str {
    match format {
        Format::Pcap | Format::PcapMicros => "",
        Format::Pcapng => ",format=pcapng",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn targets_are_displayed_as_they_are_written() {
        for text in [
            "tap:ids0",
            "tap:ids0,persist",
            "tap:ids0,persist,to-host",
            "dev:veth0.7",
            "vxlan:192.0.2.7:4789",
            "vxlan:192.0.2.7:8472,vni=0",
            "vxlan:[2001:db8::7]:4789,vni=16777215",
            "pcap-over-ip:listen=127.0.0.1:57012",
            "pcap-over-ip:listen=[::1]:57012,format=pcapng",
            "pcap-over-ip:listen=0.0.0.0:57012,allow-remote",
            "pcap-over-ip:connect=192.0.2.7:57012,format=pcapng",
            "pcap-over-ip:listen=/run/mirror.sock",
            "pcap-over-ip:listen=./a:b=c,mode=0660,group=ids,format=pcapng",
        ] {
            assert_eq!(text.parse::<Target>().map(|target| target.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn a_tunnel_has_the_port_of_vxlan_unless_it_is_said() {
        for text in ["vxlan:192.0.2.7", "vxlan:2001:db8::7", "vxlan:[2001:db8::7]"] {
            let Ok(Target::Vxlan { to, vni: None }) = text.parse() else { panic!("{text}") };
            assert_eq!(to.port(), 4789);
        }
    }

    #[test]
    fn what_is_no_target_is_told_by_its_cause() {
        for (text, cause) in [
            ("ids0", "says not what it is"),
            ("tun:ids0", "nothing called tun"),
            ("tap:", "name of the interface is missing"),
            ("tap:ids0,up", "an option up; there are `persist` and `to-host`"),
            ("tap:a-name-of-16-char", "at most 15 characters"),
            ("dev:../x", "no name of an interface"),
            ("dev:veth0,x", "an option x; there are none"),
            ("vxlan:host", "host is no address"),
            ("vxlan:224.0.0.1", "not the address of one host"),
            ("vxlan:192.0.2.7,vni=16777216", "up to 16777215"),
            ("vxlan:192.0.2.7,ttl=5", "there is `vni=N`"),
            ("pcap-over-ip:127.0.0.1:5", "wants listen"),
            ("pcap-over-ip:listen=5", "no address with a port"),
            ("pcap-over-ip:listen=0.0.0.0:57012", "add `,allow-remote`"),
            ("pcap-over-ip:listen=127.0.0.1:5,mode=0660", "an option mode=0660"),
            ("pcap-over-ip:listen=/run/a,mode=0888", "0888 is no mode"),
            ("pcap-over-ip:listen=/run/a,mode=1777", "1777 is no mode"),
            ("pcap-over-ip:listen=/run/a,group=", "an option group="),
            ("pcap-over-ip:listen=/run/a,allow-remote", "an option allow-remote"),
            ("pcap-over-ip:listen=/run/", "names no socket"),
            ("pcap-over-ip:connect=/run/a", "no address with a port"),
        ] {
            let error = text.parse::<Target>().expect_err(text).to_string();
            assert!(error.starts_with(text) && error.contains(cause), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_target_that_reads_back_or_none(
            kind in "(tap|dev|vxlan|pcap-over-ip|pcap-over-ip:listen=/|)",
            rest in "(|[a-z/]{1,9},mode=0[0-7]{3},group=[a-z]{1,3}|[:a-z0-9.,=\\[\\]%/ -]{0,40})",
        ) {
            let colon = if kind.ends_with('/') { "" } else { ":" };
            let text = format!("{kind}{colon}{rest}");
            match text.parse::<Target>() {
                Ok(target) => prop_assert_eq!(target.to_string().parse::<Target>(), Ok(target)),
                Err(error) => prop_assert!(error.to_string().starts_with(&text)),
            }
        }
    }
}
