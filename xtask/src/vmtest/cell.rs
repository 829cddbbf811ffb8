//! One run of `mirror` in a guest, and its JSON for the guest's half (`mirror-lab guest`).

use serde_json::{Value, json};

use super::card::Card;

/// A run, see the module. Fields that the guest does not need are not in its JSON.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    /// Driver and variant, such as `igb zerocopy`.
    pub(super) name: String,
    pub(super) card: Card,
    pub(super) mtu: u32,
    pub(super) channels: Option<u32>,
    /// `ip` commands for devices that the run forwards to.
    pub(super) prepare: &'static [&'static str],
    /// Arguments of `mirror ingest`, separated by blanks.
    pub(super) arguments: String,
    pub(super) capabilities: Option<&'static str>,
    /// The limit of locked memory, KiB.
    pub(super) memlock: Option<u64>,
    pub(super) frames: Frames,
    pub(super) during: &'static str,
    pub(super) expect: Expect,
}

/// The frames that are sent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Frames {
    None,
    Aws,
    /// Their number, inner lengths, number of flows, and rate.
    Numbered {
        count: u32,
        sizes: &'static [u32],
        flows: u32,
        pace: u32,
    },
}

/// The expected end.
#[derive(Debug, Clone)]
pub(super) enum Expect {
    Whole { mode: Option<&'static str>, bind: Option<&'static str>, words: &'static [&'static str] },
    LetIn(u32),
    Accounted,
    InterfaceLost,
    NothingLeft,
    Refused(&'static [&'static str]),
}

/// Inner lengths whose outer frames fit an MTU of 1500, some to the last byte of a 1514-byte frame's payload.
pub(super) const MIXED: &[u32] = &[50, 78, 200, 526, 950, 1300, 1400, 1450];
/// Frames a second that a guest under TCG takes without loss on two CPUs.
pub(super) const PACE: u32 = 5_000;

/// Enough to detect a loss of one in ten thousand.
pub(super) const MANY: Frames = Frames::Numbered { count: 20_000, sizes: MIXED, flows: 64, pace: PACE };
/// For runs that only show whether something works.
pub(super) const SOME: Frames = Frames::Numbered { count: 1_000, sizes: MIXED, flows: 64, pace: PACE };

impl Cell {
    /// A complete run on this NIC with these arguments.
    pub(super) fn new(name: impl Into<String>, card: Card, arguments: &str, frames: Frames) -> Self {
        Self {
            name: name.into(),
            card,
            mtu: 1_500,
            channels: None,
            prepare: &[],
            arguments: arguments.to_owned(),
            capabilities: None,
            memlock: None,
            frames,
            during: "nothing",
            expect: Expect::Whole { mode: None, bind: None, words: &[] },
        }
    }

    /// Complete, in this mode.
    pub(super) fn mode(mut self, mode: &'static str) -> Self {
        if let Expect::Whole { mode: wanted, .. } = &mut self.expect {
            *wanted = Some(mode);
        }
        self
    }

    /// Complete, with this kind of bind.
    pub(super) fn bind(mut self, bind: &'static str) -> Self {
        if let Expect::Whole { bind: wanted, .. } = &mut self.expect {
            *wanted = Some(bind);
        }
        self
    }

    /// Complete, with these words in its log.
    pub(super) fn says(mut self, said: &'static [&'static str]) -> Self {
        if let Expect::Whole { words, .. } = &mut self.expect {
            *words = said;
        }
        self
    }

    /// Refused with these words, before a frame is sent.
    pub(super) fn refused(self, words: &'static [&'static str]) -> Self {
        Self { frames: Frames::None, expect: Expect::Refused(words), ..self }
    }

    pub(super) fn expect(self, expect: Expect) -> Self {
        Self { expect, ..self }
    }

    pub(super) fn during(self, during: &'static str) -> Self {
        Self { during, ..self }
    }

    /// Seconds that its frames take.
    pub(super) fn seconds(&self) -> u64 {
        match self.frames {
            Frames::None | Frames::Aws => 1,
            Frames::Numbered { count, pace, .. } => u64::from(count / pace.max(1)) + 1,
        }
    }

    /// The plan as the guest reads it.
    pub(super) fn json(&self) -> Value {
        let card = match (self.card, self.card.number()) {
            (Card::Veth(queues), _) => json!({ "veth": queues }),
            (_, number) => json!({ "number": number }),
        };
        json!({ "cell": {
            "name": self.name,
            "card": card,
            "mtu": self.mtu,
            "channels": self.channels,
            "prepare": self.prepare,
            "arguments": self.arguments.split_ascii_whitespace().collect::<Vec<_>>(),
            "capabilities": self.capabilities,
            "memlock": self.memlock,
            "frames": match self.frames {
                Frames::None => json!("none"),
                Frames::Aws => json!("aws"),
                Frames::Numbered { count, sizes, flows, pace } => {
                    json!({ "numbered": { "count": count, "sizes": sizes, "flows": flows, "pace": pace } })
                }
            },
            "during": self.during,
            "expect": match &self.expect {
                Expect::Whole { mode, bind, words } => {
                    json!({ "whole": { "mode": mode, "bind": bind, "words": words } })
                }
                Expect::LetIn(frames) => json!({ "let_in": frames }),
                Expect::Accounted => json!("accounted"),
                Expect::InterfaceLost => json!("interface_lost"),
                Expect::NothingLeft => json!("nothing_left"),
                Expect::Refused(words) => json!({ "refused": words }),
            },
        }})
    }
}
