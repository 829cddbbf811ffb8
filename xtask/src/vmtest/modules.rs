//! Kernel modules in load order, by their dependencies.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use object::{Object as _, ObjectSection as _};

use crate::process;

/// A module, decompressed.
#[derive(Debug)]
pub(super) struct Module {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

/// Those of `wanted` that this kernel has, each after its dependencies.
///
/// # Errors
/// If a module cannot be read, or depends on one that is not there.
pub(super) fn in_order(folder: &Path, wanted: &[&str]) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    collect(folder, &mut files)?;
    let builtin = fs::read_to_string(folder.join("modules.builtin")).unwrap_or_default();
    let builtin: Vec<_> = builtin.lines().filter_map(|line| name_of(Path::new(line))).collect();
    let mut order = Vec::new();
    for &name in wanted {
        // Tests that need a missing driver report that.
        if files.contains_key(name) {
            add(name, &files, &builtin, &mut order)?;
        }
    }
    Ok(order)
}

fn add(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    builtin: &[String],
    order: &mut Vec<Module>,
) -> Result<()> {
    if order.iter().any(|module| module.name == name) || builtin.iter().any(|there| there == name) {
        return Ok(());
    }
    let file = files.get(name).with_context(|| format!("there is no module {name}"))?;
    let bytes = read(file)?;
    for needed in depends(&bytes).with_context(|| format!("{} is no module", file.display()))? {
        add(&needed, files, builtin, order)?;
    }
    order.push(Module { name: name.to_owned(), bytes });
    Ok(())
}

fn collect(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&path, files)?;
        } else if let Some(name) = name_of(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// `virtio_net` of `…/virtio_net.ko.xz`; module names have `_` where file names may have `-`.
fn name_of(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let (name, rest) = file.split_once(".ko")?;
    matches!(rest, "" | ".xz" | ".zst" | ".gz").then(|| name.replace('-', "_"))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let tool = match file.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(file).with_context(|| format!("cannot read {}", file.display())),
    };
    let mut command = Command::new(tool);
    command.arg("-dc").arg(file);
    let output =
        command.output().with_context(|| format!("cannot start `{}`", process::display(&command)))?;
    if !output.status.success() {
        bail!("`{}` failed: {}", process::display(&command), output.status);
    }
    Ok(output.stdout)
}

/// The names after `depends=` in the section `.modinfo`.
fn depends(module: &[u8]) -> Result<Vec<String>> {
    let file = object::File::parse(module).context("cannot read the ELF file")?;
    let section = file.section_by_name(".modinfo").context("it has no section .modinfo")?;
    Ok(depends_in(section.data().context("cannot read .modinfo")?))
}

fn depends_in(modinfo: &[u8]) -> Vec<String> {
    let fields = modinfo.split(|byte| *byte == 0).filter_map(|field| str::from_utf8(field).ok());
    let names = fields.filter_map(|field| field.strip_prefix("depends=")).flat_map(|names| names.split(','));
    names.filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_names_are_derived_from_file_names() {
        assert_eq!(name_of(Path::new("kernel/net/veth.ko")).as_deref(), Some("veth"));
        assert_eq!(name_of(Path::new("i2c-algo-bit.ko.xz")).as_deref(), Some("i2c_algo_bit"));
        assert_eq!(name_of(Path::new("modules.dep")), None);
    }

    #[test]
    fn dependencies_of_a_module_are_read_from_modinfo() {
        assert_eq!(
            depends_in(b"license=GPL\0depends=i2c-algo-bit,dca,ptp\0name=igb\0"),
            ["i2c_algo_bit", "dca", "ptp"]
        );
        assert!(depends_in(b"depends=\0").is_empty());
    }
}
