//! The ethtool commands, over SIOCETHTOOL, which every supported kernel and driver has, in the network
//! namespace of the thread that opened the socket. Netlink has no driver statistics and no driver name.

mod request;

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, OwnedFd},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use serde::{Deserialize, Serialize};

use request::Request;

// Command numbers and layouts: linux/ethtool.h.
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GRINGPARAM: u32 = 0x10;
const ETHTOOL_SRINGPARAM: u32 = 0x11;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSTATS: u32 = 0x1d;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_SFEATURES: u32 = 0x3b;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETHTOOL_SCHANNELS: u32 = 0x3d;
const ETHTOOL_GRSSH: u32 = 0x46;
const ETHTOOL_SRSSH: u32 = 0x47;
/// `ETH_RXFH_INDIR_NO_CHANGE`: only the key is set.
const TABLE_STAYS: u32 = u32::MAX;
/// Bytes of `struct ethtool_rxfh` before table and key.
const RXFH_HEADER: usize = 24;
const ETH_SS_STATS: u32 = 1;
const ETH_SS_FEATURES: u32 = 4;
const ETH_GSTRING_LEN: usize = 32;
/// How often a set is read again that had another size than just asked for.
const ATTEMPTS: usize = 4;

/// What a driver reports about itself.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DriverInfo {
    /// The driver's name, such as `ena`.
    pub name: String,
    /// Its version; drivers in the kernel's own tree give the kernel's release since 5.x, out-of-tree ENA
    /// `2.13.2g`.
    pub version: String,
    /// Where the device is, such as `0000:00:05.0`; empty for virtual ones.
    pub bus: String,
}

/// Channels: queues with an interrupt of their own.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Channels {
    /// Receive-only channels now.
    pub rx: u32,
    /// Transmit-only channels now.
    pub tx: u32,
    /// Channels of both directions now.
    pub combined: u32,
    /// The most receive-only channels.
    pub max_rx: u32,
    /// The most transmit-only channels.
    pub max_tx: u32,
    /// The most channels of both directions.
    pub max_combined: u32,
}

/// RX descriptors per ring.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Rings {
    /// RX descriptors a ring has now.
    pub rx: u32,
    /// The most it can have.
    pub max_rx: u32,
}

/// How receive-side scaling spreads flows over queues.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Rss {
    /// Which queue each hash value, modulo the table's length, goes to.
    pub table: Vec<u32>,
    /// The hash function's key, empty where the driver does not report it.
    #[serde(with = "hex")]
    pub key: Vec<u8>,
    /// Bits of the hash functions in use: 1 Toeplitz, 2 XOR, 4 CRC32 (`ETH_RSS_HASH_*`).
    pub function: u8,
}

/// An RSS key as `ethtool -x` prints it: bytes in hex with colons between them.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(key: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::hex_key(key))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::key_of_hex(&text).ok_or_else(|| Error::custom(format!("{text:?} is no RSS key")))
    }
}

/// A key as `ethtool -X IF hkey` takes it.
pub(crate) fn hex_key(key: &[u8]) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// The bytes of such a key.
pub(super) fn key_of_hex(text: &str) -> Option<Vec<u8>> {
    let bytes = text.split(':').filter(|byte| !byte.is_empty()).map(|byte| u8::from_str_radix(byte, 16));
    bytes.collect::<Result<_, _>>().ok()
}

/// A socket for requests to the driver of one interface.
#[derive(Debug)]
pub(super) struct Ethtool {
    socket: OwnedFd,
    name: String,
}

impl Ethtool {
    pub(super) fn open(name: &str) -> io::Result<Self> {
        let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        Ok(Self { socket, name: name.to_owned() })
    }

    fn send(&self, mut request: Request) -> io::Result<Request> {
        request.send(self.socket.as_fd(), &self.name)?;
        Ok(request)
    }

    /// `struct ethtool_drvinfo`.
    pub(super) fn driver(&self) -> io::Result<DriverInfo> {
        let answer = self.send(Request::new(ETHTOOL_GDRVINFO, 196)?)?;
        let text = |offset: usize| c_text(answer.bytes().get(offset..offset + 32).unwrap_or_default());
        Ok(DriverInfo { name: text(4), version: text(36), bus: text(100) })
    }

    /// `struct ethtool_channels`.
    pub(super) fn channels(&self) -> io::Result<Channels> {
        let answer = self.send(Request::new(ETHTOOL_GCHANNELS, 36)?)?;
        Ok(Channels {
            max_rx: answer.u32(4),
            max_tx: answer.u32(8),
            max_combined: answer.u32(16),
            rx: answer.u32(20),
            tx: answer.u32(24),
            combined: answer.u32(32),
        })
    }

    /// Changes the channels in use; what is not changed stays.
    pub(super) fn set_channels(&self, change: impl FnOnce(&mut Channels)) -> io::Result<()> {
        let before = self.channels()?;
        let mut now = before;
        change(&mut now);
        let mut request = self.send(Request::new(ETHTOOL_GCHANNELS, 36)?)?;
        request.set_u32(0, ETHTOOL_SCHANNELS);
        for (offset, value) in [(20, now.rx), (24, now.tx), (32, now.combined)] {
            request.set_u32(offset, value);
        }
        self.send(request).map(drop)
    }

    /// Changes the descriptors of RX rings.
    pub(super) fn set_rx_ring(&self, descriptors: u32) -> io::Result<()> {
        let mut request = self.send(Request::new(ETHTOOL_GRINGPARAM, 36)?)?;
        request.set_u32(0, ETHTOOL_SRINGPARAM);
        request.set_u32(20, descriptors);
        self.send(request).map(drop)
    }

    /// Changes the key of the hash, and leaves table and function as they are.
    pub(super) fn set_rss_key(&self, key: &[u8]) -> io::Result<()> {
        let mut request = Request::new(ETHTOOL_SRSSH, RXFH_HEADER + key.len())?;
        request.set_u32(8, TABLE_STAYS);
        request.set_u32(12, count(key.len()));
        request.set_bytes(RXFH_HEADER, key);
        self.send(request).map(drop)
    }

    /// `struct ethtool_ringparam`.
    pub(super) fn rings(&self) -> io::Result<Rings> {
        let answer = self.send(Request::new(ETHTOOL_GRINGPARAM, 36)?)?;
        Ok(Rings { max_rx: answer.u32(4), rx: answer.u32(20) })
    }

    /// `struct ethtool_rxfh`: table, then key, behind 24 bytes.
    pub(super) fn rss(&self) -> io::Result<Rss> {
        let sizes = self.send(Request::new(ETHTOOL_GRSSH, RXFH_HEADER)?)?;
        let (entries, key) = (sizes.u32(8), sizes.u32(12));
        let table_bytes = bounded(entries, 4)?;
        let mut request = Request::new(ETHTOOL_GRSSH, RXFH_HEADER + table_bytes + bounded(key, 1)?)?;
        request.set_u32(8, entries);
        request.set_u32(12, key);
        let answer = self.send(request)?;
        let config = answer.bytes().get(RXFH_HEADER..).unwrap_or_default();
        let (table, key) = config.split_at_checked(table_bytes).unwrap_or_default();
        let table = table.chunks_exact(4).filter_map(|entry| entry.try_into().ok()).map(u32::from_ne_bytes);
        let function = answer.bytes().get(16).copied().unwrap_or_default();
        Ok(Rss { table: table.collect(), key: key.to_vec(), function })
    }

    /// The driver's own counters by name, as `ethtool -S` lists them; none where it has none.
    pub(super) fn statistics(&self) -> io::Result<Vec<(String, u64)>> {
        self.steady(|| {
            let names = self.strings(ETH_SS_STATS)?;
            if names.is_empty() {
                return Ok(Some(Vec::new()));
            }
            let mut request = Request::new(ETHTOOL_GSTATS, 8 + names.len() * 8)?;
            request.set_u32(4, count(names.len()));
            let answer = self.send(request)?;
            if answer.u32(4) != count(names.len()) {
                return Ok(None);
            }
            let values = answer.bytes().get(8..).unwrap_or_default().chunks_exact(8);
            let values = values.filter_map(|value| value.try_into().ok()).map(u64::from_ne_bytes);
            // vmxnet3 indents its names.
            let names = names.into_iter().map(|name| name.trim().to_owned());
            Ok(Some(names.zip(values).collect()))
        })
    }

    /// Offloads and other switches by name, as `ethtool -k` lists them (in the kernel's own names).
    pub(super) fn features(&self) -> io::Result<BTreeMap<String, bool>> {
        let names = self.steady(|| self.strings(ETH_SS_FEATURES).map(Some))?;
        let blocks = names.len().div_ceil(32);
        let mut request = Request::new(ETHTOOL_GFEATURES, 8 + blocks * 16)?;
        request.set_u32(4, count(blocks));
        let answer = self.send(request)?;
        // Each block: available, requested, active, never changed.
        let active = |bit: usize| answer.u32(8 + bit / 32 * 16 + 8) & (1 << (bit % 32)) != 0;
        let named = names.into_iter().enumerate().filter(|(_, name)| !name.is_empty());
        Ok(named.map(|(bit, name)| (name, active(bit))).collect())
    }

    /// Turns off what makes frames differ from those that were sent: segmentation, aggregation and checksum
    /// offloads, as far as the driver lets them be changed.
    pub(super) fn offloads_off(&self) -> io::Result<()> {
        self.set_features(changes_frames, false)
    }

    /// Switches one feature, by the kernel's name.
    pub(super) fn set_feature(&self, name: &str, on: bool) -> io::Result<()> {
        self.set_features(|other| other == name, on)?;
        match self.features()?.get(name) {
            Some(now) if *now == on => Ok(()),
            // The kernel takes the request as a wish.
            _ => Err(io::Error::other("the driver does not let it be changed")),
        }
    }

    fn set_features(&self, meant: impl Fn(&str) -> bool, on: bool) -> io::Result<()> {
        let names = self.steady(|| self.strings(ETH_SS_FEATURES).map(Some))?;
        let blocks = names.len().div_ceil(32);
        let mut request = Request::new(ETHTOOL_SFEATURES, 8 + blocks * 8)?;
        request.set_u32(4, count(blocks));
        for (bit, _) in names.iter().enumerate().filter(|(_, name)| meant(name)) {
            // Each block: which bits are meant, and their new values.
            let block = 8 + bit / 32 * 8;
            let mask = 1 << (bit % 32);
            request.set_u32(block, request.u32(block) | mask);
            if on {
                request.set_u32(block + 4, request.u32(block + 4) | mask);
            }
        }
        self.send(request).map(drop)
    }

    /// A string set as it is at this moment.
    fn strings(&self, set: u32) -> io::Result<Vec<String>> {
        let mut request = Request::new(ETHTOOL_GSSET_INFO, 20)?;
        // A mask of 64 bits in host order: the low half comes first on little-endian hosts only.
        request.set_u32(if cfg!(target_endian = "little") { 8 } else { 12 }, 1 << set);
        let answer = self.send(request)?;
        let has_set = answer.u32(8) | answer.u32(12) != 0;
        let length = if has_set { answer.u32(16) } else { 0 };
        if length == 0 {
            return Ok(Vec::new());
        }
        let mut request = Request::new(ETHTOOL_GSTRINGS, 12 + bounded(length, ETH_GSTRING_LEN)?)?;
        request.set_u32(4, set);
        request.set_u32(8, length);
        let answer = self.send(request)?;
        if answer.u32(8) != length {
            return Err(io::Error::from_raw_os_error(libc::EFAULT));
        }
        let strings = answer.bytes().get(12..).unwrap_or_default().chunks_exact(ETH_GSTRING_LEN);
        Ok(strings.map(c_text).collect())
    }

    /// Tries again while a set changes size between asking for its size and reading it: `None`, or EFAULT
    /// from an answer that met the end of the request.
    fn steady<T>(&self, mut attempt: impl FnMut() -> io::Result<Option<T>>) -> io::Result<T> {
        for _ in 0..ATTEMPTS {
            match attempt() {
                Ok(Some(value)) => return Ok(value),
                Ok(None) => {}
                Err(error) if error.raw_os_error() == Some(libc::EFAULT) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other(format!(
            "{}'s counters changed each of {ATTEMPTS} times they were read",
            self.name
        )))
    }
}

/// Bytes of `count` elements, refusing what no driver has.
fn bounded(count: u32, size: usize) -> io::Result<usize> {
    const MOST: u32 = 1 << 20;
    match usize::try_from(count) {
        Ok(elements) if count <= MOST => Ok(elements * size),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("the driver reports {count} entries"))),
    }
}

/// Whether a feature of this name joins or splits frames, or leaves checksums to the device
/// (`net/ethtool/common.c`).
fn changes_frames(name: &str) -> bool {
    let is_any = |words: &[&str]| words.iter().any(|word| name.contains(word));
    is_any(&["segmentation", "-gso", "-gro", "-lro", "-checksum"])
}

/// A length that came from the kernel as a `u32`.
fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// The text up to the first NUL, if any.
fn c_text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
