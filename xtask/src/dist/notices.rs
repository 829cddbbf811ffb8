//! The licences of what is linked into the command.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::{host, process};

const LICENSES: [&str; 4] = ["LICENSE", "LICENCE", "COPYING", "NOTICE"];

/// Names, versions and licences of all dependencies of the command, and each text of a licence once.
///
/// # Errors
/// If cargo does not list them, or a text cannot be read.
pub(super) fn of_dependencies(libpcap_license: &Path) -> Result<String> {
    let mut tree = host::cargo();
    tree.args(["tree", "--locked", "--package", "mirror-user", "--edges", "normal", "--prefix", "none"]);
    let linked = process::output(tree.args(["--format", "{p}|{l}", "--target", "x86_64-unknown-linux-gnu"]))?;
    let mut metadata = host::cargo();
    metadata.args(["metadata", "--format-version", "1", "--locked"]);
    let metadata: serde_json::Value = serde_json::from_str(&process::output(&mut metadata)?)?;
    let packages = metadata["packages"].as_array().context("`cargo metadata` lists no packages")?;
    let mut names = BTreeMap::new();
    for line in linked.lines() {
        let (package, license) = line.split_once('|').context("`cargo tree` prints no licence")?;
        let mut words = package.split_whitespace();
        if let (Some(name), Some(version)) = (words.next(), words.next()) {
            names.insert((name, version.trim_start_matches('v')), license.trim_end_matches(" (*)"));
        }
    }
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut list = String::from("libpcap: BSD-3-Clause\n");
    add(&mut texts, "libpcap".to_owned(), libpcap_license)?;
    for ((name, version), license) in names {
        // Our own.
        let package =
            packages.iter().find(|package| package["name"] == name && package["version"] == version);
        let Some(manifest) = package.filter(|package| !package["source"].is_null()) else { continue };
        list.push_str(&format!("{name} {version}: {license}\n"));
        let manifest = Path::new(manifest["manifest_path"].as_str().unwrap_or_default());
        let Some(folder) = manifest.parent() else { continue };
        for entry in fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?.flatten() {
            let file = entry.file_name().to_string_lossy().to_uppercase();
            if LICENSES.iter().any(|start| file.starts_with(start)) && entry.path().is_file() {
                add(&mut texts, format!("{name} {version}"), &entry.path())?;
            }
        }
    }
    let texts = texts.into_iter().map(|(text, of)| format!("\n---- {} ----\n\n{text}\n", of.join(", ")));
    Ok(list + &texts.collect::<String>())
}

fn add(texts: &mut BTreeMap<String, Vec<String>>, of: String, file: &Path) -> Result<()> {
    let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    texts.entry(String::from_utf8_lossy(&text).trim().to_owned()).or_default().push(of);
    Ok(())
}
