//! Many packets at a time.

use super::{
    Program,
    instruction::{Branch, Instruction, Masked, Width, byte, half, header, load, offset, word},
};

/// A packet: the captured bytes, and its length on the wire.
pub(in crate::select::filter) type Packet<'a> = (&'a [u8], u32);

/// The most packets of a run: one bit of a word each.
pub(in crate::select::filter) const TOGETHER: usize = u64::BITS as usize;

/// The longest program, in instructions, that runs on many packets at a time.
pub(super) const LONGEST: usize = 512;
/// A size for usual programs, which needs less initialization.
const USUAL: usize = 64;

/// The packets of a run, each with its registers.
struct Together<'p, 'a> {
    packets: &'p [Packet<'a>; TOGETHER],
    accumulators: [u32; TOGETHER],
    indices: [u32; TOGETHER],
}

impl Together<'_, '_> {
    /// Calls a function for each packet of a set; returns the set for which it returned true, and the set
    /// that it ended.
    #[inline(always)]
    fn each(
        &mut self,
        set: u64,
        mut f: impl FnMut(&Packet<'_>, &mut u32, &mut u32) -> Option<bool>,
    ) -> (u64, u64) {
        let (mut yes, mut gone) = (0, 0);
        let Self { packets, accumulators, indices } = self;
        if set == u64::MAX {
            let registers = accumulators.iter_mut().zip(indices);
            for (number, (packet, (accumulator, index))) in packets.iter().zip(registers).enumerate() {
                yes >>= 1;
                match f(packet, accumulator, index) {
                    Some(outcome) => yes |= u64::from(outcome) << 63,
                    None => gone |= 1 << number,
                }
            }
            return (yes, gone);
        }
        let mut left = set;
        while left != 0 {
            let number = left.trailing_zeros() as usize % TOGETHER;
            let bit = left & left.wrapping_neg();
            left ^= bit;
            match f(&packets[number], &mut accumulators[number], &mut indices[number]) {
                Some(outcome) => yes |= bit & u64::from(outcome).wrapping_neg(),
                None => gone |= bit,
            }
        }
        (yes, gone)
    }
}

impl Program {
    /// Runs the program on up to [`TOGETHER`] packets; bit n is set if packet n matches.
    ///
    /// Each instruction runs for all packets that reach it: it is decoded once, packets do not depend on each
    /// other, and diverging packets cause no branch mispredictions.
    pub(in crate::select::filter) fn run_together(
        &self,
        packets: &[Packet<'_>; TOGETHER],
        count: usize,
    ) -> u64 {
        let bit = u32::try_from(count).ok().and_then(|count| 1_u64.checked_shl(count));
        let all = bit.map_or(u64::MAX, |bit| bit - 1);
        let mut together = Together { packets, accumulators: [0; TOGETHER], indices: [0; TOGETHER] };
        if !self.is_plain {
            let run = |(bytes, wire_len): &Packet<'_>, _: &mut u32, _: &mut u32| {
                Some(self.run(bytes, *wire_len) != 0)
            };
            return together.each(all, run).0;
        }
        if self.instructions.len() <= USUAL {
            self.pass::<USUAL>(&mut together, all)
        } else {
            self.pass::<LONGEST>(&mut together, all)
        }
    }

    /// One pass through a plain program of at most `PLACES` instructions.
    fn pass<const PLACES: usize>(&self, together: &mut Together<'_, '_>, all: u64) -> u64 {
        // The packets that have reached each instruction.
        let mut come = [0_u64; PLACES];
        let mut matched = 0;
        come[0] = all;
        for (place, instruction) in self.instructions.iter().enumerate() {
            let here = come[place % PLACES];
            if here == 0 {
                continue;
            }
            let mut go = |branch: Branch, (yes, gone): (u64, u64)| {
                come[usize::from(branch.yes) % PLACES] |= yes;
                come[usize::from(branch.no) % PLACES] |= here & !yes & !gone;
            };
            // Without a branch, packets still undecided continue with the next instruction.
            let behind = u16::try_from(place + 1).unwrap_or(u16::MAX);
            let on = Branch { yes: behind, no: behind };
            match *instruction {
                Instruction::If(masked) => {
                    let at = masked.at as usize;
                    let each = match masked.width {
                        Width::Byte => {
                            together.each(here, |(bytes, _), a, _| masked.keep(byte(bytes, at)?, a))
                        }
                        Width::Half => {
                            together.each(here, |(bytes, _), a, _| masked.keep(half(bytes, at)?, a))
                        }
                        Width::Word => {
                            together.each(here, |(bytes, _), a, _| masked.keep(word(bytes, at)?, a))
                        }
                    };
                    go(masked.branch, each);
                }
                Instruction::IfIndexed(masked) => {
                    let each = together.each(here, |(bytes, _), a, x| {
                        masked.keep(load(bytes, masked.width, offset(masked.at, *x)?)?, a)
                    });
                    go(masked.branch, each);
                }
                Instruction::Branch { test, operand, branch } => {
                    go(branch, together.each(here, |_, a, x| Some(test.holds(*a, operand.value(*x)))));
                }
                Instruction::Jump(to) => go(Branch { yes: to, no: to }, (here, 0)),
                Instruction::Return(verdict) if verdict != 0 => matched |= here,
                Instruction::Return(_) => {}
                Instruction::ReturnAccumulator => matched |= together.each(here, |_, a, _| Some(*a != 0)).0,
                Instruction::IndexHeader(at) => go(
                    on,
                    together.each(here, |(bytes, _), _, x| {
                        *x = header(bytes, at)?;
                        Some(true)
                    }),
                ),
                other => go(
                    on,
                    together.each(here, |(bytes, wire_len), a, x| {
                        (*a, *x) = other.registers(bytes, *wire_len, *a, *x)?;
                        Some(true)
                    }),
                ),
            }
        }
        matched
    }
}

impl Masked {
    /// Stores the loaded value and tests it.
    #[inline(always)]
    fn keep(&self, loaded: u32, accumulator: &mut u32) -> Option<bool> {
        *accumulator = loaded;
        Some(self.holds(loaded))
    }
}
