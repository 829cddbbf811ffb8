use super::*;
use crate::{flow_log::Field, mirroring::Direction};

/// As the AWS CLI prints them, in part.
const INTERFACES: &str = r#"{"NetworkInterfaces": [
    {
        "NetworkInterfaceId": "eni-0a", "OwnerId": "111122223333", "MacAddress": "02:00:5e:10:00:0a",
        "VpcId": "vpc-0a", "SubnetId": "subnet-0a", "InterfaceType": "interface",
        "AvailabilityZone": "us-east-1a", "AvailabilityZoneId": "use1-az2", "RequesterManaged": false,
        "Attachment": {"InstanceId": "i-0a", "InstanceOwnerId": "111122223333"},
        "PrivateIpAddresses": [
            {"Primary": false, "PrivateIpAddress": "10.0.0.10"},
            {"Primary": true, "PrivateIpAddress": "10.0.0.9"}
        ],
        "TagSet": [{"Key": "app", "Value": "my-app"}, {"Key": "Name", "Value": "web 1"}]
    },
    {
        "NetworkInterfaceId": "eni-0b", "OwnerId": "111122223333", "RequesterManaged": true,
        "AvailabilityZone": "us-west-2-lax-1a", "SubnetId": "subnet-0b", "VpcId": "vpc-0b",
        "Attachment": {"InstanceId": "i-0a", "InstanceOwnerId": "amazon-elb"},
        "PrivateIpAddresses": [{"Primary": true, "PrivateIpAddress": "10.0.0.11"}]
    },
    {
        "NetworkInterfaceId": "eni-0c", "OwnerId": "444455556666",
        "Attachment": {"InstanceId": "i-0a", "InstanceOwnerId": "111122223333"},
        "PrivateIpAddresses": [{"Primary": true, "PrivateIpAddress": "10.0.0.11"}]
    }
]}"#;
const SESSIONS: &str = r#"{"TrafficMirrorSessions": [
    {
        "TrafficMirrorSessionId": "tms-0a",
        "TrafficMirrorTargetId": "tmt-0a", "TrafficMirrorFilterId": "tmf-0a",
        "NetworkInterfaceId": "eni-0c", "OwnerId": "444455556666", "SessionNumber": 1, "VirtualNetworkId": 7
    },
    {
        "TrafficMirrorSessionId": "tms-0b",
        "TrafficMirrorTargetId": "tmt-0a", "TrafficMirrorFilterId": "tmf-0a",
        "NetworkInterfaceId": "eni-0d", "OwnerId": "777788889999", "SessionNumber": 1, "VirtualNetworkId": 8
    }
]}"#;
const OTHERS: &str = r#"
{"Subnets": [{"SubnetId": "subnet-0b", "AvailabilityZoneId": "usw2-lax1-az1"}]}
{"Reservations": [{"Instances": [{"InstanceId": "i-0a", "Tags": [
    {"Key": "team", "Value": "a/b"}, {"Key": "aws:autoscaling:groupName", "Value": "web"}
]}]}]}
{"Vpcs": [{
    "VpcId": "vpc-0a", "CidrBlock": "10.0.0.0/16",
    "CidrBlockAssociationSet": [{"CidrBlock": "10.0.0.0/16"}, {"CidrBlock": "100.64.0.0/16"}],
    "Ipv6CidrBlockAssociationSet": [{"Ipv6CidrBlock": "2001:db8:1::/56"}]
}]}
{"syncToken": "1", "prefixes": [
    {"ip_prefix": "52.92.0.0/17", "region": "us-east-1", "service": "AMAZON"},
    {"ip_prefix": "52.92.16.0/20", "region": "us-east-1", "service": "S3"},
    {"ip_prefix": "52.92.16.0/21", "region": "us-east-1", "service": "AMAZON"},
    {"ip_prefix": "52.92.17.0/24", "region": "us-east-1", "service": "EC2"}
], "ipv6_prefixes": [{"ipv6_prefix": "2600:1f68::/33", "service": "DYNAMODB"}]}
"#;

fn keys() -> TagKeys {
    let some = |key: &str| Some(key.to_owned());
    TagKeys {
        interface: [some("app"), some("Name")],
        instance: [some("team"), some("missing")],
        auto_scaling_group: [some("team"), None],
    }
}

fn read(files: &[&str]) -> Metadata {
    Metadata::read(files.iter().map(|text| ("f.json", *text)), &keys()).unwrap()
}

fn fields(metadata: &Metadata, vni: u32, source: &str) -> Vec<String> {
    let Some(interface) = metadata.interface_of(vni, source.parse().unwrap()) else { return Vec::new() };
    let value = |field: Field| Some(format!("{field} {}", interface.fields.get(field)?));
    Field::ALL.into_iter().filter_map(value).collect()
}

#[test]
fn an_interface_gives_its_fields_to_its_address() {
    // One file twice is as good as once.
    let metadata = read(&[INTERFACES, INTERFACES]);
    assert_eq!(
        fields(&metadata, 1, "10.0.0.9"),
        [
            "account-id 111122223333",
            "interface-id eni-0a",
            "vpc-id vpc-0a",
            "subnet-id subnet-0a",
            "instance-id i-0a",
            "region us-east-1",
            "az-id use1-az2",
            "interface-type interface",
            "interface-tag my%2Dapp",
            "interface-tag-2 web%201",
        ]
    );
    let interface = metadata.interface_of(1, "::ffff:10.0.0.9".parse().unwrap()).unwrap();
    assert_eq!(interface.mac, Some([2, 0, 0x5e, 0x10, 0, 0xa]));
    // A secondary address is no origin, and two VPCs may have the same address.
    for source in ["10.0.0.10", "10.0.0.11", "10.0.0.12", "2001:db8::1"] {
        assert!(fields(&metadata, 1, source).is_empty(), "{source}");
    }
    assert_eq!(metadata.interfaces().len(), 3);
}

#[test]
fn a_session_says_whose_vni_it_is_and_instances_of_others_are_not_named() {
    let metadata = read(&[INTERFACES, SESSIONS]);
    assert_eq!(fields(&metadata, 7, "10.0.0.11"), ["account-id 444455556666", "interface-id eni-0c"]);
    assert_eq!(fields(&metadata, 8, "10.9.9.9"), ["account-id 777788889999", "interface-id eni-0d"]);
    assert!(fields(&metadata, 9, "10.0.0.11").is_empty());
    assert_eq!(metadata.interfaces().len(), 4);
}

#[test]
fn other_calls_complete_what_interfaces_lack() {
    let metadata = read(&[INTERFACES, OTHERS]);
    let of = |id: &str, field| {
        let interface = metadata.interfaces().iter().find(|interface| interface.id == id).unwrap();
        interface.fields.get(field).map(str::to_owned)
    };
    assert_eq!(of("eni-0b", Field::AzId).as_deref(), Some("usw2-lax1-az1"));
    assert_eq!(of("eni-0b", Field::Region).as_deref(), Some("us-west-2"));
    assert_eq!(of("eni-0b", Field::SublocationType).as_deref(), Some("localzone"));
    assert_eq!(of("eni-0b", Field::SublocationId).as_deref(), Some("usw2-lax1-az1"));
    assert_eq!(of("eni-0b", Field::InstanceId), None);
    assert_eq!(of("eni-0a", Field::InstanceTag).as_deref(), Some("a%2Fb"));
    assert_eq!(of("eni-0a", Field::InstanceTag2), None);
    assert_eq!(of("eni-0a", Field::AsgTag).as_deref(), Some("a%2Fb"));
}

#[test]
fn traffic_that_is_sent_within_the_vpc_has_path_1() {
    let metadata = read(&[INTERFACES, OTHERS]);
    let interface = metadata.interface_of(1, "10.0.0.9".parse().unwrap()).unwrap();
    let path = |direction, address: &str| interface.traffic_path(direction, address.parse().unwrap());
    for address in ["10.0.255.1", "100.64.0.1", "2001:db8:1:1::1"] {
        assert_eq!(path(Direction::Egress, address), Some(1), "{address}");
        assert_eq!(path(Direction::Ingress, address), None);
    }
    for address in ["10.1.0.1", "192.0.2.1", "2001:db8:2::1"] {
        assert_eq!(path(Direction::Egress, address), None, "{address}");
    }
}

#[test]
fn the_service_is_that_of_the_longest_prefix_and_amazon_if_there_is_no_other() {
    let metadata = read(&[OTHERS]);
    let service = |address: &str| metadata.service_of(address.parse().unwrap()).map(AsRef::as_ref);
    for (address, expected) in [
        ("52.92.1.1", Some("AMAZON")),
        ("52.92.18.1", Some("S3")),
        ("52.92.17.1", Some("EC2")),
        ("2600:1f68::1", Some("DYNAMODB")),
        ("10.0.0.1", None),
        ("2600:1f69::1", None),
    ] {
        assert_eq!(service(address), expected, "{address}");
    }
}

#[test]
fn what_is_no_metadata_is_named() {
    let error = |text: &str| Metadata::read([("f.json", text)], &keys()).unwrap_err().to_string();
    for text in ["{}", "", "{\"Buckets\": []}"] {
        assert!(
            error(text).starts_with("f.json: it is neither what `aws ec2` prints for describe-"),
            "{text}"
        );
    }
    assert!(error("{\"Vpcs\": 1}").starts_with("f.json: invalid type: integer `1`"));
    let text = OTHERS.replace("100.64.0.0/16", "100.64.0.0/33");
    assert!(error(&text).starts_with("vpc-0a: CidrBlock \"100.64.0.0/33\": a CIDR block"));
}
