//! The versions of glibc that a program needs.

use anyhow::{Context as _, Result, ensure};
use object::Endianness;
use object::read::elf::ElfFile64;

const PREFIX: &str = "GLIBC_";

/// The highest version of glibc whose symbols a program uses.
///
/// # Errors
/// If it is no ELF file of 64 bits, or uses no versions at all.
pub(super) fn highest_glibc(program: &[u8]) -> Result<Vec<u32>> {
    let elf = ElfFile64::<Endianness>::parse(program).context("not a program")?;
    let endian = elf.endian();
    let sections = elf.elf_section_table();
    let mut versions = Vec::new();
    if let Some((mut needs, link)) = sections.gnu_verneed(endian, program).context("needed versions")? {
        let strings = sections.strings(endian, program, link).context("names of versions")?;
        while let Some((_, mut entries)) = needs.next().context("needed versions")? {
            while let Some(entry) = entries.next().context("needed versions")? {
                let name = String::from_utf8_lossy(entry.name(endian, strings)?).into_owned();
                versions.extend(name.strip_prefix(PREFIX).and_then(parsed));
            }
        }
    }
    versions.into_iter().max().context("a program without versions of glibc")
}

/// The numbers of a version.
pub(super) fn parsed(version: &str) -> Option<Vec<u32>> {
    version.split('.').map(|number| number.parse().ok()).collect()
}

/// Refuses a program that needs a newer glibc than this.
///
/// # Errors
/// If it does, with both versions.
pub(super) fn refuse_newer(program: &[u8], most: &str) -> Result<()> {
    let highest = highest_glibc(program)?;
    let shown = || highest.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
    let allowed = parsed(most).with_context(|| format!("{most} is no version"))?;
    ensure!(highest <= allowed, "it needs glibc {}, and hosts have {most}", shown());
    eprintln!("dist: needs glibc {}, at most {most}", shown());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_needs_a_newer_glibc_is_refused() {
        // This test itself, which is linked against this host's.
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let highest = highest_glibc(&program).unwrap();
        assert!(highest > vec![2, 2], "{highest:?}");
        refuse_newer(&program, "2.999").unwrap();
        let error = refuse_newer(&program, "2.2").unwrap_err().to_string();
        assert!(error.starts_with("it needs glibc 2.") && error.ends_with("hosts have 2.2"), "{error}");
    }

    #[test]
    fn versions_are_compared_by_number() {
        assert!(parsed("2.9") < parsed("2.26") && parsed("2.26") < parsed("2.26.1"));
        assert_eq!(parsed("PRIVATE"), None);
    }
}
