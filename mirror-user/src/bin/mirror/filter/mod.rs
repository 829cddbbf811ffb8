//! `mirror filter`: what Traffic Mirroring does, from the JSON of the EC2 API, or from templates.

mod cloudformation;
mod json;
mod template;
mod terraform;

use std::{
    ffi::OsStr,
    fs,
    io::{self, Write as _},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use mirror_user::{
    escape,
    mirroring::{self, Excluded, Filter, Mirroring, Outcome, Packet, Rule, Session},
    source::CaptureReader,
};

use crate::exit::Usage;

/// Arguments of `mirror filter`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct FilterArgs {
    #[command(subcommand)]
    action: Action,
}

const EXAMPLES: &str = "\
Examples:
  aws ec2 describe-traffic-mirror-targets > mirroring.json
  aws ec2 describe-traffic-mirror-filters >> mirroring.json
  aws ec2 describe-traffic-mirror-sessions >> mirroring.json
  mirror filter show --config mirroring.json
  mirror filter test --config mirroring.json --direction ingress \\
      --protocol tcp --from 198.51.100.7:49152 --to 10.0.0.9:443
  mirror filter test --config mirroring.json --direction egress --frame web.pcap";

#[derive(Debug, Subcommand)]
enum Action {
    /// Print sources with their sessions, filters and rules, in the sequence in which they are asked
    Show {
        #[command(flatten)]
        files: Files,
    },
    /// Say which session mirrors a packet, and which rule decides
    ///
    /// Exits with 0 if it is mirrored, or all are, and with 1 if not.
    Test(TestArgs),
}

#[derive(Args, Debug)]
struct Files {
    /// JSON of `aws ec2 describe-traffic-mirror-{targets,filters,sessions}` and, for names and addresses,
    /// `describe-network-interfaces`; a CloudFormation template (YAML, or JSON with Resources); a Terraform
    /// file (`.tf`); may be repeated
    #[arg(long, required = true, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// Print JSON: of `test`, a line for each packet
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct TestArgs {
    #[command(flatten)]
    files: Files,
    /// The source [default: the only one]
    #[arg(long, value_name = "ENI")]
    interface: Option<String>,
    /// As the source sees the packet
    #[arg(long, value_enum)]
    direction: Direction,
    /// Packets of a capture file, instead of one by its fields
    #[arg(long, value_name = "FILE", conflicts_with_all = ["protocol", "from", "to", "length"])]
    frame: Option<PathBuf>,
    /// tcp, udp, icmp, icmp6, or the protocol's number
    #[arg(long, value_parser = protocol, required_unless_present = "frame")]
    protocol: Option<u8>,
    /// Source address, of TCP and UDP with the port; IPv6 with a port in brackets: `[2001:db8::1]:80`
    #[arg(long, value_parser = end, value_name = "ADDR[:PORT]", required_unless_present = "frame")]
    from: Option<End>,
    /// Destination address, likewise
    #[arg(long, value_parser = end, value_name = "ADDR[:PORT]", required_unless_present = "frame")]
    to: Option<End>,
    /// Bytes of the frame, Ethernet header included
    #[arg(long, default_value_t = 64, value_name = "BYTES")]
    length: u32,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Direction {
    Ingress,
    Egress,
}

/// An address, and a port if there is one.
#[derive(Clone, Copy, Debug)]
struct End(IpAddr, Option<u16>);

fn protocol(text: &str) -> Result<u8, String> {
    Ok(match text {
        "tcp" => 6,
        "udp" => 17,
        "icmp" => 1,
        "icmp6" => 58,
        number => number.parse().map_err(|_| "tcp, udp, icmp, icmp6, or a number up to 255".to_owned())?,
    })
}

fn end(text: &str) -> Result<End, String> {
    let with_port = text.parse::<SocketAddr>().map(|end| End(end.ip(), Some(end.port())));
    with_port
        .or_else(|_| text.parse().map(|address| End(address, None)))
        .map_err(|_| "such as 10.0.0.9, 10.0.0.9:443 or [2001:db8::9]:443".to_owned())
}

/// Reads a set-up from files: JSON of the EC2 API, and templates.
pub(crate) fn read(paths: &[PathBuf]) -> anyhow::Result<Mirroring> {
    let (mut files, mut templates, mut resources) = (Vec::new(), Vec::new(), Vec::new());
    for file in paths {
        let name = escape::path(file).to_string();
        let text = fs::read_to_string(file).with_context(|| name.clone())?;
        let found = match file.extension().and_then(OsStr::to_str) {
            Some("tf") => terraform::read(&text),
            Some("yaml" | "yml" | "template") => cloudformation::read(&text),
            _ if is_template(&text) => cloudformation::read(&text),
            _ => {
                files.push((name, text));
                continue;
            }
        };
        resources.extend(found.map_err(|error| Usage(escaped(&format!("{name}: {error:#}"))))?);
        templates.push(name);
    }
    if !templates.is_empty() {
        let name = templates.join(", ");
        if resources.is_empty() {
            return Err(Usage(format!("{name}: there is no resource of Traffic Mirroring")).into());
        }
        let document = template::document(resources);
        let document = document.map_err(|error| Usage(escaped(&format!("{name}: {error:#}"))))?;
        files.push((name, document.to_string()));
    }
    let files = files.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    Ok(Mirroring::read(files).map_err(|error| Usage(escaped(&error.to_string())))?)
}

/// Whether a JSON text is a CloudFormation template.
fn is_template(text: &str) -> bool {
    let parsed = serde_json::from_str::<serde_json::Value>(text);
    parsed.is_ok_and(|parsed| parsed.get("Resources").is_some())
}

/// Of each line: ids and descriptions may hold anything.
pub(crate) fn escaped(text: &str) -> String {
    text.lines().map(|line| escape::line(line).to_string()).collect::<Vec<_>>().join("\n")
}

pub(crate) fn run(args: &FilterArgs) -> anyhow::Result<ExitCode> {
    match &args.action {
        Action::Show { files } => {
            let all = read(&files.config)?;
            if files.json {
                print_json(&json::shown(&all))?;
            } else {
                print(&shown(&all))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Action::Test(args) => test(args),
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", escaped(text)).and_then(|()| stdout.flush()).context("standard output")
}

/// On one line.
fn print_json(value: &serde_json::Value) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{value}").and_then(|()| stdout.flush()).context("standard output")
}

/// The sources, and what is doubtful.
fn shown(all: &Mirroring) -> String {
    let mut lines = Vec::new();
    let vnis = all.vnis();
    for source in sources(all) {
        let known = all.interface(source);
        let name = known.and_then(|interface| interface.tags.iter().find(|(key, _)| key == "Name"));
        let addresses: Vec<_> =
            known.iter().flat_map(|interface| &interface.addresses).map(IpAddr::to_string).collect();
        let named = name.map(|(_, name)| format!(" {name}")).unwrap_or_default();
        let addressed =
            if addresses.is_empty() { String::new() } else { format!(": {}", addresses.join(", ")) };
        lines.push(format!("{source}{named}{addressed}"));
        for session in all.sessions_of(source) {
            let vni = vnis.get(session.id.as_str()).copied().unwrap_or_default();
            let derived = if session.vni.is_none() { " (derived)" } else { "" };
            let to = all.target(&session.target).map_or("", |target| target.kind.resource());
            let length = session.packet_length.map(|length| format!(", {length} bytes of each packet"));
            lines.push(format!(
                "  session {} {}: VNI {vni}{derived} to {} ({to}){}",
                session.number,
                session.id,
                session.target,
                length.unwrap_or_default()
            ));
            lines.extend(all.filter(&session.filter).into_iter().flat_map(of_filter));
        }
    }
    lines.extend(all.problems().iter().map(|problem| format!("warning: {problem}")));
    lines.join("\n")
}

fn of_filter(filter: &Filter) -> Vec<String> {
    let with = if filter.amazon_dns { ", with amazon-dns" } else { "" };
    let mut lines = vec![format!("    filter {}{with}", filter.id)];
    for direction in [mirroring::Direction::Ingress, mirroring::Direction::Egress] {
        let rules = filter.rules(direction);
        let name = direction.name();
        lines.extend(rules.iter().map(|rule| format!("      {name} {rule}")));
        if rules.is_empty() {
            lines.push(format!("      {name}: no rules, nothing is mirrored"));
        }
    }
    lines
}

fn sources(all: &Mirroring) -> Vec<&str> {
    let mut sources: Vec<_> = all.sessions.iter().map(|session| session.interface.as_str()).collect();
    sources.sort_unstable();
    sources.dedup();
    sources
}

fn test(args: &TestArgs) -> anyhow::Result<ExitCode> {
    let all = read(&args.files.config)?;
    let sources = sources(&all);
    let interface = match (&args.interface, &sources[..]) {
        (Some(interface), _) if sources.contains(&interface.as_str()) => interface.as_str(),
        (Some(interface), _) => {
            let known = sources.join(", ");
            return Err(Usage(format!("{interface} has no session; these have: {known}")).into());
        }
        (None, [only]) => only,
        (None, []) => return Err(Usage("there is no session".to_owned()).into()),
        (None, several) => {
            return Err(Usage(format!("--interface is needed: one of {}", several.join(", "))).into());
        }
    };
    let direction = match args.direction {
        Direction::Ingress => mirroring::Direction::Ingress,
        Direction::Egress => mirroring::Direction::Egress,
    };
    let test = Test { all: &all, interface, direction, json: args.files.json };
    let is_mirrored = match (&args.frame, args.protocol, args.from, args.to) {
        (None, Some(protocol), Some(from), Some(to)) => {
            let packet = of_fields(protocol, from, to, args.length)?;
            test.judge(None, Some(&packet))?
        }
        (Some(file), ..) => test.each_of(file)?,
        // clap asks for one or the other.
        _ => return Err(Usage("--frame, or --protocol, --from and --to".to_owned()).into()),
    };
    Ok(if is_mirrored { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn of_fields(protocol: u8, from: End, to: End, length: u32) -> Result<Packet, Usage> {
    let (End(source, source_port), End(destination, destination_port)) = (from, to);
    if source.is_ipv4() != destination.is_ipv4() {
        return Err(Usage("--from and --to are of different address families".to_owned()));
    }
    let ports = match (protocol, source_port, destination_port) {
        (6 | 17, Some(from), Some(to)) => Some((from, to)),
        (6 | 17, ..) => return Err(Usage("TCP and UDP have ports: --from and --to ADDR:PORT".to_owned())),
        (_, None, None) => None,
        _ => return Err(Usage("only TCP and UDP have ports".to_owned())),
    };
    Ok(Packet::new(source, destination, protocol, ports, length))
}

/// The packets of one source in one direction.
struct Test<'m> {
    all: &'m Mirroring,
    interface: &'m str,
    direction: mirroring::Direction,
    json: bool,
}

impl Test<'_> {
    /// Whether all packets of a file are mirrored; a line for each.
    fn each_of(&self, file: &PathBuf) -> anyhow::Result<bool> {
        /// Packets read at a time.
        const BATCH: usize = 64;
        let name = || escape::path(file).to_string();
        let mut capture = CaptureReader::open(file).with_context(name)?;
        let (mut number, mut all_are) = (0_u64, true);
        while let Some(batch) = capture.next_batch(BATCH).with_context(name)? {
            for captured in batch.iter() {
                number += 1;
                let mut packet = Packet::of_frame(captured.bytes().first());
                if let Some(packet) = &mut packet {
                    packet.length = captured.wire_len();
                }
                all_are &= self.judge(Some(number), packet.as_ref())?;
            }
        }
        anyhow::ensure!(number > 0, "{}: there is no packet", name());
        Ok(all_are)
    }

    /// Prints whether a packet is mirrored, and why; returns whether it is. `None` is one that is not IP, and
    /// the number is that in a file.
    fn judge(&self, number: Option<u64>, packet: Option<&Packet>) -> anyhow::Result<bool> {
        let outcome = packet.map(|packet| self.all.evaluate(self.interface, self.direction, packet));
        if self.json {
            print_json(&json::judged(number, self.direction, packet, outcome.as_ref()))?;
        } else {
            let line = self.said(packet.zip(outcome.as_ref()));
            print(&number.map_or_else(|| line.clone(), |number| format!("{number} {line}")))?;
        }
        Ok(matches!(outcome, Some(Outcome::Mirrored { .. })))
    }

    fn said(&self, judged: Option<(&Packet, &Outcome<'_>)>) -> String {
        let Some((packet, outcome)) = judged else { return "not mirrored: not an IP packet".to_owned() };
        let direction = self.direction.name();
        let by = |session: &Session, rule: &Rule| format!("by {}, {direction} {rule}", session.id);
        match outcome {
            Outcome::Mirrored { session, rule, vni, length } => {
                let by = match rule {
                    Some(rule) => by(session, rule),
                    None => format!("by {}, amazon-dns", session.id),
                };
                format!("mirrored: VNI {vni}, {length} of {} bytes, {by}", packet.length)
            }
            Outcome::Rejected { session, rule } => {
                format!("not mirrored: rejected {}", by(session, rule))
            }
            Outcome::Excluded(reason) => format!("not mirrored: {} never is", excluded(*reason)),
            _ => format!("not mirrored: no {direction} rule matches"),
        }
    }
}

fn excluded(reason: Excluded) -> &'static str {
    match reason {
        Excluded::NeighborDiscovery => "neighbour discovery",
        Excluded::Dhcp => "DHCP",
        Excluded::Metadata => "instance metadata",
        Excluded::Time => "time from the link-local address",
        Excluded::WindowsActivation => "activation of Windows",
        Excluded::Resolver => "Amazon's resolver, without amazon-dns,",
        _ => "this",
    }
}
