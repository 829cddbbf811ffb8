//! User data: by cloud-init's own schema, its scripts by shellcheck, filled in by the template that has it,
//! and the configuration in it by `mirror config check`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{files, read, tools};
use crate::{host, pins, process, programs};

/// Modules in use. cloud-init ignores a name that it does not know.
const MODULES: [&str; 3] = ["packages", "runcmd", "write_files"];
const TARGET: &str = "deploy/cloud-init/target.yaml";
const LIFECYCLE_TEST: &str = include_str!("lifecycle_test.sh");
const LIFECYCLE: &str = include_str!("lifecycle_test.expected");
/// What a target of the fleet gets, filled in, as it was last looked at.
const FLEET: &str = include_str!("user_data_fleet.expected");
const CONFIGURATION: &str = "/etc/mirror/mirror.toml";

/// # Errors
/// If a file is not valid, or a template has another text or other names.
pub(super) fn check(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let read = files(root, "deploy/cloud-init")?;
    let texts: BTreeMap<_, _> = read
        .iter()
        .map(|path| Ok((path.clone(), fs::read_to_string(root.join(path))?)))
        .collect::<Result<_>>()
        .context("cannot read user data")?;
    let target = texts.get(Path::new(TARGET)).with_context(|| format!("there is no {TARGET}"))?;
    in_terraform(root, target)?;
    let mut filled_in = in_cloudformation(root, target, &texts)?;
    filled_in.extend(texts.iter().filter(|(_, text)| text.as_str() != target).map(|(path, text)| {
        (path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), text.clone())
    }));
    valid(&filled_in)?;
    as_expected(filled_in.get("fleet").context("the fleet has no user data")?)?;
    Ok(read.into_iter().collect())
}

/// Whoever changes a template or its defaults sees what targets get by that.
fn as_expected(fleet: &str) -> Result<()> {
    if fleet == FLEET {
        return Ok(());
    }
    let now = tools::folder().join("user_data_fleet.expected");
    fs::write(&now, fleet).with_context(|| format!("cannot write {}", now.display()))?;
    let differs = fleet.lines().zip(FLEET.lines()).find(|(now, before)| now != before);
    bail!(
        "the fleet's user data changes at {differs:?}: if {} is what targets are to get, copy it to \
        xtask/src/deploy",
        now.display()
    )
}

/// The names in `${…}`.
fn names(text: &str) -> BTreeSet<&str> {
    text.split("${").skip(1).filter_map(|part| part.split_once('}')).map(|(name, _)| name).collect()
}

/// Each call of `templatefile` has a value for every name, or Terraform refuses the plan.
fn in_terraform(root: &Path, target: &str) -> Result<()> {
    let mut calls = 0;
    for (path, document) in read::below(root, "deploy/terraform", "tf")? {
        for resource in document["resource"].as_array().into_iter().flatten() {
            let Some(text) =
                resource["body"]["user_data"].as_str().filter(|text| text.contains("templatefile"))
            else {
                continue;
            };
            calls += 1;
            let given: BTreeSet<_> =
                text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
            for name in names(target) {
                ensure!(given.contains(name), "{}: user data without a value for {name}", path.display());
            }
        }
    }
    ensure!(calls > 0, "no user data below deploy/terraform");
    Ok(())
}

/// CloudFormation cannot include a file, so its templates have copies. Returns them filled in, by template.
fn in_cloudformation(
    root: &Path,
    target: &str,
    texts: &BTreeMap<PathBuf, String>,
) -> Result<BTreeMap<String, String>> {
    let mut filled_in = BTreeMap::new();
    for (path, template) in read::below(root, "deploy/cloudformation", "yaml")? {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for resource in template["Resources"].as_object().into_iter().flatten().map(|(_, resource)| resource)
        {
            let properties = &resource["Properties"];
            let data = [&properties["UserData"], &properties["LaunchTemplateData"]["UserData"]];
            let Some(data) = data.into_iter().find(|data| !data.is_null()) else { continue };
            match (&data["Fn::Base64"], &data["Fn::Base64"]["Fn::Sub"]) {
                (Value::String(text), _) => ensure!(
                    texts.values().any(|known| known == text),
                    "{}: the user data is that of no file in deploy/cloud-init",
                    path.display()
                ),
                (_, substituted) => {
                    let (text, values) = (substituted[0].as_str().unwrap_or_default(), &substituted[1]);
                    ensure!(text == target, "{}: the user data is not that of {TARGET}", path.display());
                    filled_in.insert(name.clone(), fill_in(target, values, &template).context(name.clone())?);
                }
            }
        }
    }
    ensure!(!filled_in.is_empty(), "no user data below deploy/cloudformation");
    Ok(filled_in)
}

/// As `Fn::Sub` does it, with defaults of parameters, and samples where there is none.
fn fill_in(target: &str, values: &Value, template: &Value) -> Result<String> {
    let mut text = target.to_owned();
    for name in names(target) {
        let (parameter, resource) = (&template["Parameters"][name], &template["Resources"][name]);
        let value = match &values[name] {
            Value::String(value) => value.clone(),
            Value::Null if parameter.is_object() => match &parameter["Default"] {
                Value::String(default) => default.clone(),
                _ => "sample".into(),
            },
            Value::Null if resource.is_null() => bail!("no value for ${{{name}}}"),
            // Another function: of what the values are is known in AWS only.
            _ if name == "SourceCidr" => "10.0.0.0/16".into(),
            _ => "sample".into(),
        };
        text = text.replace(&format!("${{{name}}}"), &value);
    }
    Ok(text)
}

/// What an instance gets: valid for cloud-init, with scripts and a configuration that are valid, too.
fn valid(filled_in: &BTreeMap<String, String>) -> Result<()> {
    let folder = tools::folder().join("user-data");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    let yaml = folder.join("yaml");
    let write = |path: PathBuf, text: &str| -> Result<PathBuf> {
        fs::create_dir_all(path.parent().unwrap_or(&folder))?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    };
    for (name, text) in filled_in {
        cloud_init(&write(yaml.join(format!("{name}.yaml")), text)?)?;
    }
    let mirror = programs::build(&[], false)?.mirror;
    let (mut scripts, mut configurations) = (Vec::new(), 0);
    for (path, document) in read::below(&folder, "yaml", "yaml")? {
        let unknown =
            document.as_object().into_iter().flatten().find(|(key, _)| !MODULES.contains(&key.as_str()));
        ensure!(unknown.is_none(), "{}: an unknown module: {unknown:?}", path.display());
        let name = path.file_stem().unwrap_or_default();
        for file in document["write_files"].as_array().into_iter().flatten() {
            let (Some(to), Some(text)) = (file["path"].as_str(), file["content"].as_str()) else { continue };
            let copy = folder.join(name).join(to.trim_start_matches('/'));
            if text.starts_with("#!") {
                scripts.push(write(copy, text)?);
            } else if to == CONFIGURATION {
                configurations += 1;
                accepted(&mirror, &write(copy, text)?)?;
            }
        }
    }
    ensure!(!scripts.is_empty() && configurations > 0, "no script or no configuration in the user data");
    shellcheck(&scripts)?;
    let lifecycle = scripts.iter().find(|path| path.ends_with("usr/local/sbin/mirror-lifecycle"));
    drains(lifecycle.context("no mirror-lifecycle in the user data")?, &folder)?;
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
}

/// The script before an instance goes, with stubs in place of the commands that it runs.
fn drains(script: &Path, folder: &Path) -> Result<()> {
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", LIFECYCLE_TEST, "bash"]).arg(script).arg(folder.join("stubs"));
    let ran = tools::quietly(&mut command).context("mirror-lifecycle")?;
    ensure!(ran == LIFECYCLE, "mirror-lifecycle ran\n{ran}instead of\n{LIFECYCLE}");
    Ok(())
}

/// cloud-init's own check.
fn cloud_init(file: &Path) -> Result<()> {
    let mut command = Command::new(tools::program(&pins::TEMPLATE_TOOLS, "python"));
    command.args(["-m", "cloudinit.cmd.main", "schema", "--config-file"]).arg(file).current_dir("/");
    command.env("PYTHONPATH", tools::cloud_init().join("usr/lib/python3/dist-packages"));
    tools::quietly(&mut command).map(drop)
}

/// By the command of this workspace.
fn accepted(mirror: &Path, configuration: &Path) -> Result<()> {
    tools::quietly(Command::new(mirror).args(["config", "check"]).arg(configuration)).map(drop)
}

/// # Errors
/// If shellcheck has something to say, or there is none.
pub(super) fn shellcheck(scripts: &[PathBuf]) -> Result<()> {
    let program =
        host::program("shellcheck").context("there is no shellcheck: `cargo xtask setup deploy`")?;
    tools::quietly(Command::new(program).args(["--enable", "quote-safe-variables"]).args(scripts))?;
    process::stopped()
}
