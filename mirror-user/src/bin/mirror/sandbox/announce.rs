//! What the sandbox covers on this kernel, logged once.

use mirror_user::escape;

use super::{
    Places, SandboxArg,
    writes::{PROMISED, Support, WANTED},
};

/// Logs what the sandbox covers, or fails if that is less than `--sandbox require` needs.
pub(super) fn announce(
    wanted: SandboxArg,
    support: Support,
    unfiltered: Option<&str>,
    places: &Places,
) -> anyhow::Result<()> {
    const ACCEPT: &str = "or use `--sandbox auto`";
    let landlock = covered(support);
    if wanted == SandboxArg::Require {
        match support {
            Support::Abi(abi) if abi >= PROMISED => {}
            Support::Abi(abi) => anyhow::bail!(
                "--sandbox require: this kernel has Landlock ABI {abi}, and {PROMISED} is needed: use kernel \
                6.7 or later, {ACCEPT}"
            ),
            Support::Disabled => anyhow::bail!(
                "--sandbox require: Landlock is off on this host: add `landlock` to `lsm=` on the kernel's \
                command line, {ACCEPT}"
            ),
            Support::Missing => anyhow::bail!(
                "--sandbox require: there is no Landlock on this kernel or in this container: use kernel 6.7 \
                or later with CONFIG_SECURITY_LANDLOCK, {ACCEPT}"
            ),
        }
        if let Some(reason) = unfiltered {
            anyhow::bail!("--sandbox require: seccomp: {reason}; {ACCEPT}");
        }
    }
    let seccomp = match unfiltered {
        None => String::new(),
        Some(reason) => format!("; no seccomp: {reason}"),
    };
    let whole = matches!(support, Support::Abi(abi) if abi >= WANTED) && unfiltered.is_none();
    if whole {
        tracing::info!(target: "mirror", "sandbox: {landlock}, seccomp");
    } else {
        tracing::warn!("sandbox: {landlock}{seccomp}");
    }
    if places.commands && support != Support::Missing && support != Support::Disabled {
        let directories = places.command_write.iter().map(|path| format!(" and {}", escape::path(path)));
        let directories: String = directories.collect();
        let ports = match &places.command_connect[..] {
            [] => "no TCP ports".to_owned(),
            ports => format!("TCP {}", ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        };
        tracing::info!(
            target: "mirror",
            "sandbox: commands of -z may write beneath the directories of -w{directories}, and connect to \
            {ports}; --command-write and --command-connect allow more"
        );
    }
    Ok(())
}

/// What this kernel's Landlock covers, in words.
pub(super) fn covered(support: Support) -> String {
    match support {
        Support::Missing => "no Landlock on this kernel (5.13) or in this container: only file permissions \
            keep threads and commands of -z from writing elsewhere"
            .to_owned(),
        Support::Disabled => "Landlock is off on this host (`lsm=` on the kernel's command line omits it): \
            only file permissions keep threads and commands of -z from writing elsewhere"
            .to_owned(),
        Support::Abi(abi) => match &support.lacks()[..] {
            [] => format!("Landlock ABI {abi}"),
            lacks => format!("Landlock ABI {abi} does not cover {}", lacks.join(", ")),
        },
    }
}
