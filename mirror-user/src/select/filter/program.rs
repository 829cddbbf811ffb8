//! Classic BPF programs: checked once, then run for each frame.
//!
//! The machine is that of McCanne and Jacobson, "The BSD Packet Filter" (1993), as libpcap's `pcap/bpf.h` numbers it: an
//! accumulator, an index register, 16 words of memory, branches that go forward only. Jumps go back, too, where libpcap has
//! a program walk along a chain of headers (`protochain`); no kernel would take that, and here it ends after a while.
//!
//! Its programs become instructions of our own, each with all that is known of it before it runs; a load with the
//! comparison behind it, which is most of what filters do, is one of them. `pcap_offline_filter` would do the same in more
//! than twice the time, and takes packets for whole: the `pcap` crate hands it one length for both that of the capture and
//! that on the wire.

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
    #[error("instruction {at} has opcode {code:#06x}, which there is not")]
    Opcode { at: usize, code: u16 },
    #[error("instruction {at} jumps behind the end")]
    Jump { at: usize },
    #[error("instruction {at} uses a word of memory behind the last")]
    Memory { at: usize },
    #[error("instruction {at} divides by 0")]
    Division { at: usize },
    #[error("it does not end with a verdict")]
    End,
    #[error("it has {0} instructions; a jump reaches 65,535")]
    Long(usize),
}

/// How often a program may jump back for a packet: a chain of headers in 64 KiB, 8 bytes each, is no longer.
const LOOPS: u32 = 8192;

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

/// How many bytes a load takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Width {
    Byte,
    Half,
    Word,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Alu {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Or,
    And,
    Xor,
    Shl,
    Shr,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Test {
    Equal,
    Greater,
    GreaterOrEqual,
    AnyBit,
}

/// What is compared with the accumulator, or computed with it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Operand {
    Constant(u32),
    Index,
}

/// Where to go on, by the outcome of a test: places in the program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Branch {
    yes: u16,
    no: u16,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Instruction {
    Load {
        width: Width,
        at: u32,
    },
    LoadIndexed {
        width: Width,
        at: u32,
    },
    LoadConstant(u32),
    LoadMemory(u8),
    LoadLength,
    IndexConstant(u32),
    IndexMemory(u8),
    IndexLength,
    /// Four times the low half of a byte: the length of an IPv4 header.
    IndexHeader(u32),
    Store(u8),
    StoreIndex(u8),
    Compute(Alu, Operand),
    Negate,
    Jump(u16),
    Branch {
        test: Test,
        operand: Operand,
        branch: Branch,
    },
    IndexFromAccumulator,
    AccumulatorFromIndex,
    Return(u32),
    ReturnAccumulator,
    /// [`Load`](Self::Load) and then [`Branch`](Self::Branch).
    If(Masked),
    /// The same behind [`LoadIndexed`](Self::LoadIndexed).
    IfIndexed(Masked),
}

/// A load, and whether what it gives has under a mask a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Masked {
    width: Width,
    at: u32,
    mask: u32,
    value: u32,
    branch: Branch,
}

/// A packet: the bytes at hand, and its length on the wire.
pub(super) type Packet<'a> = (&'a [u8], u32);

/// Packets that are run over together: one bit of a word each.
pub(super) const TOGETHER: usize = u64::BITS as usize;

/// Instructions of the longest program that is run over packets together.
const SHORT: usize = 512;
/// Those of what people type: less to begin with.
const SHORTER: usize = 64;

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
        let decode = |(at, encoded): (usize, &Encoded)| decode(at, *encoded);
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
        // Each place keeps what it had, so that whoever jumps to the second of a pair finds it there.
        for at in 1..instructions.len() {
            if let Some(joined) = Instruction::join(instructions[at - 1], instructions[at]) {
                instructions[at - 1] = joined;
            }
        }
        let is_plain = instructions.len() <= SHORT && !has_memory && !goes_back;
        Ok(Self { instructions: instructions.into(), has_memory, is_plain })
    }

    /// Runs it over the bytes at hand of a packet that has `wire_len` on the wire. 0 means that the packet does not match;
    /// so does a load from behind the bytes at hand.
    pub(super) fn run(&self, bytes: &[u8], wire_len: u32) -> u32 {
        let verdict = if self.has_memory {
            self.run_with::<WORDS>(bytes, wire_len)
        } else {
            self.run_with::<0>(bytes, wire_len)
        };
        verdict.unwrap_or(0)
    }

    /// `None` where it loads from behind the bytes at hand, divides by an index of 0, or turns in circles.
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

/// Packets under way through a program together, each with registers of its own.
struct Together<'p, 'a> {
    packets: &'p [Packet<'a>; TOGETHER],
    accumulators: [u32; TOGETHER],
    indices: [u32; TOGETHER],
}

impl Together<'_, '_> {
    /// Does something for each packet of a set: the set of those for which it said yes, and of those that it gave up.
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
    /// Runs it over up to [`TOGETHER`] packets; bit n says whether the nth matches.
    ///
    /// Instruction by instruction, and each for all packets that come to it: what it takes to tell instructions apart is
    /// spent once for all of them, no packet waits for another, and where packets part there is no jump to be foreseen.
    pub(super) fn run_together(&self, packets: &[Packet<'_>; TOGETHER], count: usize) -> u64 {
        let bit = u32::try_from(count).ok().and_then(|count| 1_u64.checked_shl(count));
        let all = bit.map_or(u64::MAX, |bit| bit - 1);
        let mut together = Together { packets, accumulators: [0; TOGETHER], indices: [0; TOGETHER] };
        if !self.is_plain {
            let run = |(bytes, wire_len): &Packet<'_>, _: &mut u32, _: &mut u32| {
                Some(self.run(bytes, *wire_len) != 0)
            };
            return together.each(all, run).0;
        }
        if self.instructions.len() <= SHORTER {
            self.pass::<SHORTER>(&mut together, all)
        } else {
            self.pass::<SHORT>(&mut together, all)
        }
    }

    /// One pass through a plain program of at most `PLACES` instructions.
    fn pass<const PLACES: usize>(&self, together: &mut Together<'_, '_>, all: u64) -> u64 {
        // The packets that have come to each instruction.
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
            // Where there is no branch, whoever is not gone goes on with what follows.
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
    /// Keeps what was loaded, and tests it.
    #[inline(always)]
    fn keep(&self, loaded: u32, accumulator: &mut u32) -> Option<bool> {
        *accumulator = loaded;
        Some(self.holds(loaded))
    }
}

impl Instruction {
    /// The registers after an instruction that does no more than change them: accumulator and index.
    fn registers(self, bytes: &[u8], wire_len: u32, accumulator: u32, index: u32) -> Option<(u32, u32)> {
        Some(match self {
            Self::Load { width, at } => (load(bytes, width, at as usize)?, index),
            Self::LoadIndexed { width, at } => (load(bytes, width, offset(at, index)?)?, index),
            Self::LoadConstant(constant) => (constant, index),
            Self::LoadLength => (wire_len, index),
            Self::IndexConstant(constant) => (accumulator, constant),
            Self::IndexLength => (accumulator, wire_len),
            Self::IndexHeader(at) => (accumulator, header(bytes, at)?),
            Self::Compute(alu, operand) => (alu.of(accumulator, operand.value(index))?, index),
            Self::Negate => (accumulator.wrapping_neg(), index),
            Self::IndexFromAccumulator => (accumulator, accumulator),
            Self::AccumulatorFromIndex => (index, index),
            // The others go elsewhere or use memory.
            _ => return None,
        })
    }

    fn has_memory(&self) -> bool {
        matches!(self, Self::LoadMemory(_) | Self::IndexMemory(_) | Self::Store(_) | Self::StoreIndex(_))
    }

    /// One instruction for two in a row, where there is one.
    fn join(first: Self, second: Self) -> Option<Self> {
        let Self::Branch { test, operand: Operand::Constant(constant), branch: Branch { yes, no } } = second
        else {
            return None;
        };
        // Of a mask none of whose bits is there, the value is 0.
        let (mask, value, branch) = match test {
            Test::Equal => (u32::MAX, constant, Branch { yes, no }),
            Test::AnyBit => (constant, 0, Branch { yes: no, no: yes }),
            Test::Greater | Test::GreaterOrEqual => return None,
        };
        match first {
            Self::Load { width, at } => Some(Self::If(Masked { width, at, mask, value, branch })),
            Self::LoadIndexed { width, at } => {
                Some(Self::IfIndexed(Masked { width, at, mask, value, branch }))
            }
            _ => None,
        }
    }
}

impl Masked {
    fn holds(&self, loaded: u32) -> bool {
        loaded & self.mask == self.value
    }
}

impl Branch {
    fn on(self, outcome: bool) -> usize {
        usize::from(if outcome { self.yes } else { self.no })
    }
}

impl Test {
    fn holds(self, accumulator: u32, operand: u32) -> bool {
        match self {
            Self::Equal => accumulator == operand,
            Self::Greater => accumulator > operand,
            Self::GreaterOrEqual => accumulator >= operand,
            Self::AnyBit => accumulator & operand != 0,
        }
    }
}

impl Operand {
    fn value(self, index: u32) -> u32 {
        match self {
            Self::Constant(constant) => constant,
            Self::Index => index,
        }
    }
}

impl Alu {
    /// `None` for a division by 0, at which the machine gives up.
    fn of(self, a: u32, b: u32) -> Option<u32> {
        Some(match self {
            Self::Add => a.wrapping_add(b),
            Self::Sub => a.wrapping_sub(b),
            Self::Mul => a.wrapping_mul(b),
            Self::Div => a.checked_div(b)?,
            Self::Mod => a.checked_rem(b)?,
            Self::Or => a | b,
            Self::And => a & b,
            Self::Xor => a ^ b,
            // libpcap's machine has nothing left of what is shifted by its width or more.
            Self::Shl => a.checked_shl(b).unwrap_or(0),
            Self::Shr => a.checked_shr(b).unwrap_or(0),
        })
    }
}

/// Bytes as the network has them.
#[inline]
fn load(bytes: &[u8], width: Width, at: usize) -> Option<u32> {
    match width {
        Width::Byte => byte(bytes, at),
        Width::Half => half(bytes, at),
        Width::Word => word(bytes, at),
    }
}

#[inline]
fn byte(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at).map(|byte| u32::from(*byte))
}

#[inline]
fn half(bytes: &[u8], at: usize) -> Option<u32> {
    let half = bytes.get(at..at.checked_add(2)?)?.first_chunk()?;
    Some(u16::from_be_bytes(*half).into())
}

#[inline]
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?.first_chunk()?;
    Some(u32::from_be_bytes(*word))
}

/// Four times the low half of a byte.
#[inline]
fn header(bytes: &[u8], at: u32) -> Option<u32> {
    Some((byte(bytes, at as usize)? & 0x0f) * 4)
}

/// A place that does not wrap around.
#[inline]
fn offset(at: u32, index: u32) -> Option<usize> {
    (at as usize).checked_add(index as usize)
}

/// The parts of an opcode, as `pcap/bpf.h` has them.
mod opcode {
    pub(super) const CLASS: u16 = 0x07;
    pub(super) const LD: u16 = 0x00;
    pub(super) const LDX: u16 = 0x01;
    pub(super) const ST: u16 = 0x02;
    pub(super) const STX: u16 = 0x03;
    pub(super) const ALU: u16 = 0x04;
    pub(super) const JMP: u16 = 0x05;
    pub(super) const RET: u16 = 0x06;
    pub(super) const MISC: u16 = 0x07;
    pub(super) const SIZE: u16 = 0x18;
    pub(super) const W: u16 = 0x00;
    pub(super) const H: u16 = 0x08;
    pub(super) const B: u16 = 0x10;
    pub(super) const MODE: u16 = 0xe0;
    pub(super) const IMM: u16 = 0x00;
    pub(super) const ABS: u16 = 0x20;
    pub(super) const IND: u16 = 0x40;
    pub(super) const MEM: u16 = 0x60;
    pub(super) const LEN: u16 = 0x80;
    pub(super) const MSH: u16 = 0xa0;
    pub(super) const OP: u16 = 0xf0;
    pub(super) const X: u16 = 0x08;
    pub(super) const A: u16 = 0x10;
    pub(super) const RVAL: u16 = 0x18;
    pub(super) const MISC_OP: u16 = 0xf8;
    pub(super) const TXA: u16 = 0x80;
    pub(super) const ALL: u16 = 0xff;
}

fn decode(at: usize, Encoded { code, jt, jf, k }: Encoded) -> Result<Instruction, Invalid> {
    use opcode as op;
    let unknown = Invalid::Opcode { at, code };
    if code > op::ALL {
        return Err(unknown);
    }
    let word = || u8::try_from(k).ok().filter(|k| usize::from(*k) < WORDS).ok_or(Invalid::Memory { at });
    let target = |offset: i32| {
        let target = (at + 1).checked_add_signed(offset as isize);
        target.and_then(|target| u16::try_from(target).ok()).ok_or(Invalid::Jump { at })
    };
    let operand = if code & op::X == 0 { Operand::Constant(k) } else { Operand::Index };
    let (size, mode) = (code & op::SIZE, code & op::MODE);
    Ok(match code & op::CLASS {
        op::LD => match (mode, size) {
            (op::IMM, op::W) => Instruction::LoadConstant(k),
            (op::MEM, op::W) => Instruction::LoadMemory(word()?),
            (op::LEN, op::W) => Instruction::LoadLength,
            (op::ABS | op::IND, _) => {
                let width = match size {
                    op::W => Width::Word,
                    op::H => Width::Half,
                    op::B => Width::Byte,
                    _ => return Err(unknown),
                };
                if mode == op::ABS {
                    Instruction::Load { width, at: k }
                } else {
                    Instruction::LoadIndexed { width, at: k }
                }
            }
            _ => return Err(unknown),
        },
        op::LDX => match (mode, size) {
            (op::IMM, op::W) => Instruction::IndexConstant(k),
            (op::MEM, op::W) => Instruction::IndexMemory(word()?),
            (op::LEN, op::W) => Instruction::IndexLength,
            (op::MSH, op::B) => Instruction::IndexHeader(k),
            _ => return Err(unknown),
        },
        op::ST if code == op::ST => Instruction::Store(word()?),
        op::STX if code == op::STX => Instruction::StoreIndex(word()?),
        op::ALU => {
            let alu = match code & op::OP {
                0x00 => Alu::Add,
                0x10 => Alu::Sub,
                0x20 => Alu::Mul,
                0x30 => Alu::Div,
                0x40 => Alu::Or,
                0x50 => Alu::And,
                0x60 => Alu::Shl,
                0x70 => Alu::Shr,
                0x80 => return Ok(Instruction::Negate),
                0x90 => Alu::Mod,
                0xa0 => Alu::Xor,
                _ => return Err(unknown),
            };
            if matches!(alu, Alu::Div | Alu::Mod) && operand == Operand::Constant(0) {
                return Err(Invalid::Division { at });
            }
            Instruction::Compute(alu, operand)
        }
        op::JMP => {
            let test = match code & op::OP {
                0x00 => return Ok(Instruction::Jump(target(k.cast_signed())?)),
                0x10 => Test::Equal,
                0x20 => Test::Greater,
                0x30 => Test::GreaterOrEqual,
                0x40 => Test::AnyBit,
                _ => return Err(unknown),
            };
            let branch = Branch { yes: target(jt.into())?, no: target(jf.into())? };
            Instruction::Branch { test, operand, branch }
        }
        op::RET => match code & op::RVAL {
            0 => Instruction::Return(k),
            op::A => Instruction::ReturnAccumulator,
            _ => return Err(unknown),
        },
        op::MISC => match code & op::MISC_OP {
            0 => Instruction::IndexFromAccumulator,
            op::TXA => Instruction::AccumulatorFromIndex,
            _ => return Err(unknown),
        },
        _ => return Err(unknown),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn encoded(code: u16, jt: u8, jf: u8, k: u32) -> Encoded {
        Encoded { code, jt, jf, k }
    }

    const ACCEPT: Encoded = encoded(0x06, 0, 0, 262_144);
    const REJECT: Encoded = encoded(0x06, 0, 0, 0);

    fn run(program: &[Encoded], bytes: &[u8], wire_len: u32) -> u32 {
        let program = Program::new(program).expect("a valid program");
        let alone = program.run(bytes, wire_len);
        // Between packets that are empty.
        let mut packets: [Packet<'_>; TOGETHER] = [(&[], 0); TOGETHER];
        packets[7] = (bytes, wire_len);
        assert_eq!(program.run_together(&packets, TOGETHER) >> 7 & 1 == 1, alone != 0);
        alone
    }

    /// What `tcpdump -ddd tcp port 443` gives for Ethernet, but for IPv6.
    fn tcp_port_443() -> Vec<Encoded> {
        vec![
            encoded(0x28, 0, 0, 12),
            encoded(0x15, 0, 8, 0x0800),
            encoded(0x30, 0, 0, 23),
            encoded(0x15, 0, 6, 6),
            encoded(0x28, 0, 0, 20),
            encoded(0x45, 4, 0, 0x1fff),
            encoded(0xb1, 0, 0, 14),
            encoded(0x48, 0, 0, 14),
            encoded(0x15, 0, 1, 443),
            ACCEPT,
            REJECT,
        ]
    }

    fn tcp_packet(options: usize, port: u16) -> Vec<u8> {
        let mut packet = vec![0; 14 + 20 + options + 20];
        packet[12..14].copy_from_slice(&[8, 0]);
        packet[14] = 0x45 + u8::try_from(options / 4).unwrap();
        packet[23] = 6;
        packet[14 + 20 + options..][..2].copy_from_slice(&port.to_be_bytes());
        packet
    }

    #[test]
    fn a_filter_of_the_usual_kind_tells_packets_apart() {
        let program = tcp_port_443();
        for options in [0, 4, 40] {
            assert_eq!(run(&program, &tcp_packet(options, 443), 60), 262_144);
            assert_eq!(run(&program, &tcp_packet(options, 444), 60), 0);
        }
        let mut fragment = tcp_packet(0, 443);
        fragment[21] = 1;
        assert_eq!(run(&program, &fragment, 60), 0);
    }

    #[test]
    fn what_is_not_at_hand_does_not_match() {
        let packet = tcp_packet(8, 443);
        for len in 0..14 + 20 + 8 + 2 {
            assert_eq!(run(&tcp_port_443(), &packet[..len], 60), 0, "{len} bytes");
        }
        // A place behind all there can be.
        let far = [encoded(0x01, 0, 0, u32::MAX), encoded(0x40, 0, 0, u32::MAX), ACCEPT];
        assert_eq!(run(&far, &packet, 60), 0);
    }

    #[test]
    fn length_is_that_on_the_wire() {
        let longer_than_99 = [encoded(0x80, 0, 0, 0), encoded(0x25, 0, 1, 99), ACCEPT, REJECT];
        assert_eq!([run(&longer_than_99, &[0; 20], 100), run(&longer_than_99, &[0; 20], 99)], [262_144, 0]);
    }

    #[test]
    fn each_computation_is_that_of_32_bits() {
        let with = |code: u16, a: u32, k: u32| {
            run(&[encoded(0x00, 0, 0, a), encoded(code, 0, 0, k), encoded(0x16, 0, 0, 0)], &[], 0)
        };
        assert_eq!(with(0x04, u32::MAX, 2), 1);
        assert_eq!(with(0x14, 1, 2), u32::MAX);
        assert_eq!(with(0x24, 1 << 31, 2), 0);
        assert_eq!([with(0x34, 7, 2), with(0x94, 7, 2)], [3, 1]);
        assert_eq!([with(0x44, 5, 2), with(0x54, 7, 2), with(0xa4, 7, 2)], [7, 2, 5]);
        assert_eq!(
            [with(0x64, 1, 4), with(0x74, 16, 4), with(0x64, 1, 32), with(0x74, 1, 99)],
            [16, 1, 0, 0]
        );
        assert_eq!(with(0x84, 1, 0), u32::MAX);
    }

    #[test]
    fn registers_and_memory_keep_what_they_are_given() {
        // M[3] = 7; X = 5; M[4] = X; A = M[3]; X = M[4]; A -= X; X = A; A = 0; A = X; A == X?
        let program = [
            encoded(0x00, 0, 0, 7),
            encoded(0x02, 0, 0, 3),
            encoded(0x01, 0, 0, 5),
            encoded(0x03, 0, 0, 4),
            encoded(0x60, 0, 0, 3),
            encoded(0x61, 0, 0, 4),
            encoded(0x1c, 0, 0, 0),
            encoded(0x07, 0, 0, 0),
            encoded(0x00, 0, 0, 0),
            encoded(0x87, 0, 0, 0),
            encoded(0x1d, 0, 1, 0),
            encoded(0x16, 0, 0, 0),
            REJECT,
        ];
        assert_eq!(run(&program, &[], 0), 2);
    }

    #[test]
    fn an_index_of_0_divides_nothing() {
        assert_eq!(run(&[encoded(0x00, 0, 0, 8), encoded(0x3c, 0, 0, 0), ACCEPT], &[], 0), 0);
    }

    #[test]
    fn a_jump_may_lead_between_a_load_and_its_test() {
        // A = 9, then over the load: 9 is not what is at 0, but it is what is asked for.
        let program = [
            encoded(0x00, 0, 0, 9),
            encoded(0x05, 0, 0, 1),
            encoded(0x30, 0, 0, 0),
            encoded(0x15, 0, 1, 9),
            ACCEPT,
            REJECT,
        ];
        assert_eq!(run(&program, &[1], 1), 262_144);
    }

    #[test]
    fn jumps_lead_back_but_not_for_ever() {
        // A += 1 until it is 5, from an index that counts along; then the same without an end.
        let until = |end: u32| {
            [
                encoded(0x00, 0, 0, 0),
                encoded(0x04, 0, 0, 1),
                encoded(0x15, 1, 0, end),
                encoded(0x05, 0, 0, (-3_i32).cast_unsigned()),
                encoded(0x16, 0, 0, 0),
            ]
        };
        assert_eq!([run(&until(5), &[], 0), run(&until(LOOPS), &[], 0)], [5, LOOPS]);
        assert_eq!([run(&until(u32::MAX), &[], 0), run(&until(0), &[], 0)], [0, 0]);
    }

    #[test]
    fn what_could_not_be_run_to_an_end_is_refused() {
        let refused = |program: &[Encoded]| Program::new(program).expect_err("refused");
        assert_eq!(refused(&[]), Invalid::End);
        assert_eq!(refused(&[encoded(0x00, 0, 0, 1)]), Invalid::End);
        assert_eq!(refused(&[encoded(0x05, 0, 0, 1), REJECT]), Invalid::Jump { at: 0 });
        assert_eq!(refused(&[encoded(0x05, 0, 0, 1 << 20), REJECT]), Invalid::Jump { at: 0 });
        assert_eq!(
            refused(&[encoded(0x05, 0, 0, (-2_i32).cast_unsigned()), REJECT]),
            Invalid::Jump { at: 0 }
        );
        assert_eq!(refused(&[encoded(0x15, 0, 1, 0), REJECT]), Invalid::Jump { at: 0 });
        assert_eq!(refused(&[encoded(0x02, 0, 0, 16), REJECT]), Invalid::Memory { at: 0 });
        assert_eq!(refused(&[encoded(0x34, 0, 0, 0), REJECT]), Invalid::Division { at: 0 });
        for code in [0x38, 0x08, 0xb4, 0x65, 0x1e, 0x0f, 0x62, 0x100, 0xffff] {
            assert_eq!(refused(&[encoded(code, 0, 0, 1), REJECT]), Invalid::Opcode { at: 0, code });
        }
        assert_eq!(refused(&vec![REJECT; 70_000]), Invalid::Long(70_000));
    }

    proptest::proptest! {
        #[test]
        fn any_program_over_any_bytes_is_refused_or_ends(
            program in proptest::collection::vec((0..0x100_u16, 0..4_u8, 0..4_u8, 0..64_u32), 1..20),
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..80),
            wire_len: u32,
        ) {
            let mut program: Vec<_> =
                program.into_iter().map(|(code, jt, jf, k)| encoded(code, jt, jf, k)).collect();
            program.push(ACCEPT);
            if let Ok(program) = Program::new(&program) {
                let packets: [Packet<'_>; TOGETHER] =
                    std::array::from_fn(|number| (bytes.get(number..).unwrap_or_default(), wire_len));
                let together = program.run_together(&packets, TOGETHER);
                for (number, (bytes, wire_len)) in packets.into_iter().enumerate() {
                    proptest::prop_assert_eq!(together >> number & 1 == 1, program.run(bytes, wire_len) != 0);
                }
            }
        }

        #[test]
        fn only_as_many_packets_match_as_there_are(count in 0..=TOGETHER) {
            let program = Program::new(&[ACCEPT]).expect("a valid program");
            let matched = program.run_together(&[(&[], 0); TOGETHER], count);
            proptest::prop_assert_eq!(matched.count_ones() as usize, count);
            proptest::prop_assert_eq!(matched.trailing_ones() as usize, count);
        }
    }
}
