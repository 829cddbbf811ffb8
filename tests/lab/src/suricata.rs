//! Suricata as an independent witness of the frames that reach an interface.

use std::{
    env,
    fs::{self, File},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    command::{end, ends_within, interrupt, line, run},
    error::{LabError, Result},
    namespace::Namespace,
};

/// Settings that take in and count at the least cost, on one thread.
pub const CAPTURE_SETTINGS: &str = include_str!("suricata/capture.yaml");
/// Those, and a log of events; it includes the first by this name beside it.
const ALERT_SETTINGS: &str = include_str!("suricata/alerts.yaml");
const CAPTURE_SETTINGS_FILE: &str = "capture.yaml";
/// Signature id of the one rule, out of the range that is reserved for rules of one's own.
pub const SIGNATURE: u64 = 1_000_001;

const PROGRAM: &str = "suricata";
/// What it says once its capturing thread has its socket and ring.
const READY: &str = "Engine started";
/// How long it may take to start, to take in and count what has arrived, and to end: usually 0.3, 4 and 2 s
/// at most.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(20);

/// A Suricata that captures on one interface. Dropping it stops it.
#[derive(Debug)]
pub struct Suricata {
    child: Child,
    directory: PathBuf,
}

/// What a Suricata found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Findings {
    /// Alerts in the order they were raised.
    pub alerts: Vec<Alert>,
    /// `decoder.pkts`: frames that it took in.
    pub packets: u64,
    /// `decoder.invalid`: those among them that it could not decode.
    pub invalid: u64,
    /// `capture.kernel_packets`: frames that the kernel had for it, dropped ones among them.
    pub kernel_packets: u64,
    /// `capture.kernel_drops`: with any, it is no witness.
    pub kernel_drops: u64,
}

/// An alert of the event log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Alert {
    /// Signature id of the rule: [`SIGNATURE`].
    pub signature: u64,
    /// Sender of the request.
    pub source: SocketAddr,
    /// Whom it went to.
    pub destination: SocketAddr,
    /// `http.url`, as the request had it.
    pub url: Option<String>,
}

impl Suricata {
    /// Starts it on an interface, with logs in `directory` and one rule that alerts on each HTTP request for
    /// exactly this URI, and returns once it captures. The interface is left as it is, but for promiscuous
    /// mode.
    ///
    /// # Errors
    ///
    /// [`LabError::Unexpected`] if there is no Suricata on this host, or the URI cannot stand in a rule;
    /// [`LabError::Command`] with its own words where it does not get to capture.
    pub fn start(namespace: &Namespace, interface: &str, directory: &Path, uri: &str) -> Result<Self> {
        require(PROGRAM)?;
        let write = |name: &str, text: &str| {
            let path = directory.join(name);
            fs::write(&path, text).map_err(|error| LabError::file(&path, error))?;
            Ok(path)
        };
        write(CAPTURE_SETTINGS_FILE, CAPTURE_SETTINGS)?;
        let settings = write("alerts.yaml", ALERT_SETTINGS)?;
        let rules = write("uri.rules", &rule(uri)?)?;
        let log = directory.join("suricata.log");
        let log_file = File::create(&log).map_err(|error| LabError::file(&log, error))?;
        let errors_file = log_file.try_clone().map_err(|error| LabError::file(&log, error))?;

        let mut command = namespace.command(PROGRAM);
        command.arg("-c").arg(settings).arg("-S").arg(rules).arg("-l").arg(directory);
        command
            .args(["-k", "none", "--init-errors-fatal", "--runmode", "workers"])
            .arg(format!("--af-packet={interface}"));
        command.stdin(Stdio::null()).stdout(log_file).stderr(errors_file);
        let child = command.spawn().map_err(|error| LabError::io(PROGRAM, error))?;
        let mut suricata = Self { child, directory: directory.to_owned() };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = suricata.child.try_wait().map_err(|error| LabError::io(PROGRAM, error))?;
            let said = read(&log)?;
            if said.contains(READY) {
                return Ok(suricata);
            }
            let status = match ended {
                Some(status) => status.to_string(),
                None if Instant::now() > deadline => format!("no \"{READY}\" within {PATIENCE:?}"),
                None => {
                    thread::sleep(PAUSE);
                    continue;
                }
            };
            return Err(LabError::Command {
                command: line(&command),
                status,
                stderr: said.trim().to_owned(),
            });
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has taken in or dropped `packets` frames, for a time that is enough for any number of a
    /// test, stops it cleanly and returns its findings. Fewer or more are not an error here: see
    /// [`Findings::packets`].
    ///
    /// # Errors
    ///
    /// [`LabError::Unexpected`] if it does not end, where its event log cannot be read, or where it ended
    /// before it had taken in all that the kernel had for it.
    pub fn stop_after(mut self, packets: u64) -> Result<Findings> {
        let events = self.directory.join("eve.json");
        let deadline = Instant::now() + PATIENCE;
        // Its threads add up their counters every 3 s (`STATS_WUT_TTS`), and the log has them up to 1 s
        // later.
        while findings(&read(&events)?)?.is_none_or(|so_far| so_far.packets + so_far.kernel_drops < packets)
            && Instant::now() < deadline
        {
            thread::sleep(PAUSE);
        }
        interrupt(&self.child, PROGRAM)?;
        if !ends_within(&mut self.child, PATIENCE) {
            return Err(LabError::Unexpected(format!("{PROGRAM} does not end within {PATIENCE:?}")));
        }
        let findings = findings(&read(&events)?)?
            .ok_or_else(|| LabError::Unexpected(format!("{}: no counters", events.display())))?;
        let Findings { packets, kernel_packets, kernel_drops, .. } = findings;
        if packets + kernel_drops != kernel_packets {
            return Err(LabError::Unexpected(format!(
                "{PROGRAM} took in {packets} of {kernel_packets} frames, {kernel_drops} were dropped, and \
                ended before the rest"
            )));
        }
        Ok(findings)
    }
}

impl Drop for Suricata {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// The counters of Suricata's decoder over a capture file, by name (`geneve`, `vxlan`, `tcp`, `invalid`),
/// with logs in `directory`.
///
/// # Errors
///
/// [`LabError::Unexpected`] if there is no Suricata on this host, or its log has no counters;
/// [`LabError::Command`] if it fails.
pub fn decode(file: &Path, directory: &Path) -> Result<Value> {
    require(PROGRAM)?;
    for (name, text) in [(CAPTURE_SETTINGS_FILE, CAPTURE_SETTINGS), ("alerts.yaml", ALERT_SETTINGS)] {
        let path = directory.join(name);
        fs::write(&path, text).map_err(|error| LabError::file(&path, error))?;
    }
    let events = directory.join("eve.json");
    // It appends.
    match fs::remove_file(&events) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(LabError::file(&events, error));
        }
        _ => {}
    }
    let mut command = Command::new(PROGRAM);
    command.arg("-c").arg(directory.join("alerts.yaml")).args(["-S", "/dev/null", "-k", "none"]);
    run(command.arg("-l").arg(directory).arg("-r").arg(file))?;
    let log = read(&events)?;
    let last = log.lines().rev().find_map(|line| {
        let mut event: Value = serde_json::from_str(line).ok()?;
        Some(event.pointer_mut("/stats/decoder")?.take())
    });
    last.ok_or_else(|| LabError::Unexpected(format!("{}: no counters", events.display())))
}

/// Fails with the remedy if a program is not installed.
fn require(program: &str) -> Result<()> {
    let path = env::var_os("PATH").unwrap_or_default();
    if env::split_paths(&path).any(|directory| directory.join(program).is_file()) {
        return Ok(());
    }
    Err(LabError::Unexpected(format!(
        "{program} is not on this host; `cargo xtask setup test` installs it where the distribution has it"
    )))
}

/// The rule for requests of a URI, not of one that only holds it.
fn rule(uri: &str) -> Result<String> {
    // These end or escape within a rule's `content`.
    if uri.is_empty()
        || uri.contains(['"', ';', ':', '\\', '|'])
        || !uri.bytes().all(|b| b.is_ascii_graphic())
    {
        return Err(LabError::Unexpected(format!("a rule cannot have the URI {uri:?}")));
    }
    Ok(format!(
        "alert http any any -> any any (msg:\"URI of the lab\"; flow:established,to_server; http.uri; \
         content:\"{uri}\"; startswith; endswith; sid:{SIGNATURE}; rev:1;)\n"
    ))
}

/// The text of a log; empty where it is not there yet.
fn read(path: &Path) -> Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        text => text.map_err(|error| LabError::file(path, error)),
    }
}

/// What an event log tells, with the last counters in it; nothing where there are none. A last line that is
/// still being written is left out.
fn findings(events: &str) -> Result<Option<Findings>> {
    let whole = events.rfind('\n').map_or("", |end| &events[..end]);
    let (mut alerts, mut counters) = (Vec::new(), None);
    for line in whole.lines() {
        let bad = || LabError::Unexpected(format!("an event of {PROGRAM} has another shape: {line}"));
        let event: Value = serde_json::from_str(line).map_err(|_| bad())?;
        match event["event_type"].as_str() {
            Some("alert") => alerts.push(alert(&event).ok_or_else(bad)?),
            Some("stats") => counters = Some(counted(&event).ok_or_else(bad)?),
            _ => return Err(bad()),
        }
    }
    Ok(counters.map(|counters| Findings { alerts, ..counters }))
}

fn alert(event: &Value) -> Option<Alert> {
    let end = |address: &str, port: &str| {
        let address: IpAddr = event[address].as_str()?.parse().ok()?;
        Some(SocketAddr::new(address, u16::try_from(event[port].as_u64()?).ok()?))
    };
    Some(Alert {
        signature: event["alert"]["signature_id"].as_u64()?,
        source: end("src_ip", "src_port")?,
        destination: end("dest_ip", "dest_port")?,
        url: event["http"]["url"].as_str().map(str::to_owned),
    })
}

fn counted(event: &Value) -> Option<Findings> {
    let counter = |place: &str| event["stats"].pointer(place)?.as_u64();
    Some(Findings {
        alerts: Vec::new(),
        packets: counter("/decoder/pkts")?,
        invalid: counter("/decoder/invalid")?,
        kernel_packets: counter("/capture/kernel_packets")?,
        kernel_drops: counter("/capture/kernel_drops")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_an_error_with_the_remedy() {
        let error = require("no-such-program-anywhere").unwrap_err().to_string();
        assert!(error.contains("cargo xtask setup test"), "{error}");
        require("sh").unwrap();
    }

    #[test]
    fn a_uri_that_would_end_the_rule_is_refused() {
        assert!(rule("/bytes/1").unwrap().contains("content:\"/bytes/1\";"));
        for uri in ["", "/a\"b", "/a;b", "/a|41|", "/a\\b", "/a b", "/a\n"] {
            assert!(rule(uri).is_err(), "{uri:?}");
        }
    }

    #[test]
    fn the_last_counters_count_and_a_torn_line_is_left_out() {
        let stats = |packets: u64| {
            format!(
                "{{\"event_type\":\"stats\",\"stats\":{{\"decoder\":{{\"pkts\":{packets},\"invalid\":1}},\
                 \"capture\":{{\"kernel_packets\":9,\"kernel_drops\":2}}}}}}\n"
            )
        };
        let events = format!("{}{}{{\"event_ty", stats(3), stats(7));
        let found = findings(&events).unwrap().unwrap();
        let Findings { alerts, packets, invalid, kernel_packets, kernel_drops } = found;
        assert_eq!((packets, invalid, kernel_packets, kernel_drops), (7, 1, 9, 2));
        assert!(alerts.is_empty());
        assert_eq!(findings("{\"event_ty").unwrap(), None);
    }
}
