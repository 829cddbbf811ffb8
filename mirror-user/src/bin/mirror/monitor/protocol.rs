//! The protocol between a run and its monitor: a message each way.

use serde::{Deserialize, Serialize};

/// What a run may ask for.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Request {
    /// The configuration file as it is now.
    Configuration,
    /// A target of the configuration that was read last.
    Open {
        target: String,
        /// See [`ForwardBuilder::max_frame`](mirror_user::sink::forward::ForwardBuilder::max_frame).
        max_frame: usize,
    },
    /// A new process of the installed executable, with the arguments of the run.
    Launch,
    /// To end the process that was launched last, if it has not ended.
    Kill,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// It takes requests.
    Ready,
    /// The text of the file, which is valid.
    Configuration { text: String },
    /// The parts of a target, with descriptors; the last of them is its lifeline.
    Opened { interface: Option<(u32, String)> },
    /// A process was launched; with the connection to it.
    Launched { pid: u32 },
    /// There is no such process any more.
    Killed,
    /// Why it is refused.
    Refused { message: String },
}
