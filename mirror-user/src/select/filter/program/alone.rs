//! One packet at a time.

use super::{
    Program, WORDS,
    instruction::{Instruction, load, offset},
};

/// The most backward jumps per packet: the longest chain of 8-byte headers in 64 KiB.
pub(super) const LOOPS: u32 = 8192;

impl Program {
    /// Runs the program on the captured bytes of a packet of length `wire_len` on the wire. 0 means no match;
    /// so does a load beyond the captured bytes.
    pub(in crate::select::filter) fn run(&self, bytes: &[u8], wire_len: u32) -> u32 {
        let verdict = if self.has_memory {
            self.run_with::<WORDS>(bytes, wire_len)
        } else {
            self.run_with::<0>(bytes, wire_len)
        };
        verdict.unwrap_or(0)
    }

    /// `None` if it loads beyond the captured bytes, divides by an index of 0, or does not terminate.
    #[inline]
    fn run_with<const MEMORY: usize>(&self, bytes: &[u8], wire_len: u32) -> Option<u32> {
        let (mut accumulator, mut index, mut memory) = (0_u32, 0_u32, [0_u32; MEMORY]);
        let (mut next, mut loops) = (0_usize, LOOPS);
        loop {
            let instruction = self.instructions.get(next)?;
            next += 1;
            match *instruction {
                Instruction::If(masked) => {
                    accumulator = load(bytes, masked.width, masked.at as usize)?;
                    next = masked.branch.on(masked.holds(accumulator));
                }
                Instruction::IfIndexed(masked) => {
                    accumulator = load(bytes, masked.width, offset(masked.at, index)?)?;
                    next = masked.branch.on(masked.holds(accumulator));
                }
                Instruction::Branch { test, operand, branch } => {
                    next = branch.on(test.holds(accumulator, operand.value(index)));
                }
                Instruction::Return(verdict) => return Some(verdict),
                Instruction::LoadMemory(word) => accumulator = *memory.get(usize::from(word))?,
                Instruction::IndexMemory(word) => index = *memory.get(usize::from(word))?,
                Instruction::Store(word) => *memory.get_mut(usize::from(word))? = accumulator,
                Instruction::StoreIndex(word) => *memory.get_mut(usize::from(word))? = index,
                Instruction::Jump(to) => {
                    if usize::from(to) < next {
                        loops = loops.checked_sub(1)?;
                    }
                    next = usize::from(to);
                }
                Instruction::ReturnAccumulator => return Some(accumulator),
                other => (accumulator, index) = other.registers(bytes, wire_len, accumulator, index)?,
            }
        }
    }
}
