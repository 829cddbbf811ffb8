//! Decodes opcodes.

use super::{
    Encoded, Invalid, WORDS,
    instruction::{Alu, Branch, Instruction, Operand, Test, Width},
};

/// The fields of an opcode, from `pcap/bpf.h`.
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

/// Decodes an instruction.
pub(super) fn decode(at: usize, Encoded { code, jt, jf, k }: Encoded) -> Result<Instruction, Invalid> {
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
