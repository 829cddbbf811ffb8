# What a newcomer to docs/deploy.md has, in a server that knows nothing yet.
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
echo package >"$work/mirror.rpm"
vpc=$(aws ec2 create-vpc --cidr-block 10.1.0.0/16 --query Vpc.VpcId --output text)
subnet=$(aws ec2 create-subnet --vpc-id "$vpc" --cidr-block 10.1.1.0/24 --query Subnet.SubnetId --output text)
INTERFACE=$(aws ec2 create-network-interface --subnet-id "$subnet" \
  --query NetworkInterface.NetworkInterfaceId --output text)
PACKAGE=$work/mirror.rpm
aws ec2 create-key-pair --key-name workshop >/dev/null
# No stack makes anything here, so its target group is not there: that the command is right is what counts.
aws() {
  local said
  said=$(command aws "$@" 2>&1) || [[ $said == *'(TargetGroupNotFound)'* ]] || { echo "$said" >&2; return 1; }
  printf '%s\n' "$said"
}
