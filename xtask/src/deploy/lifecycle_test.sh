# What mirror-lifecycle ($1) does: prints the commands that it runs. In the folder $2.
export LOG=$2/log AUTO_SCALING_GROUP=fleet LIFECYCLE_HOOK=drain CAPTURE_BUCKET=captures
mkdir -p "$2/bin"
for name in curl systemctl aws sleep; do
  ln -sf "$2/stub" "$2/bin/$name"
done
cat >"$2/stub" <<'STUB'
#!/bin/bash
case ${0##*/}/${!#} in
  curl/*/api/token) echo token ;;
  curl/*/instance-id) echo i-0 ;;
  curl/*/target-lifecycle-state)
    [[ $* == *'X-aws-ec2-metadata-token: token'* ]] || exit 22
    # Not there at first, then not terminated yet.
    looks=$(cat "$LOG.looks" 2>/dev/null || echo 0)
    echo $((looks + 1)) >"$LOG.looks"
    case $looks in 0) exit 22 ;; 1) echo InService ;; *) echo Terminated ;; esac
    ;;
  *) echo "${0##*/} $*" >>"$LOG" ;;
esac
# A unit that does not stop cleanly must not keep the instance.
[[ ${0##*/}/$* != 'systemctl/stop mirror.service' ]]
STUB
chmod +x "$2/stub"
PATH=$2/bin:$PATH bash "$1" 2>/dev/null
cat "$LOG"
