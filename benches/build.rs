//! Gives the crate its compiler's version, on which the measurements depend.

use std::{env, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = env::var_os("RUSTC").expect("cargo sets it");
    let version = Command::new(rustc).arg("--version").output().expect("cargo found it");
    println!("cargo::rustc-env=BUILT_BY={}", String::from_utf8_lossy(&version.stdout).trim());
}
