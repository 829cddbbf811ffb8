//! Parts of messages.

use crate::host::kernel::KernelVersion;

/// `ena`, or `the driver`.
pub(crate) fn named(driver: Option<&str>) -> &str {
    driver.unwrap_or("the driver")
}

/// `this is 6.1.0`.
pub(super) fn running(kernel: Option<KernelVersion>) -> String {
    kernel.map_or_else(|| "this one's version is not known".to_owned(), |it| format!("this is {it}"))
}

/// `1 queue`, `2 queues`.
pub(crate) fn counted(number: impl Into<u64>, what: &str) -> String {
    let number = number.into();
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
