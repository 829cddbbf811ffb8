//! Filter expressions of tcpdump: pcap-filter(7).

#[cfg(feature = "filter")]
mod compile;
mod program;

use std::{array, fmt, ops::Range, sync::Arc};

use self::program::{Encoded, Packet, Program, TOGETHER};

/// A compiled filter expression. Clones share the program.
///
/// # Examples
///
#[cfg_attr(feature = "filter", doc = "```")]
#[cfg_attr(not(feature = "filter"), doc = "```ignore")]
/// use mirror_user::select::Filter;
///
/// let arp = Filter::compile("arp")?;
/// let mut frame = [0; 60];
/// frame[12..14].copy_from_slice(&[0x08, 0x06]);
/// assert!(arp.matches(&frame, 60));
/// # Ok::<(), mirror_user::select::FilterError>(())
/// ```
#[derive(Clone)]
pub struct Filter {
    expression: Arc<str>,
    program: Arc<Program>,
}

impl Filter {
    /// The most frames of a call of [`matching`](Self::matching).
    pub const TOGETHER: usize = TOGETHER;

    /// Compiles an expression for Ethernet frames with libpcap; names of hosts, networks and ports are
    /// resolved as in tcpdump. An empty expression matches every frame.
    ///
    /// # Errors
    ///
    /// The error in the expression, and its position.
    #[cfg(feature = "filter")]
    pub fn compile(expression: &str) -> Result<Self, FilterError> {
        Self::new(expression, &compile::compile(expression)?)
    }

    /// A filter from a compiled program: opcode, the two jump offsets and the operand of each instruction, as
    /// `tcpdump -ddd` prints them for Ethernet. `expression` is its name in reports.
    ///
    /// # Errors
    ///
    /// The program is invalid or might not terminate.
    pub fn from_bpf(
        expression: &str,
        instructions: impl IntoIterator<Item = (u16, u8, u8, u32)>,
    ) -> Result<Self, FilterError> {
        let encoded = |(code, jt, jf, k)| Encoded { code, jt, jf, k };
        Self::new(expression, &instructions.into_iter().map(encoded).collect::<Vec<_>>())
    }

    fn new(expression: &str, encoded: &[Encoded]) -> Result<Self, FilterError> {
        let program = Program::new(encoded).map_err(|invalid| FilterError {
            expression: expression.to_owned(),
            message: format!("as a BPF program: {invalid}"),
            place: None,
        })?;
        Ok(Self { expression: expression.into(), program: Arc::new(program) })
    }

    /// The expression.
    #[must_use]
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// Which of up to [`Filter::TOGETHER`] frames match: bit n is the result of [`matches`](Self::matches)
    /// for frame n. Faster than one call per frame.
    pub fn matching<'a>(&self, frames: impl IntoIterator<Item = (&'a [u8], u32)>) -> u64 {
        let (mut frames, mut count) = (frames.into_iter(), 0);
        let packets: [Packet<'_>; TOGETHER] = array::from_fn(|_| {
            let frame = frames.next();
            count += usize::from(frame.is_some());
            frame.unwrap_or_default()
        });
        self.program.run_together(&packets, count)
    }

    /// Whether an Ethernet frame matches, given the captured bytes and the length on the wire, which `len`,
    /// `greater` and `less` use. As in tcpdump, it does not match if the expression reads beyond the captured
    /// bytes.
    #[must_use]
    pub fn matches(&self, frame: &[u8], wire_len: u32) -> bool {
        self.program.run(frame, wire_len) != 0
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.expression).finish()
    }
}

/// Filters are the same if their programs are.
impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.program == other.program
    }
}

/// An error in an expression.
///
/// Its text shows the expression on a separate line, with marks below the position.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("filter expression: {message}{}", marked(expression, place.clone()))]
#[non_exhaustive]
pub struct FilterError {
    /// The expression.
    pub expression: String,
    /// The error.
    pub message: String,
    /// The position: a range of bytes, empty and at the end if something is missing there; `None` if the
    /// error is about the whole expression.
    pub place: Option<Range<usize>>,
}

/// Two lines, the second of marks; empty without a position.
fn marked(expression: &str, place: Option<Range<usize>>) -> String {
    let Some(place) = place else { return String::new() };
    let (before, at) = (expression.get(..place.start), expression.get(place));
    let (Some(before), Some(at)) = (before, at) else { return String::new() };
    // Control characters would shift the marks.
    let shown = expression.replace(char::is_control, " ");
    let marks = "^".repeat(at.chars().count().max(1));
    format!("\n  {shown}\n  {:1$}{marks}", "", before.chars().count())
}
