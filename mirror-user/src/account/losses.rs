//! Frames lost before a worker received them, in the two numbers of tcpdump's closing lines.

use super::report::{ForwardPathReport, InterfaceReport, Report};

/// Standard counters of frames that a driver or NIC lost or refused, none of which is part of another
/// (`Documentation/networking/statistics.rst`). `rx_missed_errors` and `rx_fifo_errors` are what libpcap
/// reads for tcpdump's "dropped by interface"; `rx_errors` holds `rx_crc_errors`, `rx_length_errors` and
/// their like.
const BEFORE_THE_PROGRAM: [&str; 3] = ["rx_missed_errors", "rx_fifo_errors", "rx_errors"];

impl Report {
    /// Frames that the XDP programs forwarded, which are in no count of [`Report::frames`].
    #[must_use]
    pub fn forwarded_by_kernel(&self) -> u64 {
        self.interfaces.iter().map(|interface| interface.xdp.forwarded).sum()
    }

    /// Frames that the XDP programs were to forward, and that the target has not taken.
    #[must_use]
    pub fn not_sent_by_kernel(&self) -> u64 {
        self.interfaces.iter().map(InterfaceReport::not_sent).sum()
    }

    /// Frames that the kernel lost between the XDP program and the workers: ring full, UMEM full, too large
    /// for a chunk, redirect failed.
    #[must_use]
    pub fn dropped_by_kernel(&self) -> u64 {
        self.interfaces.iter().map(InterfaceReport::dropped_by_kernel).sum()
    }

    /// Frames that the interfaces lost before the XDP program saw them, as far as their counters show.
    #[must_use]
    pub fn dropped_by_interface(&self) -> u64 {
        self.interfaces.iter().map(InterfaceReport::dropped_by_interface).sum()
    }
}

impl InterfaceReport {
    /// Frames that the XDP program was to forward, and that the target has not taken.
    #[must_use]
    pub fn not_sent(&self) -> u64 {
        self.xdp.dropped.no_target + self.forward_path.as_ref().map_or(0, ForwardPathReport::not_sent)
    }

    /// See [`Report::dropped_by_kernel`].
    #[must_use]
    pub fn dropped_by_kernel(&self) -> u64 {
        let rings: u64 = self.queues.iter().map(|queue| queue.rx_dropped + queue.rx_ring_full).sum();
        rings + self.xdp.redirect_failed.unwrap_or(0)
    }

    /// Frames that workers had taken when their process was killed, and of which nothing else is known.
    #[must_use]
    pub fn lost_at_restart(&self) -> u64 {
        self.queues.iter().map(|queue| queue.lost_at_restart).sum()
    }

    /// See [`Report::dropped_by_interface`].
    ///
    /// `rx_dropped` counts frames for which the driver had no memory, which are meant here; but with many
    /// drivers also frames that the program dropped or a ring refused (veth, virtio), and passed frames for
    /// which the stack had no protocol. These are counted elsewhere, so only what exceeds them is counted
    /// here. The driver's own counters repeat the standard ones under other names, and are not counted.
    #[must_use]
    pub fn dropped_by_interface(&self) -> u64 {
        let counter = |name: &str| self.nic.get(name).copied().unwrap_or(0);
        let certain: u64 = BEFORE_THE_PROGRAM.iter().map(|name| counter(name)).sum();
        let judged = self.xdp.dropped.refused() + self.xdp.passed.total();
        let known = self.dropped_by_kernel() + judged + self.not_sent();
        certain + counter("rx_dropped").saturating_sub(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{QueueReport, XdpReport};

    fn interface(nic: &[(&str, u64)]) -> InterfaceReport {
        InterfaceReport {
            nic: nic.iter().map(|&(name, count)| (name.to_owned(), count)).collect(),
            ..InterfaceReport::default()
        }
    }

    #[test]
    fn frames_that_a_driver_drops_before_the_program_are_counted_once() {
        // virtio before 6.6 at an MTU of 3700.
        let dropped =
            interface(&[("rx_dropped", 1000), ("rx_queue_0_drops", 1000), ("rx_queue_0_xdp_drops", 1000)]);
        assert_eq!(dropped.dropped_by_interface(), 1000);
        let errors =
            interface(&[("rx_errors", 1000), ("rx_crc_errors", 10), ("err", 1000), ("rx_missed_errors", 5)]);
        assert_eq!(errors.dropped_by_interface(), 1005);
    }

    #[test]
    fn frames_that_rings_or_program_dropped_are_not_counted_twice() {
        let mut full = interface(&[("rx_dropped", 700), ("rx_queue_0_drops", 700)]);
        full.queues = vec![QueueReport { rx_ring_full: 500, rx_dropped: 100, ..QueueReport::default() }];
        full.xdp = XdpReport { redirect_failed: Some(30), ..XdpReport::default() };
        full.xdp.dropped.vni = 50;
        full.xdp.passed.not_tunnel = 15;
        assert_eq!((full.dropped_by_kernel(), full.dropped_by_interface()), (630, 5));
        full.xdp.passed.not_tunnel = 1_000_000;
        assert_eq!(full.dropped_by_interface(), 0);
    }
}
