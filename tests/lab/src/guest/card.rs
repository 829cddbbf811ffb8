//! The NIC under test, and the one that sends frames, in its own namespace.

use std::{fs, path::Path, process::Command, thread, time::Duration};

use super::plan::{Card, Cell};
use crate::{
    command::{run, words},
    error::{LabError, Result},
    interface_counters::InterfaceCounters,
    namespace::Namespace,
};

/// One end of the veth, as the host of `mirror` has it, and the other.
const VETH: [&str; 2] = ["dv0", "sv0"];
/// Time between two checks of a NIC.
const PAUSE: Duration = Duration::from_millis(100);
/// How often a NIC is checked before its link counts as missing.
const LOOKS: u32 = 100;
/// Some drivers take their link down a moment after a program or a setting came.
const MOMENT: Duration = Duration::from_millis(300);

/// A card ready for a run.
#[derive(Debug)]
pub(super) struct Raised {
    pub(super) interface: String,
    /// Whether it is a card of QEMU's, with a source that is one, and not a veth.
    pub(super) is_wired: bool,
    pub(super) hardware_address: [u8; 6],
    pub(super) source_namespace: Namespace,
    pub(super) source: String,
}

/// `ip` with these arguments, in the guest's own namespace.
pub(super) fn ip(arguments: &str) -> Result<String> {
    run(Command::new("ip").args(words(arguments)))
}

impl Raised {
    /// Makes or finds the card, with MTU and channels as the cell wants them, and waits for its link.
    pub(super) fn raise(cell: &Cell) -> Result<Self> {
        for prepared in &cell.prepare {
            // It is there from an earlier cell, else the run itself says so.
            let _there_already = ip(prepared);
        }
        let card = match cell.card {
            Card::Veth(queues) => veth(VETH, queues)?,
            Card::Number(number) => wired(number)?,
        };
        if let Some(channels) = cell.channels {
            ethtool_channels(&card.interface, channels)?;
        }
        card.up(cell.mtu)?;
        Ok(card)
    }

    /// A veth with one queue and the usual MTU.
    pub(super) fn plain_veth() -> Result<Self> {
        Self::named_veth(VETH)
    }

    /// The same by these names, of the end for `mirror` and of the other.
    pub(super) fn named_veth(names: [&str; 2]) -> Result<Self> {
        let card = veth(names, 1)?;
        card.up(1_500)?;
        Ok(card)
    }

    fn up(&self, mtu: u32) -> Result<()> {
        self.source_namespace.ip(&format!("link set dev {} mtu {mtu} up", self.source))?;
        ip(&format!("link set dev {} mtu {mtu} up", self.interface))?;
        thread::sleep(MOMENT);
        self.wait_for_carrier()
    }

    /// Waits until frames can cross the link.
    pub(super) fn wait_for_carrier(&self) -> Result<()> {
        let file = Path::new("/sys/class/net").join(&self.interface).join("carrier");
        for look in 0..LOOKS {
            if fs::read_to_string(&file).is_ok_and(|carrier| carrier.trim() == "1") {
                // The other side of a link that has just come up may need a moment.
                thread::sleep(if look == 0 { Duration::ZERO } else { MOMENT * 2 });
                return Ok(());
            }
            thread::sleep(PAUSE);
        }
        Err(LabError::Unexpected(format!("{} has no carrier", self.interface)))
    }

    /// Packets received, as the interface counts them; none where it is gone.
    pub(super) fn rx_packets(&self) -> Option<u64> {
        let file = Path::new("/sys/class/net").join(&self.interface).join("statistics/rx_packets");
        fs::read_to_string(file).ok()?.trim().parse().ok()
    }

    /// Frames that the source's card has sent.
    pub(super) fn source_sent(&self) -> Result<u64> {
        Ok(InterfaceCounters::read(&self.source_namespace, &self.source)?.tx_packets)
    }

    /// Whether an XDP program is on it.
    pub(super) fn has_program(&self) -> bool {
        ip(&format!("-json link show dev {}", self.interface)).is_ok_and(|shown| shown.contains("\"xdp\""))
    }
}

fn veth([interface, source]: [&str; 2], queues: u32) -> Result<Raised> {
    let namespace = namespace("veth")?;
    // One that an earlier cell had may have other queues, or only one end left.
    let _not_there = ip(&format!("link delete dev {interface}"));
    let queues = format!("numrxqueues {queues} numtxqueues {queues}");
    ip(&format!(
        "link add {interface} {queues} type veth peer name {source} netns {} {queues}",
        namespace.name()
    ))?;
    found(interface.to_owned(), source.to_owned(), namespace, false)
}

fn wired(number: u8) -> Result<Raised> {
    let address = |side: u8| format!("52:54:00:00:{side:02x}:{number:02x}");
    let interface = by_address(&ip("-brief link show")?, &address(0))
        .ok_or_else(|| LabError::Unexpected(format!("no card {}: its driver is missing", address(0))))?;
    let namespace = namespace(&format!("card{number}"))?;
    if let Some(source) = by_address(&ip("-brief link show")?, &address(1)) {
        ip(&format!("link set dev {source} netns {}", namespace.name()))?;
    }
    let source = by_address(&namespace.ip("-brief link show")?, &address(1))
        .ok_or_else(|| LabError::Unexpected(format!("no card {} to send from", address(1))))?;
    found(interface, source, namespace, true)
}

fn found(interface: String, source: String, source_namespace: Namespace, is_wired: bool) -> Result<Raised> {
    let file = Path::new("/sys/class/net").join(&interface).join("address");
    let text = fs::read_to_string(&file).map_err(|error| LabError::file(&file, error))?;
    let hardware_address = hardware_address(text.trim())
        .ok_or_else(|| LabError::Unexpected(format!("{}: {text}", file.display())))?;
    Ok(Raised { interface, is_wired, hardware_address, source_namespace, source })
}

fn namespace(role: &str) -> Result<Namespace> {
    let name = format!("guest-{role}");
    let there = Namespace::existing(&name);
    if there.path().exists() { Ok(there) } else { Namespace::create(&name) }
}

/// The name of the interface with this hardware address in what `ip -brief link` lists.
fn by_address(listed: &str, address: &str) -> Option<String> {
    listed.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let name = fields.next()?;
        (fields.nth(1)? == address).then(|| name.split('@').next().unwrap_or(name).to_owned())
    })
}

fn hardware_address(text: &str) -> Option<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    bytes?.try_into().ok()
}

/// ethtool calls a setting that is in force already an error.
fn ethtool_channels(interface: &str, wanted: u32) -> Result<()> {
    let shown = run(Command::new("ethtool").args(["-l", interface]))?;
    if combined_now(&shown) == Some(wanted) {
        return Ok(());
    }
    run(Command::new("ethtool").args(["-L", interface, "combined", &wanted.to_string()])).map(drop)
}

/// The current setting is the second that `ethtool -l` prints, after the maximum.
fn combined_now(shown: &str) -> Option<u32> {
    let mut values = shown.lines().filter_map(|line| line.strip_prefix("Combined:"));
    values.nth(1)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_found_by_their_address() {
        let listed = "lo               UNKNOWN        00:00:00:00:00:00 <LOOPBACK,UP,LOWER_UP> \n\
                      eth3             DOWN           52:54:00:00:00:02 <BROADCAST,MULTICAST> \n\
                      sv0@if4          UP             52:54:00:00:01:02 <BROADCAST,MULTICAST,UP> \n";
        assert_eq!(by_address(listed, "52:54:00:00:00:02").as_deref(), Some("eth3"));
        assert_eq!(by_address(listed, "52:54:00:00:01:02").as_deref(), Some("sv0"));
        assert_eq!(by_address(listed, "52:54:00:00:00:03"), None);
        assert_eq!(hardware_address("52:54:00:00:00:0a"), Some([0x52, 0x54, 0, 0, 0, 10]));
        assert_eq!(hardware_address("52:54"), None);
    }

    #[test]
    fn current_channels_are_distinguished_from_the_maximum() {
        let shown = "Channel parameters for eth0:\nPre-set maximums:\nRX:\t\tn/a\nCombined:\t4\n\
            Current hardware settings:\nRX:\t\tn/a\nCombined:\t2\n";
        assert_eq!(combined_now(shown), Some(2));
        assert_eq!(combined_now("netlink error: Operation not supported"), None);
    }
}
