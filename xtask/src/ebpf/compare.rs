//! Compares two BPF objects in what the kernel receives: instructions, relocations, maps, settings and
//! licence. BTF and its line table are ignored: they depend on where the source was, not on what it does.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context as _, Result, bail};
use object::elf::{SHF_ALLOC, SHF_EXECINSTR};
use object::read::elf::ElfFile64;
use object::{
    Endianness, Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionFlags,
    SymbolIndex,
};

/// One BPF instruction; a 64-bit load takes two, and the kernel counts it so too (bpf-helpers(7), struct
/// bpf_insn).
const INSTRUCTION: usize = 8;

/// What was compared, and what was found.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// Instructions in all programs.
    pub(super) instructions: usize,
    /// Relocations in all sections compared.
    pub(super) relocations: usize,
    /// Sections that hold instructions.
    pub(super) programs: usize,
    /// Sections that hold maps, settings and the licence.
    pub(super) other_sections: usize,
    /// Empty where both are the same.
    pub(super) differences: Vec<Difference>,
}

/// A difference between two objects.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Difference {
    /// A section is in one of them only.
    OnlyIn { object: &'static str, section: String },
    /// The first instruction that differs; `None` where one program ends before it.
    Instruction {
        section: String,
        index: usize,
        committed: Option<[u8; INSTRUCTION]>,
        fresh: Option<[u8; INSTRUCTION]>,
    },
    /// The first byte that differs in a section that is no program.
    Byte { section: String, offset: usize },
    /// The first relocation that differs, by what it points to.
    Relocation { section: String, committed: Option<String>, fresh: Option<String> },
    /// A named program, map or setting whose place differs.
    Symbol { section: String, committed: Option<String>, fresh: Option<String> },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".into());
        match self {
            Self::OnlyIn { object, section } => write!(f, "section {section} is only in the {object} object"),
            Self::Instruction { section, index, committed, fresh } => write!(
                f,
                "section {section}, instruction {index}: committed {}, fresh {}",
                hex(committed.as_ref()),
                hex(fresh.as_ref())
            ),
            Self::Byte { section, offset } => write!(f, "section {section} differs from byte {offset} on"),
            Self::Relocation { section, committed, fresh } => {
                write!(
                    f,
                    "section {section}, relocation: committed {}, fresh {}",
                    or_none(committed),
                    or_none(fresh)
                )
            }
            Self::Symbol { section, committed, fresh } => {
                write!(
                    f,
                    "section {section}, symbol: committed {}, fresh {}",
                    or_none(committed),
                    or_none(fresh)
                )
            }
        }
    }
}

fn hex(instruction: Option<&[u8; INSTRUCTION]>) -> String {
    instruction.map_or_else(|| "none".into(), |bytes| bytes.map(|byte| format!("{byte:02x}")).join(" "))
}

/// The parts of a section that the kernel receives.
struct Section {
    program: bool,
    data: Vec<u8>,
    relocations: Vec<String>,
    symbols: Vec<String>,
}

/// Compares the committed object with a new build.
///
/// # Errors
/// If one of them is no readable 64-bit ELF object, or holds no program.
pub(super) fn compare(committed: &[u8], fresh: &[u8]) -> Result<Comparison> {
    let old = sections(committed).context("the committed object")?;
    let mut new = sections(fresh).context("the fresh object")?;
    let mut result = Comparison::default();
    for (section, old) in old {
        let Some(new) = new.remove(&section) else {
            result.differences.push(Difference::OnlyIn { object: "committed", section });
            continue;
        };
        result.relocations += old.relocations.len();
        if old.program {
            result.programs += 1;
            result.instructions += old.data.len() / INSTRUCTION;
        } else {
            result.other_sections += 1;
        }
        result.differences.extend(differences(&section, &old, &new));
    }
    let added = new.into_keys().map(|section| Difference::OnlyIn { object: "fresh", section });
    result.differences.extend(added);
    if result.instructions == 0 && result.differences.is_empty() {
        bail!("neither object holds an instruction");
    }
    Ok(result)
}

fn differences(name: &str, old: &Section, new: &Section) -> Vec<Difference> {
    let section = || name.to_owned();
    let mut found = Vec::new();
    if old.program {
        let (old, new) = (old.data.as_chunks().0, new.data.as_chunks().0);
        if let Some((index, committed, fresh)) = first_difference(old, new) {
            found.push(Difference::Instruction { section: section(), index, committed, fresh });
        }
    } else if let Some((offset, _, _)) = first_difference(&old.data, &new.data) {
        found.push(Difference::Byte { section: section(), offset });
    }
    if let Some((_, committed, fresh)) = first_difference(&old.relocations, &new.relocations) {
        found.push(Difference::Relocation { section: section(), committed, fresh });
    }
    if let Some((_, committed, fresh)) = first_difference(&old.symbols, &new.symbols) {
        found.push(Difference::Symbol { section: section(), committed, fresh });
    }
    found
}

fn first_difference<T: Clone + PartialEq>(old: &[T], new: &[T]) -> Option<(usize, Option<T>, Option<T>)> {
    (0..old.len().max(new.len()))
        .find(|&i| old.get(i) != new.get(i))
        .map(|i| (i, old.get(i).cloned(), new.get(i).cloned()))
}

fn sections(bytes: &[u8]) -> Result<BTreeMap<String, Section>> {
    let file = ElfFile64::<Endianness>::parse(bytes).context("is no 64-bit ELF object")?;
    let mut found = BTreeMap::new();
    for section in file.sections() {
        let SectionFlags::Elf { sh_flags, .. } = section.flags() else { continue };
        // The loader reads allocated sections; `.BTF` and symbols are not allocated.
        if !sh_flags.contains(SHF_ALLOC) {
            continue;
        }
        let name = section.name().context("has a section without a name")?.to_owned();
        let data = section.data().with_context(|| format!("section {name} cannot be read"))?.to_vec();
        let program = sh_flags.contains(SHF_EXECINSTR);
        if program && data.len() % INSTRUCTION != 0 {
            bail!("section {name} has {} bytes, which is no whole number of instructions", data.len());
        }
        let mut relocations = Vec::new();
        for (offset, relocation) in section.relocations() {
            let target = match relocation.target() {
                RelocationTarget::Symbol(index) => target(&file, index)?,
                other => format!("{other:?}"),
            };
            relocations.push(format!("at {offset:#x} {:?} to {target}", relocation.flags()));
        }
        let mut symbols: Vec<_> = file
            .symbols()
            .filter(|symbol| symbol.is_global() && symbol.section_index() == Some(section.index()))
            .map(|symbol| {
                format!(
                    "{} at {:#x}, {} bytes",
                    symbol.name().unwrap_or("?"),
                    symbol.address(),
                    symbol.size()
                )
            })
            .collect();
        symbols.sort();
        if found.insert(name.clone(), Section { program, data, relocations, symbols }).is_some() {
            bail!("has two sections called {name}");
        }
    }
    Ok(found)
}

/// What a symbol refers to; its number may change without effect.
fn target(file: &ElfFile64<'_>, index: SymbolIndex) -> Result<String> {
    let symbol = file.symbol_by_index(index).context("has a relocation to a symbol that is not there")?;
    let name = symbol.name().context("has a symbol without a readable name")?;
    let section = match symbol.section_index() {
        Some(index) => file.section_by_index(index)?.name()?.to_owned(),
        None => "no section".to_owned(),
    };
    Ok(format!("{section}+{:#x} ({})", symbol.address(), if name.is_empty() { "section" } else { name }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host;

    fn committed() -> Vec<u8> {
        std::fs::read(host::workspace().join("mirror-ebpf/objects/mirror.o")).unwrap()
    }

    /// Where in the file `section` starts.
    fn file_offset(object: &[u8], section: &str) -> usize {
        let file = ElfFile64::<Endianness>::parse(object).unwrap();
        let (offset, _) = file.section_by_name(section).unwrap().file_range().unwrap();
        usize::try_from(offset).unwrap()
    }

    #[test]
    fn an_object_is_the_same_as_itself_and_its_instructions_are_counted() {
        let object = committed();
        let comparison = compare(&object, &object).unwrap();
        assert_eq!(comparison.differences, []);
        assert!(comparison.programs >= 3, "{comparison:?}");
        assert!(comparison.instructions > 500 && comparison.relocations > 20, "{comparison:?}");
    }

    #[test]
    fn one_changed_instruction_is_named_with_its_section() {
        let old = committed();
        let mut new = old.clone();
        new[file_offset(&old, "xdp.frags") + 5 * INSTRUCTION + 4] ^= 1;
        let found = compare(&old, &new).unwrap().differences;
        let [Difference::Instruction { section, index: 5, committed: Some(a), fresh: Some(b) }] =
            found.as_slice()
        else {
            panic!("{found:?}")
        };
        assert_eq!(section, "xdp.frags");
        assert_eq!((a[4] ^ b[4], &a[..4], &a[5..]), (1, &b[..4], &b[5..]));
        assert!(found[0].to_string().starts_with("section xdp.frags, instruction 5: committed "));
    }

    #[test]
    fn a_changed_setting_map_or_licence_is_named() {
        let old = committed();
        for section in [".rodata", "maps", "license"] {
            let mut new = old.clone();
            new[file_offset(&old, section) + 3] ^= 1;
            let expected = Difference::Byte { section: section.into(), offset: 3 };
            assert_eq!(compare(&old, &new).unwrap().differences, [expected]);
        }
    }

    #[test]
    fn a_relocation_to_another_map_is_named() {
        let old = committed();
        let mut new = old.clone();
        // The upper half of r_info is the symbol's index (ELF-64, Elf64_Rel).
        let first = file_offset(&old, ".relxdp") + 8 + 4;
        let second = first + 16;
        assert_ne!(old[first], old[second], "the test needs two relocations to different symbols");
        new[first] = old[second];
        let found = compare(&old, &new).unwrap().differences;
        assert!(
            matches!(found.as_slice(), [Difference::Relocation { section, .. }] if section == "xdp"),
            "{found:?}"
        );
    }

    #[test]
    fn debug_information_may_differ() {
        let old = committed();
        let mut new = old.clone();
        // Past the header of BTF, in its types.
        new[file_offset(&old, ".BTF") + 40] ^= 1;
        assert_eq!(compare(&old, &new).unwrap().differences, []);
    }

    #[test]
    fn a_file_that_is_not_an_object_is_an_error() {
        assert!(compare(&committed(), b"not an object").is_err());
        assert!(compare(&[], &[]).is_err());
    }
}
