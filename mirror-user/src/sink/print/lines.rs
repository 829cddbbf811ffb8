//! Frames as lines.

use std::{fmt::Write as _, sync::Arc};

use jiff::tz::TimeZone;

use super::{
    packet::{self, Memory},
    style::Style,
    time::Times,
};
use crate::{
    frame::Frame,
    mirroring::SessionTable,
    sink::origin::{OriginKey, OriginNames},
};

/// Prints frames, one per line, in a [`Style`]. Some output, such as relative sequence numbers, depends on
/// earlier packets: use one `Lines` for all packets of a connection.
///
/// ```
/// use mirror_user::{Captured, Tunnels, decap, sink::print::{Lines, Style, Time}};
///
/// let mut lines = Lines::new(Style::default().time(Time::None));
/// let mut text = String::new();
/// # let outer = [0; 60];
/// # let captured = Captured::new(&outer, 60, 0);
/// if let Ok(frame) = decap::decapsulate_frame(captured, &Tunnels::default()) {
///     lines.line(&frame, &mut text);
/// }
/// ```
#[derive(Debug)]
pub struct Lines {
    style: Style,
    times: Times,
    memory: Memory,
    names: OriginNames,
    /// The origin of the last frame, and its text with a space: the next frame often has the same.
    origin: OriginKey,
    origin_text: String,
    /// Time and origin, the same for all lines of a frame.
    prefix: String,
}

impl Lines {
    /// Prints in this style, with times in the system's time zone or that of the variable `TZ`.
    #[must_use]
    pub fn new(style: Style) -> Self {
        let times = Times::new(style.time, TimeZone::system());
        let origin = OriginKey::default();
        let names = OriginNames::default();
        let origin_text = names.name(origin) + " ";
        let (memory, prefix) = (Memory::default(), String::new());
        Self { style, times, memory, names, origin, origin_text, prefix }
    }

    /// Names origins by these sessions.
    #[must_use]
    pub fn sessions(mut self, sessions: Arc<SessionTable>) -> Self {
        self.names = sessions.into();
        self.origin_text = self.names.name(self.origin) + " ";
        self
    }

    /// Appends a frame's text with a newline: one line, or more if the style adds details.
    ///
    /// Safe on a terminal: control characters of the packet are escaped.
    pub fn line(&mut self, frame: &Frame<'_>, out: &mut String) {
        self.prefix.clear();
        self.times.put(frame.time(), &mut self.prefix);
        if let Some(origin) = self.origin.another(frame) {
            self.origin = origin;
            self.origin_text.clear();
            // Writing to a String cannot fail.
            let _ = write!(self.origin_text, "{} ", self.names.name(origin));
        }
        self.prefix.push_str(&self.origin_text);
        if self.style.outer {
            out.push_str(&self.prefix);
            packet::outer(frame, self.style, &mut self.memory, out);
            out.push('\n');
        }
        out.push_str(&self.prefix);
        packet::inner(frame, self.style, &mut self.memory, out);
        out.push('\n');
    }
}
