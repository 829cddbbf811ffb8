//! The settings of a run as one value: of a configuration file, of a command line, of an embedder.
//!
//! Each field is a key of a file, in kebab-case, and optional. [`Settings::over`] merges the command line
//! over a file, [`Settings::resolve`] adds the defaults, and two values can be compared.
//!
//! ```
//! use mirror_user::settings::Settings;
//!
//! let file: Settings = toml::from_str("interface = 'ens6'\nvni = [7, '100-199']\nwrite = 'inner.pcapng'")?;
//! let typed: Settings = toml::from_str("vni = 8")?;
//! let settings = typed.over(file).resolve();
//! assert_eq!(settings.vni.as_deref().map(|vnis| vnis.0.clone()), Some(vec![8]));
//! assert_eq!(settings.outer, Some(false));
//! # Ok::<(), toml::de::Error>(())
//! ```

mod choices;
mod lists;
mod values;
mod words;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use self::{
    choices::{
        Balance, Bind, Destination, FileFormat, ForwardPath, Mode, OnOutputEnd, Priority, Sandbox, Wait,
        WhenFull,
    },
    lists::{Cpus, Phrase, Ports, QueueList, Sources, TunnelPorts, Vnis},
    values::{
        BufferSize, Control, Count, DrainMax, DrainQuiet, FileCount, HttpAddress, Interface, Interval,
        MaxOrigins, Percent, RotateSeconds, RxRing, Seed, Size, Snap, Time, Times, Writers,
    },
    words::{Invalid, Many, Word, Written},
};
use crate::sink::forward::Target;

/// A struct of optional keys.
macro_rules! keys {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
        #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
        #[non_exhaustive]
        pub struct $name {
            $($(#[$doc])* #[serde(skip_serializing_if = "Option::is_none")] pub $field: Option<$type>,)*
        }

        impl $name {
            /// These settings, and those of `others` for keys that are not set here.
            #[must_use]
            pub fn over(self, others: Self) -> Self {
                Self { $($field: self.$field.or(others.$field),)* }
            }

            /// All keys, in the order in which they are printed.
            #[must_use]
            pub fn keys() -> &'static [&'static str] {
                words::keys_of::<Self>()
            }
        }
    };
}

/// The same, with the keys of captures and of text between `first` and `last`.
macro_rules! keys_with_outputs {
    ($(#[$meta:meta])* $name:ident { $($first:tt)* } { $($last:tt)* }) => {
        keys! {
            $(#[$meta])*
            $name {
                $($first)*
                /// The capture file to write.
                write: Written<PathBuf>,
                /// Its format.
                format: FileFormat,
                /// Whether packets are written with their outer headers.
                outer: bool,
                /// Whether each packet is written within 100 ms.
                unbuffered: bool,
                /// How many bytes of each packet are written.
                snap: Written<Snap>,
                /// The size at which a new file starts.
                file_size: Written<Size>,
                /// The interval at which a new file starts.
                rotate_seconds: Written<RotateSeconds>,
                /// The maximum number of files.
                file_count: Written<FileCount>,
                /// The command that is run for each completed file.
                postrotate_command: Written<PathBuf>,
                /// In how many bytes of a worker's memory packets wait to be written.
                buffer_size: Written<BufferSize>,
                /// How many threads write the capture, each to its own file.
                writers: Written<Writers>,
                /// Whether each origin has its own file.
                per_origin: bool,
                /// How many origins have their own file.
                max_origins: Written<MaxOrigins>,
                /// How much space is kept free.
                min_free: Written<Size>,
                /// What to do when the file system is full.
                when_full: WhenFull,
                /// Whether packets are printed.
                print: bool,
                /// Whether the link-level header is printed (-e).
                link: bool,
                /// Whether packets are printed in hex (-x); 2: with the link-level header.
                hex: Written<Times>,
                /// Whether packets are printed in hex and ASCII (-X); 2: with the link-level header.
                hexascii: Written<Times>,
                /// Whether packets are printed in ASCII (-A); 2: with the link-level header.
                ascii: Written<Times>,
                /// The kind of timestamp (-t), as tcpdump counts them.
                timestamps: Written<Times>,
                /// Whether TCP sequence numbers are absolute (-S).
                absolute: bool,
                $($last)*
            }
        }
    };
}

keys_with_outputs! {
    /// The settings of a run.
    Settings {
        /// Interfaces to capture from.
        interface: Many<Interface>,
        /// RX queues to read.
        queues: Written<QueueList>,
        /// CPUs for the workers.
        cpus: Written<Cpus>,
        /// XDP mode.
        mode: Mode,
        /// How packets get from the NIC to the AF_XDP ring.
        bind: Bind,
        /// How workers wait for packets.
        wait: Wait,
        /// How workers compete with other processes for their CPUs.
        priority: Priority,
        /// Which tunnel packets are captured, by their destination address.
        destination: Destination,
        /// Size of each RX ring, in descriptors.
        rx_ring: Written<RxRing>,
        /// Capture files to read.
        read: Many<PathBuf>,
        /// UDP destination ports of tunnels, each perhaps with its protocol.
        port: Written<TunnelPorts>,
        /// The VNIs that are accepted.
        vni: Written<Vnis>,
        /// The outer sources that are accepted.
        source: Written<Sources>,
        /// Files that describe the sessions of Traffic Mirroring, by which origins are named.
        sessions: Many<PathBuf>,
        /// The sessions that are accepted, by id or name.
        session: Many<String>,
        /// Whether fragmented outer packets are not reassembled.
        no_reassemble: bool,
        /// A filter expression that is applied to packets with their outer headers.
        outer_filter: Written<String>,
        /// A filter expression that is applied to the inner packets.
        filter: Written<Phrase>,
    } {
        /// Where packets are forwarded to.
        forward: Many<Target>,
        /// How packets are distributed over several targets.
        forward_balance: Balance,
        /// The seed that assigns flows to targets.
        forward_seed: Written<Seed>,
        /// Whether each VNI has its own VLAN.
        vlan_per_vni: bool,
        /// Whether packets have the Community ID of their flow.
        community_id: bool,
        /// Whether the report is printed to standard output.
        json: bool,
        /// The file of the report.
        report: Written<PathBuf>,
        /// Whether the time from reception to the sinks is measured.
        latency: bool,
        /// The user to change to.
        relinquish_privileges: Written<String>,
        /// Whether the sandbox is used.
        sandbox: Sandbox,
        /// Where commands may write.
        command_write: Many<PathBuf>,
        /// The TCP ports that commands may connect to.
        command_connect: Written<Ports>,
        /// What the run does when every output has ended.
        on_output_end: OnOutputEnd,
        /// How many packets the run stops after.
        count: Written<Count>,
        /// Whether only errors and the closing lines are printed.
        quiet: bool,
        /// How much is logged, or printed of each packet.
        verbose: Written<Times>,
        /// Which path forwarded packets take.
        forward_path: ForwardPath,
        /// Whether no process keeps privileges for reloads.
        no_monitor: bool,
        /// Where a reload may create files, besides the directories of outputs.
        writable: Many<PathBuf>,
        /// The time that the run stops after.
        duration: Written<Time>,
        /// How often statistics are logged.
        stats: Written<Interval>,
        /// How long packets are still taken, at most, after TERM.
        drain_max: Written<DrainMax>,
        /// After how long without a packet the run then stops.
        drain_quiet: Written<DrainQuiet>,
        /// The name of the control socket.
        control: Written<Control>,
        /// The group that may read the status over it.
        control_group: Written<String>,
        /// Where health, metrics and the live report are served over HTTP.
        http: Written<HttpAddress>,
        /// The clients that may have more than the health, where that is not the host itself.
        http_allow: Written<Sources>,
        /// The share of lost packets at which a run is unhealthy.
        health_loss: Written<Percent>,
        /// How long to wait for the first readers of pcap-over-ip targets.
        wait_reader: Written<Time>,
        /// Further sinks, each with its own selection.
        sink: Vec<SinkSettings>,
    }
}

keys_with_outputs! {
    /// The settings of a table `[[sink]]`. Keys mean what they mean in [`Settings`], unless documented
    /// otherwise.
    SinkSettings {
        /// Its name in the report.
        name: Written<Phrase>,
        /// Whether a run without it is unhealthy.
        required: bool,
    } {
        /// How much is printed of each packet.
        verbose: Written<Times>,
        /// See [`Settings::forward`].
        forward: Many<Target>,
        /// See [`Settings::forward_balance`].
        forward_balance: Balance,
        /// See [`Settings::vlan_per_vni`].
        vlan_per_vni: bool,
        /// See [`Settings::community_id`].
        community_id: bool,
        /// VNIs to select from the packets of the run.
        vnis: Written<Vnis>,
        /// Outer sources to select.
        sources: Written<Sources>,
        /// A filter expression that is applied to the inner packets.
        filter: Written<Phrase>,
        /// A filter expression that is applied to packets with their outer headers.
        outer_filter: Written<String>,
    }
}

impl Settings {
    /// Adds the defaults of keys that have one and are not set. Tables of sinks are not changed.
    #[must_use]
    pub fn resolve(mut self) -> Self {
        macro_rules! with_default {
            ($($field:ident)*) => { $(self.$field.get_or_insert_with(Default::default);)* };
        }
        with_default! {
            queues mode bind wait priority destination rx_ring port no_reassemble outer unbuffered snap
            buffer_size writers per_origin max_origins when_full print link hex hexascii ascii timestamps
            absolute forward_balance vlan_per_vni community_id json latency sandbox on_output_end quiet
            verbose forward_path stats drain_max drain_quiet
        }
        // An empty expression selects all packets, like none.
        self.filter = self.filter.filter(|filter| !filter.text().is_empty());
        self
    }
}

/// As the settings of a run with this sink alone; its name, and whether it is required, are lost.
impl From<SinkSettings> for Settings {
    fn from(sink: SinkSettings) -> Self {
        macro_rules! same {
            ($($field:ident)*) => {{
                let SinkSettings { name: _, required: _, vnis, sources, $($field,)* } = sink;
                Self { vni: vnis, source: sources, $($field,)* ..Self::default() }
            }};
        }
        same! {
            write format outer unbuffered snap file_size rotate_seconds file_count postrotate_command
            buffer_size writers per_origin max_origins min_free when_full print link hex hexascii ascii
            timestamps absolute verbose forward forward_balance vlan_per_vni community_id filter
            outer_filter
        }
    }
}

#[cfg(test)]
mod tests;
