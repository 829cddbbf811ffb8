//! The plan of a guest, as `cargo xtask vmtest` writes it.

use serde::Deserialize;

/// All of it, in sequence.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// See there.
    pub steps: Vec<Step>,
}

/// One line of the results.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// A run of `mirror ingest`.
    Cell(Cell),
    /// A program of tests.
    Test(TestProgram),
    /// A scenario of the service.
    Service(Service),
    /// A scenario of its package.
    Package(Package),
}

impl Step {
    /// As it is shown.
    pub fn name(&self) -> &str {
        match self {
            Self::Cell(cell) => &cell.name,
            Self::Test(program) => &program.name,
            Self::Service(service) => &service.name,
            Self::Package(package) => &package.name,
        }
    }
}

/// One run of `mirror ingest` on one card, with numbered frames, and how it must end.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// As it is shown, and what its papers are named by.
    pub name: String,
    /// The card under test.
    pub card: Card,
    /// MTU of both ends, bytes.
    pub mtu: u32,
    /// Channels (`ethtool -L combined`) to set first.
    pub channels: Option<u32>,
    /// `ip` commands to run first, which may fail where they have been run.
    #[serde(default)]
    pub prepare: Vec<String>,
    /// Arguments for `mirror ingest` beyond interface, capture and report.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// The only capabilities that `mirror` is to have, `CAP_BPF,CAP_NET_RAW`, as a user without rights; root
    /// with all where there are none.
    pub capabilities: Option<String>,
    /// The limit of locked memory (`ulimit -l`) for `mirror`, KiB; what the guest has where there is none.
    pub memlock: Option<u64>,
    /// What is sent.
    pub frames: Frames,
    /// What happens meanwhile.
    #[serde(default)]
    pub during: During,
    /// How it must end.
    pub expect: Expect,
}

/// A card under test and what is wired to it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Card {
    /// One end of a veth with so many queues.
    Veth(u32),
    /// The card with hardware address `52:54:00:00:00:NN`; the source is the one with `52:54:00:00:01:NN`.
    Number(u8),
}

/// Frames to send.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Frames {
    /// None: the run must end before.
    None,
    /// The twin of a capture from AWS.
    Aws,
    /// Frames that bear a number.
    Numbered {
        /// How many.
        count: u32,
        /// Bytes of the inner frames, one after the other in turn.
        sizes: Vec<usize>,
        /// Flows in turn.
        flows: u32,
        /// Frames a second.
        pace: u32,
    },
}

/// What happens while frames come.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum During {
    /// Nothing else.
    #[default]
    Nothing,
    /// The process is stopped for a while: rings run full.
    Stopped,
    /// The link goes down and comes up again before the first frame.
    LinkDownUp,
    /// The interface is deleted after the last frame.
    Deleted,
    /// The process is killed after the last frame, so that it can clean up nothing.
    Killed,
}

/// How a run must end.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Expect {
    /// Exit code 0, each frame once and byte for byte in the capture, residue 0.
    Whole {
        /// `xdp_mode` of the report.
        mode: Option<String>,
        /// `bind` of the report.
        bind: Option<String>,
        /// What standard error must hold.
        #[serde(default)]
        words: Vec<String>,
    },
    /// Exit code 0, only this many accepted and these byte for byte in the capture, the others dropped by the
    /// program; residue 0.
    LetIn(u64),
    /// Exit code 0, some frames lost, each of them accounted for, residue 0.
    Accounted,
    /// Exit code 1 because the interface went, all frames accounted for, residue 0.
    InterfaceLost,
    /// Killed; no program stays on the interface.
    NothingLeft,
    /// Exit code 1 with these words, and no program on the interface.
    Refused(Vec<String>),
}

/// A program of tests, built by cargo.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestProgram {
    /// As it is shown.
    pub name: String,
    /// Its path in the guest.
    pub program: String,
    /// Tests to leave out, by their whole names.
    #[serde(default)]
    pub skip: Vec<String>,
    /// Tests at a time.
    pub threads: u32,
    /// Seconds it may take.
    pub limit: u64,
}

/// What is done with the service.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// As it is shown.
    pub name: String,
    /// See there.
    pub scenario: Scenario,
}

/// Each begins with the unit and the configuration as packages have them.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Scenario {
    /// It is started without an interface.
    RefusesDefault,
    /// It is started.
    Starts,
    /// Its configuration changes.
    Reloads,
    /// It is stopped while packets come.
    Drains,
    /// It is killed.
    Killed,
    /// One of its workers hangs.
    WorkerHangs,
    /// It hangs as a whole.
    Hangs,
    /// It is upgraded.
    Upgrades,
}

/// What is done with the package.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// As it is shown.
    pub name: String,
    /// See there.
    pub scenario: PackageScenario,
}

/// Each begins without the package, and installs it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum PackageScenario {
    /// No more than that, and a start as it is.
    Installs,
    /// Its service is started, stopped, killed, and started each time.
    StartsAgain,
    /// A later version is installed while packets come.
    Upgrades,
    /// It is purged while its service runs.
    Purges,
    /// The guide is followed.
    Guide,
}
