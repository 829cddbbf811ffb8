//! Counters of an interface, and which of them count frames that never reached the XDP program.

use std::collections::BTreeMap;

/// `struct rtnl_link_stats64` of `linux/if_link.h`, in its sequence; kernels append to it.
const STANDARD: [&str; 25] = [
    "rx_packets",
    "tx_packets",
    "rx_bytes",
    "tx_bytes",
    "rx_errors",
    "tx_errors",
    "rx_dropped",
    "tx_dropped",
    "multicast",
    "collisions",
    "rx_length_errors",
    "rx_over_errors",
    "rx_crc_errors",
    "rx_frame_errors",
    "rx_fifo_errors",
    "rx_missed_errors",
    "tx_aborted_errors",
    "tx_carrier_errors",
    "tx_fifo_errors",
    "tx_heartbeat_errors",
    "tx_window_errors",
    "rx_compressed",
    "tx_compressed",
    "rx_nohandler",
    "rx_otherhost_dropped",
];

/// Words in the names drivers give to counters of frames lost or handled by XDP. ENA's
/// `pps_allowance_exceeded`, `bw_in_allowance_exceeded` and `conntrack_allowance_exceeded` count what
/// exceeded the instance type's limits; its `rx_overruns` and `empty_rx_ring` what the host was too slow for.
/// `OOB` is vmxnet3's "out of buffers".
const LOSS_WORDS: [&str; 10] =
    ["drop", "discard", "err", "miss", "overrun", "exceed", "xdp", "fail", "empty_rx_ring", "OOB"];

/// Whether a counter belongs in a report about loss on receive.
#[must_use]
pub fn is_loss_counter(name: &str) -> bool {
    let transmit =
        name.starts_with("tx_") || name.contains(" tx ") || (name.contains("_tx_") && !name.contains("xdp"));
    !transmit && LOSS_WORDS.iter().any(|word| name.contains(word))
}

/// Deltas of the loss counters, and of `rx_packets`, between two readings.
///
/// A counter of one queue is listed only if it changed, those of the whole interface always. A counter that
/// decreased (the driver was reset) counts from zero.
#[must_use]
pub fn loss_deltas(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let reported = after.iter().filter(|(name, _)| *name == "rx_packets" || is_loss_counter(name));
    let deltas = reported.map(|(name, &now)| {
        let then = before.get(name).copied().unwrap_or(0);
        (name, now.checked_sub(then).unwrap_or(now))
    });
    deltas
        .filter(|(name, delta)| *delta > 0 || !of_one_queue(name))
        .map(|(name, delta)| (name.clone(), delta))
        .collect()
}

/// `queue_3_rx_drops`, `rx_queue_0_xdp_drops`, `rx0_xdp_drops`.
fn of_one_queue(name: &str) -> bool {
    name.split('_')
        .any(|word| word == "queue" || word.trim_start_matches(char::is_alphabetic).parse::<u32>().is_ok())
}

/// Names for the values of `IFLA_STATS64`; what a newer kernel appends has no name here.
pub(super) fn standard(values: &[u8]) -> BTreeMap<String, u64> {
    let values = values.chunks_exact(8).filter_map(|value| value.try_into().ok()).map(u64::from_ne_bytes);
    STANDARD.iter().map(|&name| name.to_owned()).zip(values).collect()
}

/// Adds the driver's own counters. One with a standard name is listed as `driver_<name>`, because it may
/// count something else.
pub(super) fn add_driver(all: &mut BTreeMap<String, u64>, own: Vec<(String, u64)>) {
    for (name, value) in own {
        let name = if STANDARD.contains(&name.as_str()) { format!("driver_{name}") } else { name };
        *all.entry(name).or_default() += value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_counters_of_common_drivers_are_reported() {
        for name in [
            "rx_dropped",
            "rx_missed_errors",
            "rx_overruns",
            "pps_allowance_exceeded",
            "bw_in_allowance_exceeded",
            "bw_out_allowance_exceeded",
            "conntrack_allowance_exceeded",
            "queue_0_rx_xdp_drop",
            "queue_0_rx_xdp_aborted",
            "queue_0_rx_xdp_redirect",
            "queue_0_rx_page_alloc_fail",
            "queue_0_rx_empty_rx_ring",
            "rx_queue_0_xdp_drops",
            "rx_queue_0_drops",
            "rx0_xdp_redirects",
            "pkts rx OOB",
            "pkts rx err",
            "drv dropped rx total",
        ] {
            assert!(is_loss_counter(name), "{name}");
        }
    }

    #[test]
    fn counters_of_other_things_than_loss_on_receive_are_left_out() {
        for name in [
            "tx_errors",
            "tx_dropped",
            "queue_0_tx_missed_tx",
            "rx_bytes",
            "multicast",
            "peer_ifindex",
            "pkts tx discard",
        ] {
            assert!(!is_loss_counter(name), "{name}");
        }
    }

    #[test]
    fn deltas_leave_out_queues_where_nothing_happened_and_survive_a_reset() {
        let reading = |pairs: &[(&str, u64)]| pairs.iter().map(|&(n, v)| (n.to_owned(), v)).collect();
        let before =
            reading(&[("rx_packets", 10), ("rx_dropped", 3), ("rx_overruns", 9), ("rx_queue_0_drops", 1)]);
        let after = reading(&[
            ("rx_packets", 15),
            ("rx_bytes", 999),
            ("rx_dropped", 3),
            ("rx_overruns", 2),
            ("rx_queue_0_drops", 1),
            ("rx_queue_1_drops", 4),
        ]);
        let expected =
            reading(&[("rx_packets", 5), ("rx_dropped", 0), ("rx_overruns", 2), ("rx_queue_1_drops", 4)]);
        assert_eq!(loss_deltas(&before, &after), expected);
    }

    #[test]
    fn a_kernel_may_know_fewer_or_more_standard_counters() {
        let values: Vec<u8> = (1..=23u64).flat_map(u64::to_ne_bytes).collect();
        let named = standard(&values);
        assert_eq!((named.len(), named["rx_packets"], named["tx_compressed"]), (23, 1, 23));
        let values: Vec<u8> = (1..=30u64).flat_map(u64::to_ne_bytes).collect();
        assert_eq!(standard(&values).len(), STANDARD.len());
    }

    #[test]
    fn a_driver_counter_with_a_standard_name_is_reported_beside_it() {
        let mut all = BTreeMap::from([("rx_packets".to_owned(), 5)]);
        add_driver(&mut all, vec![("rx_packets".to_owned(), 7), ("rx_overruns".to_owned(), 1)]);
        assert_eq!((all["rx_packets"], all["driver_rx_packets"], all["rx_overruns"]), (5, 7, 1));
    }
}
