//! Man pages and completions, made from the command line itself: for packages, and in no binary.
//!
//! `cargo xtask dist` runs the test, which alone has the command line, with the folder in an environment
//! variable.

use std::{env, fs, path::Path};

use clap_complete::Shell;

/// The folder to write to; without it, the test writes to a temporary one.
const FOLDER: &str = "MIRROR_PAGES";

fn write(folder: &Path) {
    let mut command = crate::command();
    clap_mangen::generate_to(command.clone(), folder).unwrap();
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut command, "mirror", folder).unwrap();
    }
}

#[test]
fn each_command_has_a_man_page_and_each_shell_its_completions() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = env::var_os(FOLDER).map_or_else(|| temporary.path().to_owned(), Into::into);
    write(&folder);
    let names: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("mirror") || name == "_mirror")
        .collect();
    let command = crate::command();
    for subcommand in command.get_subcommands() {
        let page = format!("mirror-{}.1", subcommand.get_name());
        assert_eq!(names.contains(&page), !subcommand.is_hide_set(), "{page} in {names:?}");
    }
    for name in ["mirror.1", "mirror.bash", "mirror.fish", "_mirror"] {
        assert!(names.contains(&name.to_owned()), "{name} in {names:?}");
    }
}
