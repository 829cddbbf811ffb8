//! `-D`: list the interfaces.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use mirror_user::{escape, host::interface::interfaces};

pub(crate) fn list() -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    for (number, interface) in interfaces()?.into_iter().enumerate() {
        let state = match (interface.up, interface.carrier) {
            (true, true) => "up",
            (true, false) => "up, no carrier",
            (false, _) => "down",
        };
        let driver = interface.driver.as_ref().map_or("no driver", |driver| driver.name.as_str());
        let driver = escape::line(driver);
        let queues = interface.rx_queues().map_or_else(
            |_| "queues unknown".to_owned(),
            |queues| format!("{queues} RX queue{}", if queues == 1 { "" } else { "s" }),
        );
        let hook = match interface.xdp_hook() {
            Ok(Some(hook)) => format!(", XDP program {} attached", hook.program),
            Ok(None) | Err(_) => String::new(),
        };
        writeln!(
            out,
            "{}.{} [{state}, {driver}, MTU {}, {queues}{hook}]",
            number + 1,
            escape::line(&interface.name),
            interface.mtu
        )?;
    }
    Ok(ExitCode::SUCCESS)
}
