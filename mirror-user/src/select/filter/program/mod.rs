//! Classic BPF programs: checked once, then run for each frame.
//!
//! The machine is that of McCanne and Jacobson, "The BSD Packet Filter" (1993), as libpcap's `pcap/bpf.h`
//! numbers it: an accumulator, an index register, 16 words of memory, branches that go forward only. Jumps go
//! back, too, where libpcap has a program walk along a chain of headers (`protochain`); no kernel would take
//! that, and here it ends after a while.
//!
//! Its programs become instructions of our own, each with all that is known of it before it runs; a load with
//! the comparison behind it, which is most of what filters do, is one of them. `pcap_offline_filter` would do
//! the same in more than twice the time, and takes packets for whole: the `pcap` crate hands it one length
//! for both that of the capture and that on the wire.

mod alone;
mod decode;
mod instruction;
#[cfg(test)]
mod tests;
mod together;

use self::instruction::Instruction;
pub(super) use together::{Packet, TOGETHER};

/// An instruction as the compiler gives it: opcode, the two jump offsets, the operand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Encoded {
    pub(super) code: u16,
    pub(super) jt: u8,
    pub(super) jf: u8,
    pub(super) k: u32,
}

/// Why a program is none.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Invalid {
    #[error("instruction {at} has unknown opcode {code:#06x}")]
    Opcode { at: usize, code: u16 },
    #[error("instruction {at} jumps past the end")]
    Jump { at: usize },
    #[error("instruction {at} uses a memory word out of range")]
    Memory { at: usize },
    #[error("instruction {at} divides by 0")]
    Division { at: usize },
    #[error("it does not end with a verdict")]
    End,
    #[error("it has {0} instructions; a jump reaches 65,535")]
    Long(usize),
}

/// Words of memory (`BPF_MEMWORDS`).
const WORDS: usize = 16;

/// A program that was checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Program {
    instructions: Box<[Instruction]>,
    /// Whether any of it uses memory, which must be zeroed first.
    has_memory: bool,
    /// Whether packets can be run over together: it is short, needs no memory, and never goes back.
    is_plain: bool,
}

impl Program {
    /// Checks a program.
    ///
    /// # Errors
    ///
    /// What a program must not have: it could not be run to an end.
    pub(super) fn new(encoded: &[Encoded]) -> Result<Self, Invalid> {
        if encoded.len() > usize::from(u16::MAX) {
            return Err(Invalid::Long(encoded.len()));
        }
        let decode = |(at, encoded): (usize, &Encoded)| decode::decode(at, *encoded);
        let mut instructions: Vec<_> = encoded.iter().enumerate().map(decode).collect::<Result<_, _>>()?;
        if !matches!(instructions.last(), Some(Instruction::Return(_) | Instruction::ReturnAccumulator)) {
            return Err(Invalid::End);
        }
        let has_memory = instructions.iter().any(Instruction::has_memory);
        let mut goes_back = false;
        for (at, instruction) in instructions.iter().enumerate() {
            let reached = match instruction {
                Instruction::Jump(to) => {
                    goes_back |= usize::from(*to) <= at;
                    *to
                }
                Instruction::Branch { branch, .. } => branch.yes.max(branch.no),
                _ => 0,
            };
            if usize::from(reached) >= instructions.len() {
                return Err(Invalid::Jump { at });
            }
        }
        // Each place keeps what it had, so that a jump to the second of a pair finds it there.
        for at in 1..instructions.len() {
            if let Some(joined) = Instruction::join(instructions[at - 1], instructions[at]) {
                instructions[at - 1] = joined;
            }
        }
        let is_plain = instructions.len() <= together::LONGEST && !has_memory && !goes_back;
        Ok(Self { instructions: instructions.into(), has_memory, is_plain })
    }
}
