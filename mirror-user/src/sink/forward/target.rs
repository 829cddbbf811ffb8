//! Targets of a forwarder, as users write them.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::{escape, host::namespace::NetworkNamespace, sink::pcap::Format, wire::vxlan};

/// A target of a forwarder.
///
/// Its text, which is parsed and displayed in the same form:
///
/// | | |
/// |---|---|
/// | `tap:NAME[,persist][,to-host]` | a TAP device, created or reused: IPv6 and ARP off, no address; removed at the end unless `persist`; the host itself receives nothing from it unless `to-host` |
/// | `veth:NAME[,persist][,to-host][,netns=NAME\|PID]` | a veth pair whose far end has this name, in the network namespace of that name or process if given; otherwise as `tap:` |
/// | `dev:NAME` | an existing interface other than the loopback |
/// | `vxlan:ADDR[:PORT][,vni=N]` | VXLAN again, to another mirror target or a collector; by default port 4789 and the frame's own VNI |
/// | `pcap-over-ip:listen=ADDR:PORT[,allow-remote][,format=pcapng]` | a capture as a TCP stream, for readers that connect; beyond loopback only with `allow-remote` |
/// | `pcap-over-ip:listen=PATH[,mode=0600][,group=NAME][,format=pcapng]` | the same over a Unix socket, for readers that its mode and group permit |
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
        /// Whether the host's own network stack receives the frames, as a bridge or a virtual machine needs.
        /// It may answer them.
        to_host: bool,
    },
    /// A veth pair.
    Veth {
        /// The name of its far end.
        name: String,
        /// Whether it stays after the run.
        persist: bool,
        /// Whether the network stack at the far end receives the frames, as a bridge or a virtual machine
        /// needs. It may answer them.
        to_host: bool,
        /// Where the far end is; `None` for the namespace of the run.
        netns: Option<NetworkNamespace>,
    },
    /// An existing interface.
    Device {
        /// Its name.
        name: String,
    },
    /// Another VXLAN tunnel.
    Vxlan {
        /// Its remote end.
        to: SocketAddr,
        /// The VNI of every frame; `None` to keep each frame's own.
        vni: Option<u32>,
    },
    /// A capture as a TCP stream, for readers that connect.
    PcapListen {
        /// The address to listen on.
        at: SocketAddr,
        /// Format of the stream.
        format: Format,
    },
    /// A capture as a stream, for readers that connect to a Unix socket.
    PcapSocket {
        /// Its path.
        path: PathBuf,
        /// Its mode: connecting needs write permission.
        mode: u32,
        /// Its group, by name or number; `None` for that of the process.
        group: Option<String>,
        /// Format of the stream.
        format: Format,
    },
    /// A capture as a TCP stream, to a reader that listens.
    PcapConnect {
        /// The reader.
        to: SocketAddr,
        /// Format of the stream.
        format: Format,
    },
}

/// Why a text is not a target.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}: {}", escape::line(text), escape::line(cause))]
pub struct TargetError {
    text: String,
    cause: String,
}

const KINDS: &str = "veth:NAME, tap:NAME, dev:NAME, vxlan:ADDR[:PORT][,vni=N], \
    pcap-over-ip:listen=ADDR:PORT, pcap-over-ip:listen=/PATH and pcap-over-ip:connect=ADDR:PORT";
/// Default mode of a socket: only its owner can connect.
const MODE: u32 = 0o600;
/// The largest process id, which is an `int`.
const MAX_PROCESS: u32 = i32::MAX.cast_unsigned();
/// The longest path that a reader can connect to: `sun_path` with its NUL, unix(7).
const LONGEST: usize = 107;

impl Target {
    /// Whether one process cannot open it while another one has it.
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        !matches!(self, Self::Vxlan { .. } | Self::PcapConnect { .. })
    }

    /// The TCP port that it connects to.
    #[must_use]
    pub fn connects(&self) -> Option<u16> {
        match self {
            Self::PcapConnect { to, .. } => Some(to.port()),
            _ => None,
        }
    }

    /// The Unix socket on which it listens.
    #[must_use]
    pub fn socket(&self) -> Option<&Path> {
        match self {
            Self::PcapSocket { path, .. } => Some(path),
            _ => None,
        }
    }

    /// Whether opening it needs privileges, or what a sandbox may deny.
    #[must_use]
    pub fn has_parts(&self) -> bool {
        !matches!(self, Self::PcapSocket { .. } | Self::PcapConnect { .. })
    }

    /// Whether frames can have a VLAN tag for their VNI.
    #[must_use]
    pub fn takes_vlans(&self) -> bool {
        matches!(self, Self::Tap { .. } | Self::Veth { .. } | Self::Device { .. })
    }

    /// Whether packets can have a comment, such as a Community ID.
    #[must_use]
    pub fn takes_comments(&self) -> bool {
        self.format() == Some(Format::Pcapng)
    }

    /// Whether it is a stream for readers.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.format().is_some()
    }

    /// Whether readers connect to it.
    #[must_use]
    pub fn listens(&self) -> bool {
        matches!(self, Self::PcapListen { .. } | Self::PcapSocket { .. })
    }

    fn format(&self) -> Option<Format> {
        match self {
            Self::PcapListen { format, .. }
            | Self::PcapSocket { format, .. }
            | Self::PcapConnect { format, .. } => Some(*format),
            Self::Tap { .. } | Self::Veth { .. } | Self::Device { .. } | Self::Vxlan { .. } => None,
        }
    }

    /// Who can read the mirrored traffic from a stream that listens; and whether that is worth a warning.
    pub(super) fn readers(&self) -> Option<(String, bool)> {
        const ANY_USER: &str = "every user of this host can read it, and so the mirrored traffic";
        match self {
            Self::PcapListen { at, .. } if at.ip().is_loopback() => Some((
                format!(
                    "{ANY_USER}; to restrict it use `pcap-over-ip:listen=/PATH[,mode=0660][,group=NAME]`"
                ),
                true,
            )),
            Self::PcapListen { .. } => Some((
                "every host that can connect can read it, and so the mirrored traffic".to_owned(),
                true,
            )),
            Self::PcapSocket { mode, .. } if mode & 0o002 != 0 => Some((ANY_USER.to_owned(), true)),
            Self::PcapSocket { mode, group, .. } if mode & 0o020 != 0 => {
                let group =
                    group.as_ref().map_or_else(|| "its group".to_owned(), |group| format!("group {group}"));
                Some((format!("its owner and {group} can read it"), false))
            }
            Self::PcapSocket { .. } => Some(("only its owner can read it".to_owned(), false)),
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
        text.split_once(':').ok_or_else(|| format!("missing target type (expected {KINDS})"))?;
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
                    _ => return Err(unknown(option, "`persist` or `to-host`")),
                }
            }
            Ok(Target::Tap { name: interface(value)?, persist, to_host })
        }
        "veth" => {
            let (mut persist, mut to_host, mut netns) = (false, false, None);
            for option in options {
                match (option, option.strip_prefix("netns=")) {
                    ("persist", _) => persist = true,
                    ("to-host", _) => to_host = true,
                    (_, Some(text)) => netns = Some(namespace(text)?),
                    _ => return Err(unknown(option, "`persist`, `to-host` or `netns=NAME|PID`")),
                }
            }
            Ok(Target::Veth { name: interface(value)?, persist, to_host, netns })
        }
        "dev" => match options.first() {
            Some(option) => Err(unknown(option, "none")),
            None => Ok(Target::Device { name: interface(value)? }),
        },
        "vxlan" => {
            let mut vni = None;
            for option in options {
                let number = option.strip_prefix("vni=").ok_or_else(|| unknown(option, "`vni=N`"))?;
                let number = number.parse().ok().filter(|vni| *vni <= vxlan::MAX_VNI);
                vni = Some(number.ok_or_else(|| format!("invalid VNI (expected 0 to {})", vxlan::MAX_VNI))?);
            }
            Ok(Target::Vxlan { to: tunnel_end(value)?, vni })
        }
        "pcap-over-ip" => match value.split_once('=') {
            Some(("listen", path)) if path.contains('/') => socket(path, &options),
            _ => over_tcp(value, &options),
        },
        _ => Err(format!("unknown target type {kind} (expected {KINDS})")),
    }
}

fn unknown(option: &str, known: &str) -> String {
    format!("unknown option {option} (expected {known})")
}

fn over_tcp(value: &str, options: &[&str]) -> Result<Target, String> {
    let (mut format, mut allow_remote) = (Format::Pcap, false);
    for option in options {
        match *option {
            "format=pcap" => format = Format::Pcap,
            "format=pcapng" => format = Format::Pcapng,
            "allow-remote" => allow_remote = true,
            _ => return Err(unknown(option, "`format=pcap`, `format=pcapng` or `allow-remote`")),
        }
    }
    let address = |text: &str| {
        text.parse::<SocketAddr>().map_err(|_| {
            format!(
                "{text} is neither an address with a port (127.0.0.1:57012) nor a path (/run/mirror.sock)"
            )
        })
    };
    match value.split_once('=') {
        Some(("listen", at)) => {
            let at = address(at)?;
            if !at.ip().is_loopback() && !allow_remote {
                return Err(format!(
                    "every host that can connect to {at} could read the mirrored traffic; add \
                    `,allow-remote` to permit that"
                ));
            }
            Ok(Target::PcapListen { at, format })
        }
        Some(("connect", to)) => Ok(Target::PcapConnect { to: address(to)?, format }),
        _ => Err("expected listen=ADDR:PORT, listen=/PATH or connect=ADDR:PORT".to_owned()),
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
                mode = bits.ok_or_else(|| format!("invalid mode {text} (expected octal, such as 0660)"))?;
            }
            Some(("group", name)) if !name.is_empty() => group = Some((*name).to_owned()),
            _ => {
                return Err(unknown(option, "`mode=0660`, `group=NAME`, `format=pcap` or `format=pcapng`"));
            }
        }
    }
    if path.ends_with('/') || path.contains('\0') || matches!(path.rsplit('/').next(), Some("." | "..")) {
        return Err(format!("{path} is not the path of a socket"));
    }
    if path.len() > LONGEST {
        return Err(format!("{path} is longer than {LONGEST} bytes: readers could not connect"));
    }
    Ok(Target::PcapSocket { path: path.into(), mode, group, format })
}

fn interface(name: &str) -> Result<String, String> {
    if name.is_empty() {
        return Err("missing interface name".to_owned());
    }
    // Names that the kernel refuses (dev_valid_name), reported before anything is opened.
    if name.len() > 15 || name.contains(['/', ' ', '%', ':']) || matches!(name, "." | "..") {
        return Err(format!("invalid interface name {name}: at most 15 characters, no / % : or space"));
    }
    Ok(name.to_owned())
}

/// A namespace by its name, or by the id of a process.
fn namespace(text: &str) -> Result<NetworkNamespace, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let process = text.parse().ok().filter(|process| (1..=MAX_PROCESS).contains(process));
        return process
            .map(NetworkNamespace::OfProcess)
            .ok_or_else(|| format!("invalid process id {text} in netns="));
    }
    // A file in /run/netns.
    if text.is_empty() || text.len() > 255 || text.contains(['/', '\0']) || matches!(text, "." | "..") {
        return Err(format!(
            "invalid network namespace {text} (expected a name of `ip netns` or a process id)"
        ));
    }
    Ok(NetworkNamespace::Named(text.to_owned()))
}

/// An address, with or without a port.
fn tunnel_end(text: &str) -> Result<SocketAddr, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let end = match bare.parse::<IpAddr>() {
        Ok(address) => SocketAddr::new(address, vxlan::PORT),
        Err(_) => text
            .parse()
            .map_err(|_| format!("invalid address {text} (expected 192.0.2.7 or 192.0.2.7:4789)"))?,
    };
    if end.ip().is_unspecified() || end.ip().is_multicast() || end.port() == 0 {
        return Err(format!("{end} is not a unicast address with a port"));
    }
    Ok(end)
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tap { name, persist, to_host } => {
                write!(f, "tap:{name}{}", for_readers(*persist, *to_host))
            }
            Self::Veth { name, persist, to_host, netns } => {
                write!(f, "veth:{name}{}", for_readers(*persist, *to_host))?;
                netns.as_ref().map_or(Ok(()), |netns| write!(f, ",netns={netns}"))
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

/// The options of an interface that is made for readers.
fn for_readers(persist: bool, to_host: bool) -> &'static str {
    match (persist, to_host) {
        (false, false) => "",
        (true, false) => ",persist",
        (false, true) => ",to-host",
        (true, true) => ",persist,to-host",
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
            "veth:ids0",
            "veth:ids0,persist,to-host,netns=sensor-1",
            "veth:ids0,netns=4194304",
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
    fn a_tunnel_has_the_vxlan_port_by_default() {
        for text in ["vxlan:192.0.2.7", "vxlan:2001:db8::7", "vxlan:[2001:db8::7]"] {
            let Ok(Target::Vxlan { to, vni: None }) = text.parse() else { panic!("{text}") };
            assert_eq!(to.port(), 4789);
        }
    }

    #[test]
    fn invalid_target_error_gives_the_cause() {
        for (text, cause) in [
            ("ids0", "missing target type"),
            ("tun:ids0", "unknown target type tun"),
            ("tap:", "missing interface name"),
            ("tap:ids0,up", "unknown option up (expected `persist` or `to-host`)"),
            ("tap:a-name-of-16-char", "at most 15 characters"),
            ("veth:", "missing interface name"),
            ("veth:ids0,up", "unknown option up (expected `persist`, `to-host` or `netns=NAME|PID`)"),
            ("veth:ids0,netns=", "invalid network namespace"),
            ("veth:ids0,netns=../x", "invalid network namespace ../x"),
            ("veth:ids0,netns=0", "invalid process id 0"),
            ("veth:ids0,netns=99999999999", "invalid process id 99999999999"),
            ("dev:../x", "invalid interface name ../x"),
            ("dev:veth0,x", "unknown option x (expected none)"),
            ("vxlan:host", "invalid address host"),
            ("vxlan:224.0.0.1", "not a unicast address"),
            ("vxlan:192.0.2.7,vni=16777216", "0 to 16777215"),
            ("vxlan:192.0.2.7,ttl=5", "expected `vni=N`"),
            ("pcap-over-ip:127.0.0.1:5", "expected listen"),
            ("pcap-over-ip:listen=5", "neither an address with a port"),
            ("pcap-over-ip:listen=0.0.0.0:57012", "add `,allow-remote`"),
            ("pcap-over-ip:listen=127.0.0.1:5,mode=0660", "unknown option mode=0660"),
            ("pcap-over-ip:listen=/run/a,mode=0888", "invalid mode 0888"),
            ("pcap-over-ip:listen=/run/a,mode=1777", "invalid mode 1777"),
            ("pcap-over-ip:listen=/run/a,group=", "unknown option group="),
            ("pcap-over-ip:listen=/run/a,allow-remote", "unknown option allow-remote"),
            ("pcap-over-ip:listen=/run/", "not the path of a socket"),
            ("pcap-over-ip:connect=/run/a", "neither an address with a port"),
        ] {
            let error = text.parse::<Target>().expect_err(text).to_string();
            assert!(error.starts_with(text) && error.contains(cause), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_error_or_a_target_that_parses_back(
            kind in "(veth|tap|dev|vxlan|pcap-over-ip|pcap-over-ip:listen=/|)",
            rest in "(|[a-z/]{1,9},mode=0[0-7]{3},group=[a-z]{1,3}|[a-z]{1,3},netns=[0-9a-z./]{0,4}|\
                [:a-z0-9.,=\\[\\]%/ -]{0,40})",
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
