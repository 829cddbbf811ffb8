//! Terraform's resources and data sources, held to the schema of the AWS provider: each argument exists, and
//! those that are required are there. `provider_schema.json` is a copy for the types in use, because the
//! package that it is from has 392 MB; `cargo xtask deploy schema` renews it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value};

use super::{read, tools};
use crate::{pins, process};

const SCHEMA: &str = include_str!("provider_schema.json");
const SCRIPT: &str = include_str!("provider_schema.py");

/// Arguments that Terraform itself adds to every resource.
const META: [&str; 5] = ["count", "depends_on", "for_each", "lifecycle", "provider"];

/// # Errors
/// If a file is no HCL, or a resource is not as the schema has it.
pub(super) fn check(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let schema: Map<String, Value> = serde_json::from_str(SCHEMA).context("the copy of the schema")?;
    let parsed = read::below(root, "deploy/terraform", "tf")?;
    let mut problems = Vec::new();
    for (path, document) in &parsed {
        for (kind, block) in blocks(document) {
            let name = format!("{}: {kind}.{}", path.display(), block["name"].as_str().unwrap_or_default());
            match schema.get(&kind) {
                Some(level) => held_to(level, &block["body"], &META, &name, &mut problems),
                None => problems.push(format!("{name}: no schema: run `cargo xtask deploy schema`")),
            }
        }
    }
    modules(&parsed, &mut problems);
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(parsed.into_keys().collect())
}

/// Resources and data sources with their kind, as the schema's copy names it.
fn blocks(document: &Value) -> impl Iterator<Item = (String, &Value)> {
    [("resource", ""), ("data", "data.")].into_iter().flat_map(|(of, prefix)| {
        let found = document[of].as_array().into_iter().flatten();
        found.map(move |block| (format!("{prefix}{}", block["kind"].as_str().unwrap_or_default()), block))
    })
}

/// One level of blocks: names of arguments, then what is required, then the blocks inside.
fn held_to(level: &Value, body: &Value, more: &[&str], name: &str, problems: &mut Vec<String>) {
    let (Some(arguments), Some(body)) = (level["arguments"].as_object(), body.as_object()) else {
        problems.push(format!("{name}: no block"));
        return;
    };
    for (argument, value) in body {
        if argument == "__is_block__" || more.contains(&argument.as_str()) {
            continue;
        }
        if !arguments.contains_key(argument) {
            problems.push(format!("{name}: there is no argument `{argument}`"));
        } else if let Some(inner) = level["blocks"].get(argument) {
            for block in value.as_array().into_iter().flatten() {
                held_to(inner, block, &[], &format!("{name}.{argument}"), problems);
            }
        }
    }
    for (argument, _) in arguments.iter().filter(|(_, required)| **required == Value::Bool(true)) {
        if !body.contains_key(argument) {
            problems.push(format!("{name}: `{argument}` is required"));
        }
    }
}

/// Our own modules: each argument is a variable of the module, and each variable without a default is given.
fn modules(parsed: &BTreeMap<PathBuf, Value>, problems: &mut Vec<String>) {
    for (path, document) in parsed {
        let calls = document["module"].as_array().into_iter().flatten().filter_map(Value::as_object);
        for (name, call) in calls.flatten() {
            let (Some(call), Some(source)) = (call.as_object(), call["source"].as_str()) else { continue };
            let folder = path.parent().and_then(Path::parent).unwrap_or(path);
            let variables = folder.join(source.trim_start_matches("../")).join("variables.tf");
            let Some(declared) = parsed.get(&variables) else {
                problems.push(format!("{}: module {name}: no {}", path.display(), variables.display()));
                continue;
            };
            let variables: BTreeMap<_, _> = self::variables(declared).collect();
            for argument in call.keys().filter(|key| !["source", "__is_block__"].contains(&key.as_str())) {
                if !variables.contains_key(argument) {
                    problems.push(format!("{}: module {name}: no variable `{argument}`", path.display()));
                }
            }
            for (variable, body) in variables {
                if body.get("default").is_none() && !call.contains_key(variable) {
                    problems.push(format!("{}: module {name}: `{variable}` is required", path.display()));
                }
            }
        }
    }
}

/// Name and body of each variable.
pub(super) fn variables(document: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let blocks = document["variable"].as_array().into_iter().flatten().filter_map(Value::as_object);
    blocks.flatten().filter(|(name, _)| *name != "__is_block__")
}

/// Fetches the provider's package, and writes the copy anew.
///
/// # Errors
/// If npm is not there, or the package has another form.
pub(super) fn renew(root: &Path) -> Result<ExitCode> {
    let parsed = read::below(root, "deploy/terraform", "tf")?;
    let kinds: BTreeSet<_> = parsed.values().flat_map(blocks).map(|(kind, _)| kind).collect();
    let folder = tools::folder().join("provider");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let package = pins::TERRAFORM_PROVIDER;
    let name = process::output(Command::new("npm").args(["pack", "--silent", package]).current_dir(&folder))?;
    process::check(Command::new("tar").args(["-xzf", name.trim()]).current_dir(&folder))?;
    let mut command = Command::new(tools::program(&pins::TEMPLATE_TOOLS, "python"));
    command.args(["-c", SCRIPT]).arg(folder.join("package")).args(&kinds);
    let printed = tools::quietly(&mut command)?;
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    if kinds.is_empty() {
        bail!("no resources below deploy/terraform");
    }
    let copy = root.join("xtask/src/deploy/provider_schema.json");
    fs::write(&copy, printed).with_context(|| format!("cannot write {}", copy.display()))?;
    println!("deploy: the schema of {} types, from {package}", kinds.len());
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problems(kind: &str, body: &Value) -> Vec<String> {
        let schema: Map<String, Value> = serde_json::from_str(SCHEMA).unwrap();
        let mut problems = Vec::new();
        held_to(&schema[kind], body, &META, "it", &mut problems);
        problems
    }

    #[test]
    fn a_misspelt_argument_and_a_missing_one_are_found() {
        let session = json!({"network_interface_id": "eni-1", "traffic_mirror_target_id": "tmt-1",
            "traffic_mirror_filter_id": "tmf-1", "session_number": 1, "count": 1});
        assert!(problems("aws_ec2_traffic_mirror_session", &session).is_empty());
        let mut broken = session.clone();
        broken["packet_lenght"] = json!(100);
        broken.as_object_mut().unwrap().remove("session_number");
        assert_eq!(
            problems("aws_ec2_traffic_mirror_session", &broken),
            ["it: there is no argument `packet_lenght`", "it: `session_number` is required"]
        );
    }

    #[test]
    fn blocks_inside_are_held_to_the_schema_too() {
        let group =
            json!({"health_check": [{"intervall": 5}], "target_failover": [{"on_unhealthy": "rebalance"}]});
        assert_eq!(
            problems("aws_lb_target_group", &group),
            [
                "it.health_check: there is no argument `intervall`",
                "it.target_failover: `on_deregistration` is required"
            ]
        );
    }
}
