//! Classic BPF programs: checked once, then run for each frame.
//!
//! The machine is that of McCanne and Jacobson, "The BSD Packet Filter" (1993), as libpcap's `pcap/bpf.h`
//! numbers it: an accumulator, an index register, 16 words of memory, forward branches. libpcap's programs
//! for `protochain` also jump back to follow a chain of headers. Kernels refuse that; here such jumps are
//! limited.
//!
//! Programs are translated to our own instructions. A load with the comparison after it, which is most of a
//! filter, is one instruction. `pcap_offline_filter` takes more than twice the time and does not handle
//! truncated packets: the `pcap` crate passes it one length as both captured length and length on the wire.

mod alone;
mod decode;
mod instruction;
#[cfg(test)]
mod tests;
mod together;

use self::instruction::Instruction;
pub(super) use together::{Packet, TOGETHER};

/// An encoded instruction: opcode, the two jump offsets, the operand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Encoded {
    pub(super) code: u16,
    pub(super) jt: u8,
    pub(super) jf: u8,
    pub(super) k: u32,
}

/// Why a program is invalid.
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
    #[error("it does not end with a return")]
    End,
    #[error("it has {0} instructions; a jump reaches 65,535")]
    Long(usize),
}

/// Words of memory (`BPF_MEMWORDS`).
const WORDS: usize = 16;

/// A valid program.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Program {
    instructions: Box<[Instruction]>,
    /// Whether it uses memory, which must be zeroed first.
    has_memory: bool,
    /// Whether it can run on many packets at a time: it is short, uses no memory, and never jumps back.
    is_plain: bool,
}

impl Program {
    /// Checks a program.
    ///
    /// # Errors
    ///
    /// Why the program is invalid.
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
        // The second of a joined pair stays in place, for jumps to it.
        for at in 1..instructions.len() {
            if let Some(joined) = Instruction::join(instructions[at - 1], instructions[at]) {
                instructions[at - 1] = joined;
            }
        }
        let is_plain = instructions.len() <= together::LONGEST && !has_memory && !goes_back;
        Ok(Self { instructions: instructions.into(), has_memory, is_plain })
    }
}
