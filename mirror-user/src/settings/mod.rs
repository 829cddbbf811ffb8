//! The settings of a run as one value: of a configuration file, of a command line, of an embedder.
//!
//! Each field is a key of a file, in kebab-case, and may be left out. [`Settings::over`] lays what was typed
//! over what a file says, [`Settings::resolve`] adds the defaults, and two values may be compared.
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

mod values;
mod words;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use self::{
    values::{
        Balance, Bind, Count, Cpus, Destination, FileCount, FileFormat, Interface, Interval, MaxOrigins,
        Mode, OnOutputEnd, Phrase, Ports, QueueList, RotateSeconds, RxRing, Sandbox, Seed, Size, Snap,
        Sources, Time, Times, Vnis, Wait, WhenFull,
    },
    words::{Invalid, Many, Word, Written},
};
use crate::sink::forward::Target;

/// A struct of keys that may be left out.
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
            /// These, and of the others those that are not set here.
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

/// The same with the keys of a capture and of what is printed, between those of its own.
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
                /// Whether packets are written within 100 ms.
                unbuffered: bool,
                /// How much of a packet is written.
                snap: Written<Snap>,
                /// The size at which another file begins.
                file_size: Written<Size>,
                /// The time after which another file begins.
                rotate_seconds: Written<RotateSeconds>,
                /// How many files there are at most.
                file_count: Written<FileCount>,
                /// The command that is run for each complete file.
                postrotate_command: Written<PathBuf>,
                /// Whether each origin has a file of its own.
                per_origin: bool,
                /// How many origins have one.
                max_origins: Written<MaxOrigins>,
                /// How much space is left free.
                min_free: Written<Size>,
                /// What to do when there is no more.
                when_full: WhenFull,
                /// Whether packets are printed.
                print: bool,
                /// With their Ethernet headers (-e).
                link: bool,
                /// With their bytes in hex (-x).
                hex: Written<Times>,
                /// With their bytes in hex and as characters (-X).
                hexascii: Written<Times>,
                /// With their bytes as characters (-A).
                ascii: Written<Times>,
                /// Which time (-t).
                timestamps: Written<Times>,
                /// With absolute TCP sequence numbers (-S).
                absolute: bool,
                $($last)*
            }
        }
    };
}

keys_with_outputs! {
    /// The settings of a run.
    Settings {
        /// Interfaces to read.
        interface: Many<Interface>,
        /// RX queues to read.
        queues: Written<QueueList>,
        /// CPUs for the workers.
        cpus: Written<Cpus>,
        /// XDP mode.
        mode: Mode,
        /// How packets get from the NIC to the ring.
        bind: Bind,
        /// How workers wait for packets.
        wait: Wait,
        /// Which packets are taken, by whom they are addressed to.
        destination: Destination,
        /// Packets that an RX ring holds.
        rx_ring: Written<RxRing>,
        /// Capture files to read.
        read: Many<PathBuf>,
        /// UDP destination ports of the tunnel.
        port: Written<Ports>,
        /// The VNIs that are accepted.
        vni: Written<Vnis>,
        /// The outer sources that are accepted.
        source: Written<Sources>,
        /// Whether outer packets that were fragmented are left alone.
        no_reassemble: bool,
        /// A filter expression over the packets with their outer headers.
        outer_filter: Written<String>,
        /// A filter expression over the inner packets.
        filter: Written<Phrase>,
    } {
        /// Where packets are forwarded to.
        forward: Many<Target>,
        /// What each of several targets gets.
        forward_balance: Balance,
        /// What flows are spread by.
        forward_seed: Written<Seed>,
        /// Whether each VNI has a VLAN.
        vlan_per_vni: bool,
        /// Whether packets have the Community ID of their flow.
        community_id: bool,
        /// Whether the report is printed.
        json: bool,
        /// The file of the report.
        report: Written<PathBuf>,
        /// Whether the time to the sinks is measured.
        latency: bool,
        /// The user to change to.
        relinquish_privileges: Written<String>,
        /// How much of a sandbox is wanted.
        sandbox: Sandbox,
        /// Where commands may write.
        command_write: Many<PathBuf>,
        /// The TCP ports that commands may connect to.
        command_connect: Written<Ports>,
        /// What becomes of the run when every output has ended.
        on_output_end: OnOutputEnd,
        /// How many packets end the run.
        count: Written<Count>,
        /// Whether only errors and the closing lines are printed.
        quiet: bool,
        /// How much is logged, or printed of each packet.
        verbose: Written<Times>,
        /// The time that ends the run.
        duration: Written<Time>,
        /// How often a line is logged.
        stats: Written<Interval>,
        /// How long the first readers of what is streamed are waited for.
        wait_reader: Written<Time>,
        /// Further sinks, each with a selection of its own.
        sink: Vec<SinkSettings>,
    }
}

keys_with_outputs! {
    /// The settings of a table `[[sink]]`. Keys are as in [`Settings`], where nothing else is said.
    SinkSettings {
        /// Its name in the report.
        name: Written<Phrase>,
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
        /// Of the packets that the run selects, those of these VNIs.
        vnis: Written<Vnis>,
        /// And from these outer sources.
        sources: Written<Sources>,
        /// And that match this filter expression.
        filter: Written<Phrase>,
        /// And this one over the packets with their outer headers.
        outer_filter: Written<String>,
    }
}

impl Settings {
    /// With the defaults of all that has one and was not set. Tables of sinks stay as they are.
    #[must_use]
    pub fn resolve(mut self) -> Self {
        macro_rules! with_default {
            ($($field:ident)*) => { $(self.$field.get_or_insert_with(Default::default);)* };
        }
        with_default! {
            queues mode bind wait destination rx_ring port no_reassemble outer unbuffered snap per_origin
            max_origins when_full print link hex hexascii ascii timestamps absolute forward_balance
            vlan_per_vni community_id json latency sandbox on_output_end quiet verbose stats
        }
        // An empty expression selects all packets, as none does.
        self.filter = self.filter.filter(|filter| !filter.text().is_empty());
        self
    }
}

/// As the settings of a run that has this sink alone; without its name.
impl From<SinkSettings> for Settings {
    fn from(sink: SinkSettings) -> Self {
        macro_rules! same {
            ($($field:ident)*) => {{
                let SinkSettings { name: _, vnis, sources, $($field,)* } = sink;
                Self { vni: vnis, source: sources, $($field,)* ..Self::default() }
            }};
        }
        same! {
            write format outer unbuffered snap file_size rotate_seconds file_count postrotate_command
            per_origin max_origins min_free when_full print link hex hexascii ascii timestamps absolute
            verbose forward forward_balance vlan_per_vni community_id filter outer_filter
        }
    }
}

#[cfg(test)]
mod tests;
