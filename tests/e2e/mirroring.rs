//! `mirror filter`: what Traffic Mirroring does with packets, by the JSON of the EC2 API.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

const MIRROR: &str = env!("CARGO_BIN_EXE_mirror");

/// As the calls print it: inbound 22, 80 and 443 of one instance, but for a network, and another's UDP.
const WALK_THROUGH: &str = r#"
{"TrafficMirrorTargets": [{"TrafficMirrorTargetId": "tmt-1", "NetworkInterfaceId": "eni-2",
    "Type": "network-interface", "OwnerId": "111122223333", "Tags": []}]}
{"TrafficMirrorFilters": [{"TrafficMirrorFilterId": "tmf-1", "NetworkServices": [], "Tags": [],
    "IngressFilterRules": [
        {"RuleNumber": 50, "RuleAction": "reject", "Protocol": 6, "SourceCidrBlock": "203.0.113.0/24",
            "DestinationCidrBlock": "0.0.0.0/0"},
        {"RuleNumber": 100, "RuleAction": "accept", "Protocol": 6, "SourceCidrBlock": "0.0.0.0/0",
            "DestinationCidrBlock": "10.0.0.0/16", "DestinationPortRange": {"FromPort": 22, "ToPort": 22}},
        {"RuleNumber": 200, "RuleAction": "accept", "Protocol": 6, "SourceCidrBlock": "0.0.0.0/0",
            "DestinationCidrBlock": "10.0.0.0/16", "DestinationPortRange": {"FromPort": 80, "ToPort": 80}},
        {"RuleNumber": 300, "RuleAction": "accept", "Protocol": 6, "SourceCidrBlock": "0.0.0.0/0",
            "DestinationCidrBlock": "10.0.0.0/16", "DestinationPortRange": {"FromPort": 443, "ToPort": 443}}],
    "EgressFilterRules": []}]}
{"TrafficMirrorSessions": [{"TrafficMirrorSessionId": "tms-1", "TrafficMirrorTargetId": "tmt-1",
    "TrafficMirrorFilterId": "tmf-1", "NetworkInterfaceId": "eni-1", "SessionNumber": 1,
    "VirtualNetworkId": 12345, "PacketLength": 100, "Tags": []}]}
{"NetworkInterfaces": [{"NetworkInterfaceId": "eni-1",
    "PrivateIpAddresses": [{"PrivateIpAddress": "10.0.0.9"}],
    "TagSet": [{"Key": "Name", "Value": "web\u001b[2J"}]}]}
"#;

fn mirror(directory: &Path, arguments: &str) -> Output {
    let mut command = Command::new(MIRROR);
    command.current_dir(directory).args(arguments.split_whitespace());
    command.output().expect("mirror runs")
}

fn with(text: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("directory");
    fs::write(directory.path().join("m.json"), text).expect("written");
    directory
}

#[track_caller]
fn says(directory: &Path, arguments: &str, code: i32, expected: &str) {
    let output = mirror(directory, arguments);
    let said = String::from_utf8_lossy(if code == 2 { &output.stderr } else { &output.stdout });
    assert_eq!((said.trim_end(), output.status.code()), (expected, Some(code)), "{arguments}: {output:?}");
}

#[test]
fn rules_are_shown_in_the_sequence_in_which_they_decide() {
    let directory = with(WALK_THROUGH);
    let expected = "\
eni-1 web\\x1b[2J: 10.0.0.9
  session 1 tms-1: VNI 12345 to tmt-1 (eni-2), 100 bytes of each packet
    filter tmf-1
      ingress 50 reject tcp from 203.0.113.0/24 to 0.0.0.0/0
      ingress 100 accept tcp from 0.0.0.0/0 to 10.0.0.0/16 port 22
      ingress 200 accept tcp from 0.0.0.0/0 to 10.0.0.0/16 port 80
      ingress 300 accept tcp from 0.0.0.0/0 to 10.0.0.0/16 port 443
      egress: no rules, nothing is mirrored";
    says(directory.path(), "filter show --config m.json", 0, expected);
}

/// Those of the page that are whole, and those that have another list of rules in the first one.
#[test]
fn set_ups_of_the_documentation_are_read_and_nothing_is_wrong_with_them() {
    let page = include_str!("../../docs/mirroring.md");
    let blocks = |mark: &str| -> Vec<&str> {
        let mark = format!("```{mark}\n");
        let after = page.split(mark.as_str()).skip(1);
        after.map(|rest| rest.split_once("\n```").expect("the end of a block").0).collect()
    };
    let whole = blocks("json");
    let (before, rest) = whole[0].split_once("   \"IngressFilterRules\"").expect("rules");
    let (_, after) = rest.split_once("}],\n \"TrafficMirrorSessions\"").expect("sessions");
    let lists = blocks("text").into_iter().filter(|block| block.starts_with("   \"IngressFilterRules\""));
    let put_in = lists.map(|list| format!("{before}{list}}}],\n \"TrafficMirrorSessions\"{after}"));
    let all: Vec<_> = whole.iter().map(|&text| text.to_owned()).chain(put_in).collect();
    assert_eq!(all.len(), 6);
    for text in all {
        let output = mirror(with(&text).path(), "filter show --config m.json");
        let warned = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && warned.is_empty(), "{warned}{text}");
    }
}

/// What is printed for programs says what is printed for people.
#[test]
fn rules_and_judgements_are_printed_as_json() {
    let directory = with(WALK_THROUGH);
    let json = |arguments: &str, code: i32| -> serde_json::Value {
        let output = mirror(directory.path(), &format!("filter {arguments} --config m.json --json"));
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        serde_json::from_slice(&output.stdout).expect("one JSON value")
    };
    let shown = json("show", 0);
    assert_eq!(shown["schema"], "mirror.filter/1");
    let source = &shown["sources"][0];
    assert_eq!([&source["interface"], &source["addresses"][0]], ["eni-1", "10.0.0.9"], "{shown:#}");
    assert_eq!(source["name"], "web\u{1b}[2J", "{shown:#}");
    let session = &source["sessions"][0];
    assert_eq!([&session["vni"], &session["packet_length"]], [12345, 100], "{shown:#}");
    assert_eq!([&session["session"], &session["to"]], ["tms-1", "eni-2"], "{shown:#}");
    let rules = session["filter"]["ingress"].as_array().expect("rules");
    let numbers: Vec<_> = rules.iter().map(|rule| rule["number"].as_u64().expect("a number")).collect();
    assert_eq!(numbers, [50, 100, 200, 300]);
    assert_eq!(session["filter"]["egress"], serde_json::json!([]));
    let test = |packet: &str, code| json(&format!("test --direction ingress --protocol tcp {packet}"), code);
    let mirrored = test("--from 198.51.100.7:49152 --to 10.0.0.9:443 --length 1514", 0);
    assert_eq!(mirrored["mirrored"], true, "{mirrored:#}");
    let numbers = ["vni", "mirrored_length", "length"].map(|field| &mirrored[field]);
    assert_eq!(numbers, [12345, 100, 1514], "{mirrored:#}");
    assert_eq!((&mirrored["session"], &mirrored["rule"]), (&"tms-1".into(), &rules[3]), "{mirrored:#}");
    let rejected = test("--from 203.0.113.7:49152 --to 10.0.0.9:443", 1);
    assert_eq!((&rejected["mirrored"], &rejected["rule"]), (&false.into(), &rules[0]), "{rejected:#}");
    assert_eq!(rejected["reason"], "rejected", "{rejected:#}");
    let unmatched = test("--from 198.51.100.7:49152 --to 10.0.0.9:8080", 1);
    assert_eq!([&unmatched["session"], &unmatched["rule"]], [&serde_json::Value::Null; 2], "{unmatched:#}");
    assert_eq!(unmatched["reason"], "no rule matches", "{unmatched:#}");
}

#[test]
fn a_packet_is_judged_by_its_fields() {
    let directory = with(WALK_THROUGH);
    let path = directory.path();
    let test = "filter test --config m.json --direction";
    for (packet, code, expected) in [
        (
            "ingress --protocol tcp --from 198.51.100.7:49152 --to 10.0.0.9:443 --length 1514",
            0,
            "mirrored: VNI 12345, 100 of 1514 bytes, by tms-1, ingress 300 accept tcp from 0.0.0.0/0 to \
            10.0.0.0/16 port 443",
        ),
        (
            "ingress --protocol tcp --from 203.0.113.9:49152 --to 10.0.0.9:443",
            1,
            "not mirrored: rejected by tms-1, ingress 50 reject tcp from 203.0.113.0/24 to 0.0.0.0/0",
        ),
        (
            "ingress --protocol tcp --from 198.51.100.7:49152 --to 10.0.0.9:8080",
            1,
            "not mirrored: no ingress rule matches",
        ),
        (
            "egress --protocol tcp --from 10.0.0.9:443 --to 198.51.100.7:49152",
            1,
            "not mirrored: no egress rule matches",
        ),
        (
            "ingress --protocol tcp --from 169.254.169.254:80 --to 10.0.0.9:50000",
            1,
            "not mirrored: instance metadata never is",
        ),
        (
            "ingress --protocol tcp --from 10.0.0.1 --to 10.0.0.9:1",
            2,
            "mirror: TCP and UDP have ports: --from and --to ADDR:PORT",
        ),
        ("ingress --protocol icmp --from 10.0.0.1:1 --to 10.0.0.9", 2, "mirror: only TCP and UDP have ports"),
        (
            "ingress --protocol 50 --from 10.0.0.1 --to ::1",
            2,
            "mirror: --from and --to are of different address families",
        ),
    ] {
        says(path, &format!("{test} {packet}"), code, expected);
    }
    let other = "ingress --interface eni-7 --protocol icmp --from 10.0.0.1 --to 10.0.0.9";
    says(path, &format!("{test} {other}"), 2, "mirror: eni-7 has no session; these have: eni-1");
}

#[test]
fn each_packet_of_a_capture_is_judged() {
    let directory = with(WALK_THROUGH);
    let path = directory.path();
    let ends = [([198, 51, 100, 7].into(), 49152), ([10, 0, 0, 9].into(), 9)];
    let udp = mirror_lab::frames::inner_udp(ends[0], ends[1], &[0; 32]).expect("frame");
    let mut tcp = udp.clone();
    // The same with the protocol and the port of the rule.
    (tcp[23], tcp[36], tcp[37]) = (6, 1, 187);
    let mut arp = vec![0xff; 12];
    arp.extend([8, 6]);
    arp.resize(60, 0);
    mirror_lab::capture::write_pcap(&path.join("in.pcap"), &[tcp, udp, arp]).expect("capture");
    says(
        path,
        "filter test --config m.json --direction ingress --frame in.pcap",
        1,
        "1 mirrored: VNI 12345, 74 of 74 bytes, by tms-1, ingress 300 accept tcp from 0.0.0.0/0 to \
        10.0.0.0/16 port 443\n2 not mirrored: no ingress rule matches\n3 not mirrored: not an IP packet",
    );
}

#[test]
fn what_aws_refuses_is_refused_with_all_that_is_wrong() {
    let text = WALK_THROUGH
        .replace("\"SessionNumber\": 1", "\"SessionNumber\": 40000")
        .replace("\"tmt-1\",\n", "\"tmt-3\",\n");
    let directory = with(&text);
    says(
        directory.path(),
        "filter show --config m.json",
        2,
        "mirror: tms-1: SessionNumber 40000: a session's number is 1 to 32766\n\
        tms-1: TrafficMirrorTargetId tmt-3: no file describes it",
    );
    let directory = with("{}");
    says(
        directory.path(),
        "filter show --config m.json",
        2,
        "mirror: m.json: it has no TrafficMirrorTargets, TrafficMirrorFilters, TrafficMirrorSessions or \
        NetworkInterfaces, as `aws ec2 describe-traffic-mirror-sessions` prints, for one",
    );
}

/// What CloudFormation and Terraform make of these.
#[test]
fn templates_are_read_as_what_they_make() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let stack = "\
Resources:
  Sensor: {Type: AWS::EC2::TrafficMirrorTarget, Properties: {NetworkInterfaceId: eni-2}}
  Web: {Type: AWS::EC2::TrafficMirrorFilter, Properties: {Description: web}}
  Https:
    Type: AWS::EC2::TrafficMirrorFilterRule
    Properties: {TrafficMirrorFilterId: !Ref Web, TrafficDirection: ingress, RuleNumber: 100,
      RuleAction: accept, Protocol: 6, SourceCidrBlock: 0.0.0.0/0, DestinationCidrBlock: 10.0.0.0/16,
      DestinationPortRange: {FromPort: 443, ToPort: 443}}
  Session:
    Type: AWS::EC2::TrafficMirrorSession
    Properties: {NetworkInterfaceId: eni-1, TrafficMirrorTargetId: !Ref Sensor,
      TrafficMirrorFilterId: !Ref Web, SessionNumber: NUMBER, VirtualNetworkId: 7}
";
    fs::write(path.join("stack.yaml"), stack.replace("NUMBER", "1")).expect("written");
    let expected = "\
eni-1
  session 1 Session: VNI 7 to Sensor (eni-2)
    filter Web
      ingress 100 accept tcp from 0.0.0.0/0 to 10.0.0.0/16 port 443
      egress: no rules, nothing is mirrored";
    says(path, "filter show --config stack.yaml", 0, expected);
    fs::write(path.join("stack.yaml"), stack.replace("NUMBER", "40000")).expect("written");
    let refused = "mirror: Session: SessionNumber 40000: a session's number is 1 to 32766";
    says(path, "filter show --config stack.yaml", 2, refused);
    fs::write(path.join("empty.yaml"), "Resources: {}").expect("written");
    says(
        path,
        "filter show --config empty.yaml",
        2,
        "mirror: empty.yaml: there is no resource of Traffic Mirroring",
    );
    let filter = r#"
resource "aws_ec2_traffic_mirror_filter" "web" {}
resource "aws_ec2_traffic_mirror_filter_rule" "dns" {
  traffic_mirror_filter_id = aws_ec2_traffic_mirror_filter.web.id
  traffic_direction = "egress"
  rule_number = 5
  rule_action = "reject"
  protocol = 17
  source_cidr_block = "10.0.0.0/16"
  destination_cidr_block = "0.0.0.0/0"
  destination_port_range {
    from_port = 53
    to_port = 53
  }
}
"#;
    let session = r#"
resource "aws_ec2_traffic_mirror_target" "fleet" { network_load_balancer_arn = aws_lb.fleet.arn }
resource "aws_ec2_traffic_mirror_session" "web" {
  network_interface_id = "eni-1"
  traffic_mirror_target_id = aws_ec2_traffic_mirror_target.fleet.id
  traffic_mirror_filter_id = aws_ec2_traffic_mirror_filter.web.id
  session_number = 3
  virtual_network_id = 9
}
"#;
    fs::write(path.join("filter.tf"), filter).expect("written");
    fs::write(path.join("session.tf"), session).expect("written");
    let expected = "\
eni-1
  session 3 aws_ec2_traffic_mirror_session.web: VNI 9 to aws_ec2_traffic_mirror_target.fleet (aws_lb.fleet)
    filter aws_ec2_traffic_mirror_filter.web
      ingress: no rules, nothing is mirrored
      egress 5 reject udp from 10.0.0.0/16 to 0.0.0.0/0 port 53";
    says(path, "filter show --config filter.tf --config session.tf", 0, expected);
}
