//! Groups and their sources, which IGMPv3 (RFC 3376 section 4) and MLDv2 (RFC 3810 section 5) have alike.

use super::{
    text::{Address, Printed, Text, put},
    view::View,
};

/// The differences between the two.
#[derive(Clone, Copy)]
pub(super) struct Family {
    address: fn(View<'_>, usize) -> Printed<Address>,
    /// Bytes of an address.
    len: usize,
    /// Version of the protocol.
    version: u8,
}

/// IGMPv3.
pub(super) const IGMP: Family = Family { address: Address::v4, len: 4, version: 3 };
/// MLDv2.
pub(super) const MLD: Family = Family { address: Address::v6, len: 16, version: 2 };

impl Family {
    /// The end of a query: its sources, from byte `at` on.
    pub(super) fn query_sources(
        self,
        text: &mut Text<'_>,
        message: View<'_>,
        at: usize,
        sources: usize,
    ) -> Printed {
        if sources > 0 {
            if message.len() < at + self.len * sources {
                put!(text, " [invalid number of sources]");
            } else if text.style.verbosity > 1 {
                self.put_sources(text, message, at, sources)?;
            } else {
                put!(text, ", {sources} source(s)");
            }
        }
        put!(text, "]");
        Ok(())
    }

    /// A report from its number of records on.
    pub(super) fn records(self, text: &mut Text<'_>, message: View<'_>) -> Printed {
        let records = message.u16(6)?;
        put!(text, ", {records} group record(s)");
        if !text.verbose() {
            return Ok(());
        }
        let head = 4 + self.len;
        let mut record = message.after(8);
        for _ in 0..records {
            if record.len() < head {
                put!(text, " [invalid number of groups]");
                return Ok(());
            }
            put!(text, " [gaddr {} ", (self.address)(record, 4)?);
            self.put_change(text, record.u8(0)?);
            let sources = usize::from(record.u16(2)?);
            let len = head + self.len * sources;
            if record.len() < len {
                put!(text, " [invalid number of sources {sources}]");
                return Ok(());
            }
            if text.style.verbosity == 1 {
                put!(text, ", {sources} source(s)");
            } else {
                self.put_sources(text, record, head, sources)?;
            }
            put!(text, "]");
            record = record.after(len);
        }
        Ok(())
    }

    fn put_sources(self, text: &mut Text<'_>, message: View<'_>, at: usize, sources: usize) -> Printed {
        put!(text, " {{");
        for place in 0..sources {
            put!(text, " {}", (self.address)(message, at + self.len * place)?);
        }
        put!(text, " }}");
        Ok(())
    }

    /// The change of a record.
    fn put_change(self, text: &mut Text<'_>, kind: u8) {
        match kind {
            1 => put!(text, "is_in"),
            2 => put!(text, "is_ex"),
            3 => put!(text, "to_in"),
            4 => put!(text, "to_ex"),
            5 => put!(text, "allow"),
            6 => put!(text, "block"),
            _ => put!(text, " [v{}-report-#{kind}]", self.version),
        }
    }
}
