//! Where fields are in the running kernel's structures, from its BTF (`/sys/kernel/btf/vmlinux`; the format:
//! `Documentation/bpf/btf.rst`). aya-obj keeps the types it reads to itself, and btf-rs is under the LGPL.

/// Types of a kernel, as bytes that are trusted no further than they parse.
pub(super) struct Btf<'a> {
    strings: &'a [u8],
    types: &'a [u8],
    /// Where each type starts in `types`; the first has the number 1.
    starts: Vec<usize>,
}

const MAGIC: u16 = 0xeb9f;
/// Bytes that all types begin with: name, kind and count, size or type.
const COMMON: usize = 12;
/// Bytes of a member: name, type, offset.
const MEMBER: usize = 12;
/// Anonymous structures are searched this deep.
const MAX_DEPTH: u32 = 8;

mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

impl<'a> Btf<'a> {
    /// `None` for bytes that are no BTF of this host's byte order, or have kinds of types unknown here.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        if u16::from_ne_bytes(bytes.first_chunk().copied()?) != MAGIC {
            return None;
        }
        let body = bytes.get(word(bytes, 4)? as usize..)?;
        let section = |at| {
            let (start, len) = (word(bytes, at)? as usize, word(bytes, at + 4)? as usize);
            body.get(start..)?.get(..len)
        };
        let (types, strings) = (section(8)?, section(16)?);
        let mut starts = Vec::new();
        let mut at = 0;
        while at < types.len() {
            starts.push(at);
            let info = word(types, at + 4)?;
            let count = (info & 0xffff) as usize;
            at += COMMON
                + match info >> 24 & 0x1f {
                    kind::INT | kind::VAR | kind::DECL_TAG => 4,
                    kind::ARRAY => 12,
                    kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => count * 12,
                    kind::ENUM | kind::FUNC_PROTO => count * 8,
                    0..=kind::ENUM64 => 0,
                    _ => return None,
                };
        }
        Some(Self { strings, types, starts })
    }

    /// Offset in bytes of a field of a structure, through the fields of structures inside it.
    pub(super) fn offset_of(&self, structure: &str, path: &[&str]) -> Option<u32> {
        let mut id = (1..).zip(&self.starts).find_map(|(id, &at)| {
            let is_struct = word(self.types, at + 4)? >> 24 & 0x1f == kind::STRUCT;
            (is_struct && self.name(word(self.types, at)?)? == structure.as_bytes()).then_some(id)
        })?;
        let mut bits = 0_u32;
        for name in path {
            let (offset, member) = self.member(id, name.as_bytes(), 0)?;
            bits = bits.checked_add(offset)?;
            id = member;
        }
        bits.is_multiple_of(8).then_some(bits / 8)
    }

    /// A member's offset in bits, and its type. Members of anonymous ones count as those of the outer one.
    fn member(&self, id: u32, name: &[u8], depth: u32) -> Option<(u32, u32)> {
        let at = self.structure(id)?;
        let info = word(self.types, at + 4)?;
        let has_bit_fields = info >> 31 != 0;
        (0..(info & 0xffff) as usize).map(|nth| at + COMMON + nth * MEMBER).find_map(|at| {
            let own = self.name(word(self.types, at)?)?;
            let (id, offset) = (word(self.types, at + 4)?, word(self.types, at + 8)?);
            let offset = if has_bit_fields { offset & 0xff_ffff } else { offset };
            if own == name {
                return Some((offset, id));
            }
            let (inside, id) = own.is_empty().then(|| self.member(id, name, depth + 1))??;
            (depth < MAX_DEPTH).then_some((offset.checked_add(inside)?, id))
        })
    }

    /// Where a structure or union is, behind typedefs and qualifiers.
    fn structure(&self, mut id: u32) -> Option<usize> {
        for _ in 0..MAX_DEPTH {
            let at = *self.starts.get(id.checked_sub(1)? as usize)?;
            match word(self.types, at + 4)? >> 24 & 0x1f {
                kind::STRUCT | kind::UNION => return Some(at),
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::TYPE_TAG => {
                    id = word(self.types, at + 8)?;
                }
                _ => return None,
            }
        }
        None
    }

    fn name(&self, at: u32) -> Option<&'a [u8]> {
        self.strings.get(at as usize..)?.split(|byte| *byte == 0).next()
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INT: u32 = 1;
    const INNER: u32 = 2;

    /// `struct device { int a; struct { int b; struct inner c; }; }` with `struct inner { int d; int e; }`.
    fn example() -> Vec<u8> {
        let names = b"\0int\0inner\0d\0e\0b\0c\0device\0a\0";
        let name = |wanted: &str| {
            let wanted = [wanted.as_bytes(), &[0]].concat();
            let found = names.windows(wanted.len()).position(|part| part == wanted);
            u32::try_from(found.expect("a name")).expect("small")
        };
        let structure = |own: u32, size: u32, members: &[(u32, u32, u32)]| {
            let count = u32::try_from(members.len()).expect("few");
            let fields = members.iter().flat_map(|&(name, id, offset)| [name, id, offset]);
            [own, kind::STRUCT << 24 | count, size].into_iter().chain(fields).collect::<Vec<_>>()
        };
        let types = [
            vec![name("int"), kind::INT << 24, 4, 32],
            structure(name("inner"), 8, &[(name("d"), INT, 0), (name("e"), INT, 32)]),
            structure(0, 12, &[(name("b"), INT, 0), (name("c"), INNER, 32)]),
            structure(name("device"), 16, &[(name("a"), INT, 0), (0, 3, 32)]),
        ]
        .concat();
        let len = |bytes: usize| u32::try_from(bytes).expect("small");
        let header = [24, 0, len(types.len() * 4), len(types.len() * 4), len(names.len())];
        let start = [MAGIC.to_ne_bytes(), [1, 0]].concat();
        let words = header.into_iter().chain(types).flat_map(u32::to_ne_bytes);
        start.into_iter().chain(words).chain(names.iter().copied()).collect()
    }

    #[test]
    fn fields_are_found_in_anonymous_and_named_structures() {
        let bytes = example();
        let btf = Btf::parse(&bytes).expect("BTF");
        assert_eq!(btf.offset_of("device", &["a"]), Some(0));
        assert_eq!(btf.offset_of("device", &["b"]), Some(4));
        assert_eq!(btf.offset_of("device", &["c", "e"]), Some(12));
        assert_eq!(btf.offset_of("device", &["e"]), None, "inside a named one");
        assert_eq!(btf.offset_of("inner", &["d", "e"]), None, "an int has no fields");
        assert_eq!(btf.offset_of("none", &["a"]), None);
    }

    #[test]
    fn damaged_types_are_refused_or_lack_the_field() {
        let bytes = example();
        for len in 0..bytes.len() {
            let cut = Btf::parse(&bytes[..len]);
            assert!(cut.is_none(), "{len} bytes");
        }
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                if let Some(btf) = Btf::parse(&damaged) {
                    let _ = btf.offset_of("device", &["c", "e"]);
                }
            }
        }
    }

    #[test]
    fn the_running_kernel_has_the_fields_of_devices() {
        let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else { return };
        let btf = Btf::parse(&bytes).expect("the kernel's BTF");
        for (structure, path) in super::super::forward::FIELDS {
            let offset = btf.offset_of(structure, path);
            assert!(offset.is_some_and(|offset| offset < 1 << 16), "{structure} {path:?}: {offset:?}");
        }
    }
}
