//! Frames for tests of sinks: Ethernet, IPv4, UDP, VXLAN, inner bytes.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, mpsc},
};

use mirror_lab::frames;

use super::{Sink, SinkError};
use crate::{
    frame::{Batch, Captured, Frame, Headers, Layout, MAX_BATCH, Network, Oddities},
    mirroring::{Mirroring, SessionTable},
};

/// An outer frame, with the fields that its layout needs.
#[derive(Clone, Debug)]
pub(crate) struct Outer {
    bytes: Vec<u8>,
    vni: u32,
    time: u64,
    /// Truncated inner bytes.
    cut: u32,
}

/// Ethernet, IPv4 without options, UDP, VXLAN.
pub(crate) const OVERHEAD: usize = frames::ENCAPSULATION;

impl Outer {
    pub(crate) fn new(source: [u8; 4], vni: u32, inner: &[u8]) -> Self {
        let outer = frames::Outer::sample(vni).between(source, [10, 255, 255, 254]);
        let bytes = outer.encapsulate(inner).expect("a VNI and an inner frame that fit");
        Self { bytes, vni, time: 0, cut: 0 }
    }

    pub(crate) fn at(mut self, time: u64) -> Self {
        self.time = time;
        self
    }

    pub(crate) fn cut_by(mut self, bytes: u32) -> Self {
        self.cut = bytes;
        self
    }

    pub(crate) fn vni(&self) -> u32 {
        self.vni
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn inner(&self) -> &[u8] {
        &self.bytes[OVERHEAD..]
    }

    pub(crate) fn captured(&self) -> Captured<'_> {
        let wire_len = u32::try_from(self.bytes.len()).expect("a frame's length");
        Captured::new(&self.bytes, wire_len, self.time)
    }

    pub(crate) fn frame(&self) -> Frame<'_> {
        let captured = self.captured();
        let layout = Layout {
            vni: self.vni,
            inner_len: captured.wire_len() - 50,
            wire_len: captured.wire_len() - 50 + self.cut,
            inner_start: 50,
            odd: Oddities::NONE,
            headers: Headers::new(Network::Ipv4 { at: 14 }, 34),
        };
        Frame::new(captured, layout)
    }
}

/// `tms-1` has VNI 7, the name `web 1` and the source `eni-1` with the MAC address 02:02:02:02:02:02;
/// `tms-2` has VNI 9.
pub(crate) fn sessions() -> Arc<SessionTable> {
    const SET_UP: &str = r#"{
        "TrafficMirrorTargets": [{"TrafficMirrorTargetId": "tmt-1", "NetworkInterfaceId": "eni-9"}],
        "TrafficMirrorFilters": [{"TrafficMirrorFilterId": "tmf-1"}],
        "TrafficMirrorSessions": [
            {"TrafficMirrorSessionId": "tms-1", "TrafficMirrorTargetId": "tmt-1", "SessionNumber": 1,
                "TrafficMirrorFilterId": "tmf-1", "NetworkInterfaceId": "eni-1", "VirtualNetworkId": 7,
                "OwnerId": "111122223333", "Tags": [{"Key": "Name", "Value": "web 1"}]},
            {"TrafficMirrorSessionId": "tms-2", "TrafficMirrorTargetId": "tmt-1", "SessionNumber": 2,
                "TrafficMirrorFilterId": "tmf-1", "NetworkInterfaceId": "eni-1", "VirtualNetworkId": 9}],
        "NetworkInterfaces": [{"NetworkInterfaceId": "eni-1", "MacAddress": "02:02:02:02:02:02"}]
    }"#;
    let all = Mirroring::read([("set-up", SET_UP)]).expect("a valid set-up");
    Arc::new(all.session_table())
}

/// Offers frames in batches, as a worker does.
pub(crate) fn offer(sink: &mut dyn Sink, frames: &[Outer]) -> Result<(), SinkError> {
    let frames: Vec<_> = frames.iter().map(Outer::frame).collect();
    frames.chunks(MAX_BATCH).try_for_each(|frames| sink.batch(&Batch::new(0, frames)))
}

/// A writer that blocks until it is released.
#[derive(Debug)]
pub(crate) struct Gate {
    released: mpsc::Receiver<()>,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Gate {
    /// The gate, the sender that releases it when dropped, and the bytes written.
    pub(crate) fn new() -> (Self, mpsc::Sender<()>, Arc<Mutex<Vec<u8>>>) {
        let (release, released) = mpsc::channel();
        let bytes = Arc::<Mutex<_>>::default();
        (Self { released, bytes: Arc::clone(&bytes) }, release, bytes)
    }
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Returns when the sender is dropped.
        self.released.recv().expect_err("nobody sends");
        self.bytes.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
