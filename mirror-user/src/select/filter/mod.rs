//! Filter expressions, as tcpdump has them: pcap-filter(7).

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
    /// The most frames that [`matching`](Self::matching) takes.
    pub const TOGETHER: usize = TOGETHER;

    /// Compiles an expression for Ethernet frames. libpcap does that; names of hosts, networks and ports are
    /// resolved as tcpdump resolves them. An empty expression matches every frame.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and where.
    #[cfg(feature = "filter")]
    pub fn compile(expression: &str) -> Result<Self, FilterError> {
        Self::new(expression, &compile::compile(expression)?)
    }

    /// Takes a program that was compiled elsewhere: opcode, the two jump offsets and the operand of each
    /// instruction, as `tcpdump -ddd` prints them for Ethernet. `expression` is what reports will call it.
    ///
    /// # Errors
    ///
    /// Where it is no program that could be run to its end.
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

    /// The expression it was made from.
    #[must_use]
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// Which of up to [`Filter::TOGETHER`] frames match, as [`matches`](Self::matches) would say of each: bit
    /// n is about the nth. It takes less time than one after the other.
    pub fn matching<'a>(&self, frames: impl IntoIterator<Item = (&'a [u8], u32)>) -> u64 {
        let (mut frames, mut count) = (frames.into_iter(), 0);
        let packets: [Packet<'_>; TOGETHER] = array::from_fn(|_| {
            let frame = frames.next();
            count += usize::from(frame.is_some());
            frame.unwrap_or_default()
        });
        self.program.run_together(&packets, count)
    }

    /// Whether an Ethernet frame matches: the bytes at hand, and its length on the wire, which is what `len`,
    /// `greater` and `less` are about. Where the expression asks for bytes that are not at hand it does not,
    /// as in tcpdump.
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

/// What is wrong with an expression.
///
/// Its text shows the expression on a line of its own, with marks below the place.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("filter expression: {message}{}", marked(expression, place.clone()))]
#[non_exhaustive]
pub struct FilterError {
    /// The expression.
    pub expression: String,
    /// What is wrong with it.
    pub message: String,
    /// Where: bytes of the expression, empty and at its end where something is missing there; `None` where it
    /// is about the whole.
    pub place: Option<Range<usize>>,
}

/// Two lines, the second of marks; nothing where there is no place to mark.
fn marked(expression: &str, place: Option<Range<usize>>) -> String {
    let Some(place) = place else { return String::new() };
    let (before, at) = (expression.get(..place.start), expression.get(place));
    let (Some(before), Some(at)) = (before, at) else { return String::new() };
    // What a terminal would not show as one column each would put the marks elsewhere.
    let shown = expression.replace(char::is_control, " ");
    let marks = "^".repeat(at.chars().count().max(1));
    format!("\n  {shown}\n  {:1$}{marks}", "", before.chars().count())
}
