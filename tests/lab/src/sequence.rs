//! Sequence numbers of generated frames, and a ledger that explains each of them.

use std::collections::BTreeMap;

use mirror_ebpf::generator::{SEQUENCE, SEQUENCE_CPU_SHIFT, SEQUENCE_LEN};

use crate::frames::ENCAPSULATION;

/// The number the generator wrote into a frame: which of its threads sent it, and as which one.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Sequence {
    /// The CPU it was sent on.
    pub cpu: u16,
    /// Its place among the frames of that CPU, from 0.
    pub number: u64,
}

impl Sequence {
    /// Reads it from an inner frame; nothing where the frame is too short to hold one.
    pub fn of_inner(frame: &[u8]) -> Option<Self> {
        Self::at(frame, SEQUENCE - ENCAPSULATION)
    }

    /// Reads it from an outer frame.
    pub fn of_outer(frame: &[u8]) -> Option<Self> {
        Self::at(frame, SEQUENCE)
    }

    fn at(frame: &[u8], offset: usize) -> Option<Self> {
        let bytes = frame.get(offset..offset + SEQUENCE_LEN)?.try_into().ok()?;
        let value = u64::from_be_bytes(bytes);
        let cpu = u16::try_from(value >> SEQUENCE_CPU_SHIFT).ok()?;
        Some(Self { cpu, number: value & ((1 << SEQUENCE_CPU_SHIFT) - 1) })
    }
}

/// The sequence numbers received, over one or more receivers: a bit for each.
#[derive(Clone, Debug, Default)]
pub struct SequenceLedger {
    cpus: BTreeMap<u16, Vec<u64>>,
    received: u64,
    duplicates: u64,
    unreadable: u64,
}

impl SequenceLedger {
    /// An empty ledger.
    pub fn new() -> Self {
        Self::default()
    }

    /// Enters an inner frame.
    pub fn inner(&mut self, frame: &[u8]) {
        self.enter(Sequence::of_inner(frame));
    }

    /// Enters an outer frame.
    pub fn outer(&mut self, frame: &[u8]) {
        self.enter(Sequence::of_outer(frame));
    }

    /// Enters a sequence number, or a frame without one.
    pub fn enter(&mut self, sequence: Option<Sequence>) {
        // No run has so many frames; a number beyond is noise, and must not take memory by its size.
        const MAX: u64 = 1 << 32;
        let Some((cpu, number)) =
            sequence.filter(|sequence| sequence.number < MAX).map(|Sequence { cpu, number }| (cpu, number))
        else {
            self.unreadable += 1;
            return;
        };
        let Ok(word) = usize::try_from(number / 64) else { return };
        let bits = self.cpus.entry(cpu).or_default();
        if bits.len() <= word {
            bits.resize(word + 1, 0);
        }
        let bit = 1 << (number % 64);
        if bits[word] & bit == 0 {
            bits[word] |= bit;
            self.received += 1;
        } else {
            self.duplicates += 1;
        }
    }

    /// Merges the ledger of another receiver.
    pub fn merge(&mut self, other: &Self) {
        let Self { cpus, received: _, duplicates, unreadable } = other;
        self.duplicates += duplicates;
        self.unreadable += unreadable;
        for (cpu, theirs) in cpus {
            let ours = self.cpus.entry(*cpu).or_default();
            if ours.len() < theirs.len() {
                ours.resize(theirs.len(), 0);
            }
            for (our, their) in ours.iter_mut().zip(theirs) {
                self.duplicates += u64::from((*our & their).count_ones());
                self.received += u64::from((!*our & their).count_ones());
                *our |= their;
            }
        }
    }

    /// Different sequence numbers that came.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Frames whose number had come before.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Frames without a number.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// Numbers that a CPU's thread sent and that did not come, given how many it sent.
    pub fn missing(&self, cpu: u16, sent: u64) -> Vec<u64> {
        (0..sent).filter(|number| !self.has(Sequence { cpu, number: *number })).collect()
    }

    /// Whether this number came.
    pub fn has(&self, sequence: Sequence) -> bool {
        let word = usize::try_from(sequence.number / 64).ok();
        let bits = self.cpus.get(&sequence.cpu).zip(word).and_then(|(bits, word)| bits.get(word));
        bits.is_some_and(|bits| bits >> (sequence.number % 64) & 1 == 1)
    }

    /// Numbers at or above what a CPU's thread sent: none, unless frames were invented.
    pub fn beyond(&self, cpu: u16, sent: u64) -> u64 {
        let Some(bits) = self.cpus.get(&cpu) else { return 0 };
        let all: u64 = bits.iter().map(|word| u64::from(word.count_ones())).sum();
        let within = (0..sent).filter(|number| self.has(Sequence { cpu, number: *number })).count();
        all - within as u64
    }
}
