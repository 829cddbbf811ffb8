//! The fields of a flow log record.

use std::fmt;

/// The type of a field in a Parquet file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// INT32.
    Int32,
    /// INT64.
    Int64,
    /// A string: BYTE_ARRAY with the annotation String.
    Text,
}

/// Defines the fields, and all that is known of each, as one table.
macro_rules! fields {
    ($($field:ident $name:literal $column:literal $version:literal $kind:ident $doc:literal;)+) => {
        /// A field of a flow log record, of version 11 or lower. Names, versions and types are those of
        /// [AWS](https://docs.aws.amazon.com/vpc/latest/userguide/flow-log-records.html#flow-logs-fields).
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[non_exhaustive]
        pub enum Field {
            $(#[doc = $doc] $field,)+
        }

        impl Field {
            /// All of them, by version.
            pub const ALL: [Self; Self::COUNT] = [$(Self::$field,)+];
            /// How many there are.
            pub const COUNT: usize = [$($version,)+].len();

            /// The name in formats and header lines: `pkt-srcaddr`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$field => $name,)+ }
            }

            /// The name of the column in Parquet files: `pkt_srcaddr`.
            #[must_use]
            pub const fn column(self) -> &'static str {
                match self { $(Self::$field => $column,)+ }
            }

            /// The version of flow logs that has brought it: 2 to 11.
            #[must_use]
            pub const fn version(self) -> u8 {
                match self { $(Self::$field => $version,)+ }
            }

            /// The type of its column in Parquet files.
            #[must_use]
            pub const fn kind(self) -> Kind {
                match self { $(Self::$field => Kind::$kind,)+ }
            }
        }
    };
}

fields! {
    Version "version" "version" 2 Int32 "The highest version among the fields of the format.";
    AccountId "account-id" "account_id" 2 Text "The account of the interface.";
    InterfaceId "interface-id" "interface_id" 2 Text "The interface.";
    SrcAddr "srcaddr" "srcaddr" 2 Text "Source address; of traffic sent, that of the interface.";
    DstAddr "dstaddr" "dstaddr" 2 Text
        "Destination address; of traffic received, that of the interface.";
    SrcPort "srcport" "srcport" 2 Int32 "Source port; 0 of protocols without ports.";
    DstPort "dstport" "dstport" 2 Int32 "Destination port; 0 of protocols without ports.";
    Protocol "protocol" "protocol" 2 Int32 "Protocol (IANA \"Protocol Numbers\").";
    Packets "packets" "packets" 2 Int64 "Packets.";
    Bytes "bytes" "bytes" 2 Int64 "Bytes, from the IP header on.";
    Start "start" "start" 2 Int64 "When the first packet was received, in Unix seconds.";
    End "end" "end" 2 Int64 "When the last packet was received, in Unix seconds.";
    Action "action" "action" 2 Text "ACCEPT or REJECT.";
    LogStatus "log-status" "log_status" 2 Text "OK, NODATA or SKIPDATA.";
    VpcId "vpc-id" "vpc_id" 3 Text "The VPC of the interface.";
    SubnetId "subnet-id" "subnet_id" 3 Text "The subnet of the interface.";
    InstanceId "instance-id" "instance_id" 3 Text "The instance of the interface.";
    TcpFlags "tcp-flags" "tcp_flags" 3 Int32 "TCP flags: FIN 1, SYN 2, RST 4, SYN-ACK 18, and sums.";
    Type "type" "type" 3 Text "IPv4, IPv6 or EFA.";
    PktSrcAddr "pkt-srcaddr" "pkt_srcaddr" 3 Text "Source address of the packet.";
    PktDstAddr "pkt-dstaddr" "pkt_dstaddr" 3 Text "Destination address of the packet.";
    Region "region" "region" 4 Text "The region of the interface.";
    AzId "az-id" "az_id" 4 Text "The availability zone of the interface, by its id.";
    SublocationType "sublocation-type" "sublocation_type" 4 Text "outpost, localzone or wavelength.";
    SublocationId "sublocation-id" "sublocation_id" 4 Text "The sublocation of the interface.";
    PktSrcAwsService "pkt-src-aws-service" "pkt_src_aws_service" 5 Text "The AWS service at pkt-srcaddr.";
    PktDstAwsService "pkt-dst-aws-service" "pkt_dst_aws_service" 5 Text "The AWS service at pkt-dstaddr.";
    FlowDirection "flow-direction" "flow_direction" 5 Text "ingress or egress, as the interface has it.";
    TrafficPath "traffic-path" "traffic_path" 5 Int32 "The path of traffic sent: 1 to 8.";
    EcsClusterArn "ecs-cluster-arn" "ecs_cluster_arn" 7 Text "The ECS cluster, by its ARN.";
    EcsClusterName "ecs-cluster-name" "ecs_cluster_name" 7 Text "The ECS cluster.";
    EcsContainerInstanceArn "ecs-container-instance-arn" "ecs_container_instance_arn" 7 Text
        "The ECS container instance, by its ARN.";
    EcsContainerInstanceId "ecs-container-instance-id" "ecs_container_instance_id" 7 Text
        "The ECS container instance.";
    EcsContainerId "ecs-container-id" "ecs_container_id" 7 Text "The first container.";
    EcsSecondContainerId "ecs-second-container-id" "ecs_second_container_id" 7 Text "The second container.";
    EcsServiceName "ecs-service-name" "ecs_service_name" 7 Text "The ECS service.";
    EcsTaskDefinitionArn "ecs-task-definition-arn" "ecs_task_definition_arn" 7 Text
        "The ECS task definition, by its ARN.";
    EcsTaskArn "ecs-task-arn" "ecs_task_arn" 7 Text "The ECS task, by its ARN.";
    EcsTaskId "ecs-task-id" "ecs_task_id" 7 Text "The ECS task.";
    RejectReason "reject-reason" "reject_reason" 8 Text "Why traffic was rejected, beyond security groups.";
    ResourceId "resource-id" "resource_id" 9 Text "The regional NAT gateway.";
    EncryptionStatus "encryption-status" "encryption_status" 10 Int32 "How the traffic is encrypted: 0 to 3.";
    InterfaceType "interface-type" "interface_type" 11 Text "The type of the interface.";
    InterfaceTag "interface-tag" "interface_tag" 11 Text "A tag of the interface.";
    InterfaceTag2 "interface-tag-2" "interface_tag_2" 11 Text "A second tag of the interface.";
    InstanceTag "instance-tag" "instance_tag" 11 Text "A tag of the instance.";
    InstanceTag2 "instance-tag-2" "instance_tag_2" 11 Text "A second tag of the instance.";
    AsgTag "asg-tag" "asg_tag" 11 Text "A tag of the instance's Auto Scaling group.";
    AsgTag2 "asg-tag-2" "asg_tag_2" 11 Text "A second tag of the instance's Auto Scaling group.";
    NextHopInterfaceId "next-hop-interface-id" "next_hop_interface_id" 11 Text
        "The interface at the next hop.";
    NextHopSubnetId "next-hop-subnet-id" "next_hop_subnet_id" 11 Text "The subnet of that interface.";
    NextHopAzId "next-hop-az-id" "next_hop_az_id" 11 Text "The availability zone of that interface.";
    NextHopVpcId "next-hop-vpc-id" "next_hop_vpc_id" 11 Text "The VPC of that interface.";
    NextHopInterfaceType "next-hop-interface-type" "next_hop_interface_type" 11 Text
        "The type of that interface.";
}

impl Field {
    /// The field of this name, in any spelling that AWS has for it: `pkt-srcaddr` as in formats,
    /// `pkt_srcaddr` as in Athena, `pktSrcAddr` as in Logs Insights, `${pkt-srcaddr}`. Case and separators do
    /// not count.
    ///
    /// # Examples
    ///
    /// ```
    /// use mirror_user::flow_log::Field;
    ///
    /// assert_eq!(Field::named("pktSrcAddr"), Some(Field::PktSrcAddr));
    /// assert_eq!(Field::named("${log-status}"), Some(Field::LogStatus));
    /// assert_eq!(Field::named("tgw-id"), None);
    /// ```
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let name = name.strip_prefix("${").and_then(|name| name.strip_suffix('}')).unwrap_or(name);
        Self::ALL.into_iter().find(|field| letters(field.name()).eq(letters(name)))
    }

    /// The field whose name differs least from this one, if it is a likely misspelling.
    pub(super) fn nearest(name: &str) -> Option<Self> {
        let wanted: Vec<_> = letters(name).collect();
        let distances = Self::ALL.into_iter().map(|field| {
            let own: Vec<_> = letters(field.name()).collect();
            (distance(&wanted, &own), field)
        });
        let (distance, field) = distances.min_by_key(|(distance, _)| *distance)?;
        // Beyond a third of the letters, a suggestion is a guess.
        (distance * 3 <= wanted.len()).then_some(field)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What distinguishes names: letters and digits, without case.
fn letters(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().filter(|byte| !matches!(byte, b'-' | b'_')).map(|byte| byte.to_ascii_lowercase())
}

/// How many letters must be inserted, removed or replaced: Levenshtein's distance.
fn distance(from: &[u8], to: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (above, letter) in from.iter().enumerate() {
        let (mut diagonal, mut left) = (above, above + 1);
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, other) in row.iter_mut().skip(1).zip(to) {
            let replaced = diagonal + usize::from(letter != other);
            diagonal = *cell;
            left = replaced.min(diagonal + 1).min(left + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;
