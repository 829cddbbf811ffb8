#!/bin/bash
# Keeps one mirror session for each interface in use that has a tag, and none for the others.
set -euo pipefail

usage() {
  cat >&2 <<'EOF'
Usage: mirror-sessions.sh [-n] -t TARGET -f FILTER [-s NUMBER] [-l LENGTH] [-v VNI] KEY=VALUE
  -t TARGET   the mirror target, tmt-...
  -f FILTER   the mirror filter, tmf-...
  -s NUMBER   session number, 1 to 32766 (1)
  -l LENGTH   bytes mirrored of each packet (3462, what fits a target's MTU of 3498)
  -v VNI      the VNI of all new sessions (chosen by AWS)
  -n          only say what would be done
Sessions are made for interfaces with the tag KEY=VALUE. A session that was made so, of the same target, is deleted when
its interface does not have the tag any more. Other sessions are never touched.
EOF
  exit 2
}

target='' filter='' number=1 length=3462 vni='' dry_run=''
while getopts 't:f:s:l:v:n' option; do
  case $option in
    t) target=$OPTARG ;;
    f) filter=$OPTARG ;;
    s) number=$OPTARG ;;
    l) length=$OPTARG ;;
    v) vni=$OPTARG ;;
    n) dry_run=1 ;;
    *) usage ;;
  esac
done
shift $((OPTIND - 1))
[[ $# -eq 1 && $1 == ?*=?* && -n $target && -n $filter ]] || usage
key=${1%%=*} value=${1#*=}

change() {
  if [[ -n $dry_run ]]; then
    echo "would run: $*"
  else
    "$@" >/dev/null
  fi
}

# Both lists before the first change: without one of them nothing is made or deleted.
wanted=$(aws ec2 describe-network-interfaces --output text \
  --filters "Name=tag:$key,Values=$value" 'Name=status,Values=in-use' \
  --query 'NetworkInterfaces[].[NetworkInterfaceId]')
ours=$(aws ec2 describe-traffic-mirror-sessions --output text \
  --filters "Name=traffic-mirror-target-id,Values=$target" \
  --query "TrafficMirrorSessions[?Tags[?Key=='mirror-sessions' && Value=='$key=$value']].[TrafficMirrorSessionId,NetworkInterfaceId]")

failed=0
for interface in $wanted; do
  if [[ $ours == *[[:space:]]"$interface"* ]]; then
    continue
  fi
  echo "$interface: new session"
  change aws ec2 create-traffic-mirror-session --network-interface-id "$interface" \
    --traffic-mirror-target-id "$target" --traffic-mirror-filter-id "$filter" \
    --session-number "$number" --packet-length "$length" ${vni:+--virtual-network-id "$vni"} \
    --tag-specifications "ResourceType=traffic-mirror-session,Tags=[{Key=mirror-sessions,Value=$key=$value}]" ||
    failed=1
done
while read -r session interface; do
  if [[ -z $session || $'\n'$wanted$'\n' == *$'\n'"$interface"$'\n'* ]]; then
    continue
  fi
  echo "$interface: session $session deleted"
  change aws ec2 delete-traffic-mirror-session --traffic-mirror-session-id "$session" || failed=1
done <<<"$ours"
exit "$failed"
