# What mirror-sessions.sh ($1) does to the sessions of two interfaces. Prints what it said, and what there is.
vpc=$(aws ec2 create-vpc --cidr-block 10.0.0.0/16 --query Vpc.VpcId --output text)
subnet=$(aws ec2 create-subnet --vpc-id "$vpc" --cidr-block 10.0.1.0/24 --query Subnet.SubnetId --output text)
read -r one two < <(aws ec2 run-instances --image-id ami-12345678 --instance-type t3.small --subnet-id "$subnet" \
  --count 2 --query 'Instances[].NetworkInterfaces[0].NetworkInterfaceId' --output text)
target=$(aws ec2 create-traffic-mirror-target --network-interface-id "$one" \
  --query TrafficMirrorTarget.TrafficMirrorTargetId --output text)
filter=$(aws ec2 create-traffic-mirror-filter --query TrafficMirrorFilter.TrafficMirrorFilterId --output text)
by_hand=$(aws ec2 create-traffic-mirror-session --network-interface-id "$two" --traffic-mirror-target-id "$target" \
  --traffic-mirror-filter-id "$filter" --session-number 9 --query TrafficMirrorSession.TrafficMirrorSessionId --output text)

# Names that differ from run to run.
run() {
  "$1" -t "$target" -f "$filter" "${@:2}" mirror=yes | sed -n 's/tms-[0-9a-f]*/SESSION/; s/^eni/INTERFACE: eni/p' |
    sed "s/$one/ONE/; s/$two/TWO/"
  aws ec2 describe-traffic-mirror-sessions --output text \
    --query 'TrafficMirrorSessions[].[TrafficMirrorSessionId,NetworkInterfaceId,SessionNumber,PacketLength,VirtualNetworkId]' |
    sed "s/$by_hand/BY HAND/; s/tms-[0-9a-f]*/SESSION/; s/$one/ONE/; s/$two/TWO/" | sort
}

aws ec2 create-tags --resources "$one" --tags Key=mirror,Value=yes
echo 'only say:' && run "$1" -n
echo 'one has the tag:' && run "$1" -s 3 -v 12345
echo 'again:' && run "$1" -s 3
aws ec2 delete-tags --resources "$one" --tags Key=mirror
aws ec2 create-tags --resources "$two" --tags Key=mirror,Value=yes
echo 'the other has it:' && run "$1" -l 100
aws ec2 delete-tags --resources "$two" --tags Key=mirror
echo 'none has it:' && run "$1"
