# Has each running service go on in the new version, from kernel 6.4 on without a gap. Never a stop and a start: packets
# of the time between would be lost, and a start that fails would leave the host without a service.
upgrade_running() {
    [ -d /run/systemd/system ] || return 0
    systemctl daemon-reload || true
    for unit in $(systemctl list-units --plain --no-legend --state=active mirror.service 'mirror@*.service' |
        cut -d ' ' -f 1); do
        name=${unit%.service}
        if ! mirror upgrade "${name#mirror@}"; then
            echo "mirror: $unit goes on in the version before. The reason is above; try again by" >&2
            echo "    mirror upgrade ${name#mirror@}" >&2
            echo "or, when packets may be lost for some seconds, by" >&2
            echo "    systemctl restart $unit" >&2
        fi
    done
}
