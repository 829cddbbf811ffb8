//! Instructions and their effects.

/// Width of a load.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Width {
    Byte,
    Half,
    Word,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Alu {
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
pub(super) enum Test {
    Equal,
    Greater,
    GreaterOrEqual,
    AnyBit,
}

/// The operand of a comparison or computation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Operand {
    Constant(u32),
    Index,
}

/// The next instruction by the result of a test.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Branch {
    pub(super) yes: u16,
    pub(super) no: u16,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Instruction {
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
    /// Four times the low four bits of a byte: the length of an IPv4 header.
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
    /// The same after [`LoadIndexed`](Self::LoadIndexed).
    IfIndexed(Masked),
}

/// A load, and a test of the loaded value under a mask.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Masked {
    pub(super) width: Width,
    pub(super) at: u32,
    pub(super) mask: u32,
    pub(super) value: u32,
    pub(super) branch: Branch,
}

impl Instruction {
    pub(super) fn has_memory(&self) -> bool {
        matches!(self, Self::LoadMemory(_) | Self::IndexMemory(_) | Self::Store(_) | Self::StoreIndex(_))
    }

    /// One instruction for two consecutive ones, if there is one.
    pub(super) fn join(first: Self, second: Self) -> Option<Self> {
        let Self::Branch { test, operand: Operand::Constant(constant), branch: Branch { yes, no } } = second
        else {
            return None;
        };
        // Under a mask with none of the loaded bits, the value is 0.
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
    pub(super) fn holds(&self, loaded: u32) -> bool {
        loaded & self.mask == self.value
    }
}

impl Branch {
    pub(super) fn on(self, outcome: bool) -> usize {
        usize::from(if outcome { self.yes } else { self.no })
    }
}

impl Test {
    pub(super) fn holds(self, accumulator: u32, operand: u32) -> bool {
        match self {
            Self::Equal => accumulator == operand,
            Self::Greater => accumulator > operand,
            Self::GreaterOrEqual => accumulator >= operand,
            Self::AnyBit => accumulator & operand != 0,
        }
    }
}

impl Operand {
    pub(super) fn value(self, index: u32) -> u32 {
        match self {
            Self::Constant(constant) => constant,
            Self::Index => index,
        }
    }
}

impl Alu {
    /// `None` for a division by 0, which ends the program.
    pub(super) fn of(self, a: u32, b: u32) -> Option<u32> {
        Some(match self {
            Self::Add => a.wrapping_add(b),
            Self::Sub => a.wrapping_sub(b),
            Self::Mul => a.wrapping_mul(b),
            Self::Div => a.checked_div(b)?,
            Self::Mod => a.checked_rem(b)?,
            Self::Or => a | b,
            Self::And => a & b,
            Self::Xor => a ^ b,
            // As in libpcap, a shift by the width or more gives 0.
            Self::Shl => a.checked_shl(b).unwrap_or(0),
            Self::Shr => a.checked_shr(b).unwrap_or(0),
        })
    }
}

/// Loads bytes in network byte order.
#[inline]
pub(super) fn load(bytes: &[u8], width: Width, at: usize) -> Option<u32> {
    match width {
        Width::Byte => byte(bytes, at),
        Width::Half => half(bytes, at),
        Width::Word => word(bytes, at),
    }
}

#[inline]
pub(super) fn byte(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at).map(|byte| u32::from(*byte))
}

#[inline]
pub(super) fn half(bytes: &[u8], at: usize) -> Option<u32> {
    let half = bytes.get(at..at.checked_add(2)?)?.first_chunk()?;
    Some(u16::from_be_bytes(*half).into())
}

#[inline]
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?.first_chunk()?;
    Some(u32::from_be_bytes(*word))
}

/// Four times the low four bits of a byte.
#[inline]
pub(super) fn header(bytes: &[u8], at: u32) -> Option<u32> {
    Some((byte(bytes, at as usize)? & 0x0f) * 4)
}

/// An offset that does not wrap around.
#[inline]
pub(super) fn offset(at: u32, index: u32) -> Option<usize> {
    (at as usize).checked_add(index as usize)
}

impl Instruction {
    /// The registers, accumulator and index, after an instruction that only changes these.
    pub(super) fn registers(
        self,
        bytes: &[u8],
        wire_len: u32,
        accumulator: u32,
        index: u32,
    ) -> Option<(u32, u32)> {
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
            // The others jump or use memory.
            _ => return None,
        })
    }
}
