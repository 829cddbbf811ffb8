//! An independent mirror source: a host whose traffic `tc mirred` copies to the kernel's VXLAN device.
//!
//! ```text
//!  client            source host                                  target
//!  eth0 ───────────► eth0  HTTP server                            eth0 ◄── capture here
//!  10.77.1.2         10.77.1.1 ── tc mirred ──► vxlan0 ─► up0 ───► 10.77.2.2
//!                                               10.77.2.1
//! ```

use std::net::{Ipv4Addr, SocketAddr};

use crate::{
    error::Result,
    frames::VXLAN_PORT,
    http::{Exchange, HttpServer, exchange},
    lab::Lab,
    namespace::Namespace,
    veth::{VethEnd, VethOptions, VethPair},
};

/// Outer source of what is mirrored.
pub const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 1);
/// Outer destination.
pub const TARGET: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 2);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 2);
const HTTP_PORT: u16 = 80;
/// The interface that is mirrored, and the one that captures.
const INTERFACE: &str = "eth0";

/// How the source mirrors.
#[derive(Clone, Debug)]
#[must_use]
pub struct MirrorSourceOptions {
    /// The session's VNI.
    pub vni: u32,
    /// Whether the mirrored link keeps its offloads. Then the kernel mirrors super-frames and unfinished
    /// checksums, and the target receives other frames than those on the link.
    pub offloads: bool,
    /// RX queues of the capture interface.
    pub queues: u32,
    /// MTU of the way to the target: 1600 holds a full frame with its encapsulation; 1500 does not, so that
    /// the VXLAN device drops or the kernel fragments what is too long.
    pub underlay_mtu: u32,
}

impl Default for MirrorSourceOptions {
    /// VNI 12345, offloads off, one queue, MTU 1600.
    fn default() -> Self {
        Self { vni: 12345, offloads: false, queues: 1, underlay_mtu: 1600 }
    }
}

/// A running source with its server, its client and its target. It must be dropped before its [`Lab`].
#[derive(Debug)]
pub struct MirrorSource {
    client: Namespace,
    source: Namespace,
    target: Namespace,
    server: HttpServer,
}

impl MirrorSource {
    /// Builds it in the lab: namespaces `client`, `source` and `target`.
    ///
    /// # Errors
    ///
    /// Whatever the host refuses, with the command.
    pub fn raise(lab: &Lab, options: &MirrorSourceOptions) -> Result<Self> {
        let MirrorSourceOptions { vni, offloads, queues, underlay_mtu } = *options;
        let (client, source, target) =
            (lab.namespace("client")?, lab.namespace("source")?, lab.namespace("target")?);
        let link = VethPair::create(
            VethEnd::new(&client, INTERFACE),
            VethEnd::new(&source, INTERFACE),
            &VethOptions { mtu: 1500, queues: 1, offloads },
        )?;
        let underlay = VethPair::create(
            VethEnd::new(&source, "up0"),
            VethEnd::new(&target, INTERFACE),
            &VethOptions { mtu: underlay_mtu, queues, offloads },
        )?;
        link.a.address(&format!("{CLIENT}/24"))?;
        link.b.address(&format!("{SERVER}/24"))?;
        underlay.a.address(&format!("{SOURCE}/24"))?;
        underlay.b.address(&format!("{TARGET}/24"))?;
        // A mirror target answers nothing; with fixed neighbours nothing but the mirror's frames reaches it.
        for (end, address, other) in [(&underlay.a, TARGET, &underlay.b), (&underlay.b, SOURCE, &underlay.a)]
        {
            let hardware = other.hardware_address()?;
            end.namespace.ip(&format!(
                "neighbour replace {address} lladdr {hardware} dev {} nud permanent",
                end.interface
            ))?;
        }
        source.ip(&format!(
            "link add vxlan0 type vxlan id {vni} local {SOURCE} remote {TARGET} dstport {VXLAN_PORT} dev up0 \
            nolearning"
        ))?;
        source.ip("link set dev vxlan0 up")?;
        source.tc(&format!("qdisc add dev {INTERFACE} clsact"))?;
        for direction in ["ingress", "egress"] {
            source.tc(&format!(
                "filter add dev {INTERFACE} {direction} protocol all prio 1 u32 match u32 0 0 \
                 action mirred egress mirror dev vxlan0"
            ))?;
        }
        let server = HttpServer::start(&source, SocketAddr::from((SERVER, HTTP_PORT)))?;
        Ok(Self { client, source, target, server })
    }

    /// Where the client is.
    pub fn client(&self) -> &Namespace {
        &self.client
    }

    /// Where the mirrored host is.
    pub fn source(&self) -> &Namespace {
        &self.source
    }

    /// Where the mirrored frames arrive.
    pub fn target(&self) -> &Namespace {
        &self.target
    }

    /// The mirrored interface, in [`source`](Self::source).
    pub fn mirrored_interface(&self) -> &'static str {
        INTERFACE
    }

    /// The interface the mirrored frames arrive at, in [`target`](Self::target).
    pub fn capture_interface(&self) -> &'static str {
        INTERFACE
    }

    /// Where the HTTP server listens.
    pub fn server(&self) -> SocketAddr {
        self.server.address()
    }

    /// Does these HTTP exchanges between client and mirrored host, one after the other, and checks each body.
    ///
    /// # Errors
    ///
    /// As [`exchange`].
    pub fn http(&self, exchanges: &[Exchange]) -> Result<()> {
        exchanges.iter().try_for_each(|request| exchange(&self.client, self.server(), *request))
    }
}
