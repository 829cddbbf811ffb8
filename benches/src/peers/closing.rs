//! The counts that each tool prints when it ends.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::process::last_line;

/// Counts of a tool over its life.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Counts {
    /// Frames it received; for a tool that writes, those that it wrote.
    pub(super) received: u64,
    /// Frames that it reports as lost, if it does.
    pub(super) lost: Option<u64>,
}

/// tcpdump: `123 packets captured`, `0 packets dropped by kernel`.
pub(super) fn tcpdump(said: &str) -> Result<Counts> {
    let either = |many, one| before(said, many).or_else(|_| before(said, one));
    Ok(Counts {
        received: either(" packets captured", " packet captured")?,
        lost: Some(either(" packets dropped by kernel", " packet dropped by kernel")?),
    })
}

/// dumpcap: `Packets received/dropped on interface 'rx0': 123/4 (pcap:4/…)`.
pub(super) fn dumpcap(said: &str) -> Result<Counts> {
    let counts = said.lines().rev().find_map(|line| {
        let counts = line.strip_prefix("Packets received/dropped on interface ")?.split_once(": ")?.1;
        let (received, lost) = counts.split_ascii_whitespace().next()?.split_once('/')?;
        Some(Counts { received: received.parse().ok()?, lost: Some(lost.parse().ok()?) })
    });
    counts.with_context(|| unsaid("Packets received/dropped", said))
}

/// netsniff-ng: `123 packets incoming (4 unread on exit)`, where what the kernel dropped is among the unread.
pub(super) fn netsniff(said: &str) -> Result<Counts> {
    Ok(Counts {
        received: before(said, "  packets incoming")?,
        lost: Some(before(said, "  packets failed filter")?),
    })
}

/// Suricata's `stats.log`: `decoder.pkts | Total | 123`; counters that are 0 are left out.
pub(super) fn suricata(stats: &str) -> Result<Counts> {
    let counter = |name: &str| {
        // The last of several reports.
        stats.lines().rev().find_map(|line| {
            let mut columns = line.split('|').map(str::trim);
            if columns.next()? == name { columns.nth(1)?.parse().ok() } else { None }
        })
    };
    Ok(Counts {
        received: counter("decoder.pkts").with_context(|| unsaid("decoder.pkts", stats))?,
        lost: Some(counter("capture.kernel_drops").unwrap_or_default()),
    })
}

/// Our own report: the frames written by the last sink, because the counters are the first.
pub(super) fn mirror(report: &str) -> Result<Counts> {
    let Report { interfaces, sinks } = serde_json::from_str(report).context("its report")?;
    let received = sinks.last().context("its report has no sink")?.written;
    let queues = interfaces.iter().flat_map(|interface| &interface.queues);
    let kernel: u64 = queues.map(|queue| queue.rx_dropped + queue.rx_ring_full).sum();
    let dropped: u64 = sinks.iter().flat_map(|sink| sink.dropped.values()).sum();
    Ok(Counts { received, lost: Some(kernel + dropped) })
}

/// The part of `mirror.report/1` that is used here.
#[derive(Deserialize)]
struct Report {
    interfaces: Vec<Interface>,
    sinks: Vec<Sink>,
}

#[derive(Deserialize)]
struct Interface {
    queues: Vec<Queue>,
}

#[derive(Deserialize)]
struct Queue {
    rx_dropped: u64,
    rx_ring_full: u64,
}

#[derive(Deserialize)]
struct Sink {
    written: u64,
    dropped: BTreeMap<String, u64>,
}

/// The number right before the last occurrence of `words`.
fn before(said: &str, words: &str) -> Result<u64> {
    let number = said.lines().rev().find_map(|line| {
        let (number, _) = line.split_once(words)?;
        number.rsplit(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
    });
    number.with_context(|| unsaid(words.trim(), said))
}

fn unsaid(words: &str, said: &str) -> String {
    format!("expected \"{words}\" in its output, which ends: {}", last_line(said))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(received: u64, lost: u64) -> Counts {
        Counts { received, lost: Some(lost) }
    }

    #[test]
    fn tcpdump_4_99() {
        let said = "tcpdump: listening on rx0, link-type EN10MB (Ethernet), snapshot length 262144 bytes\n\
            1978370 packets captured\n2000000 packets received by filter\n21630 packets dropped by kernel\n";
        assert_eq!(tcpdump(said).unwrap(), counts(1_978_370, 21_630));
        let one = "1 packet captured\n1 packet received by filter\n0 packets dropped by kernel\n";
        assert_eq!(tcpdump(one).unwrap(), counts(1, 0));
    }

    #[test]
    fn dumpcap_4_0() {
        let said = "Capturing on 'rx0'\nFile: /dev/null\n\nPackets captured: 969694\n\
                    Packets received/dropped on interface 'rx0': 969694/30306 \
                    (pcap:30306/dumpcap:0/flushed:0/ps_ifdrop:0) (97.0%)\n";
        assert_eq!(dumpcap(said).unwrap(), counts(969_694, 30_306));
    }

    #[test]
    fn netsniff_ng_0_6_8() {
        let said = "Running! Hang up with ^C!\n\n\r\r      688878  packets incoming (311122 unread on exit)\n\
                    \r      688878  packets passed filter\n\
                    \r      311122  packets failed filter (out of space)\n\
                    \r     31.1122% packet droprate\n\r           1  sec, 327601 usec in total\n";
        assert_eq!(netsniff(said).unwrap(), counts(688_878, 311_122));
    }

    #[test]
    fn suricata_7_0() {
        let stats = "Counter                                       | TM Name                   | Value\n\
                     capture.kernel_packets                        | Total                     | 1000000\n\
                     capture.afpacket.polls                        | Total                     | 124\n\
                     decoder.pkts                                  | Total                     | 1000000\n\
                     decoder.bytes                                 | Total                     | 114000000\n";
        assert_eq!(suricata(stats).unwrap(), counts(1_000_000, 0));
        let dropped = "capture.kernel_drops                          | Total                     | 12\n";
        assert_eq!(suricata(&format!("{stats}{dropped}")).unwrap(), counts(1_000_000, 12));
    }

    #[test]
    fn a_report_of_ours_with_a_capture() {
        let report = r#"{"interfaces":[
                {"name":"rx0","queues":[{"queue":0,"rx_dropped":5,"rx_ring_full":475796}]}],
            "sinks":[{"name":"counters","written":524204,"dropped":{}},
                     {"name":"pcap","written":524200,"dropped":{"no_block":4}}]}"#;
        assert_eq!(mirror(report).unwrap(), counts(524_200, 475_805));
    }

    #[test]
    fn a_tool_without_counts_is_reported_with_its_last_line() {
        for parse in [tcpdump, dumpcap, netsniff, suricata] {
            let error = parse("first\nrx0: No such device exists\n\n").unwrap_err().to_string();
            assert!(error.contains("No such device exists"), "{error}");
        }
    }
}
