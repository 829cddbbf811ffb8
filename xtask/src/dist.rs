//! `cargo xtask dist`: the command for other machines than this, by compilers and libraries that are unpacked and not
//! installed.

use std::path::Path;

use anyhow::{Result, bail};

use crate::vmtest::Base;

pub(crate) fn guest_base(_folder: &Path) -> Result<Base> {
    bail!("not yet")
}
