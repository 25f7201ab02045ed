#!/bin/sh
# Brings a Docker engine: does nothing where one answers; installs and starts Debian's or Ubuntu's own where it may;
# elsewhere says in one sentence what to install.
set -eu
CDPATH='' cd -- "$(dirname "$0")/../.."
. scripts/host/lib.sh

socket=/var/run/docker.sock

# Whether a pid file names a process that is not the program's, or is dead and not reaped yet.
stale() {
    pid=$($sudo cat "$1" 2> /dev/null) || return 1
    ! grep -q "^Name:.$2" "/proc/$pid/status" 2> /dev/null || grep -q '^State:.Z' "/proc/$pid/status"
}

answers() { docker version > /dev/null 2>&1; }
if answers; then exit 0; fi

# Look first, touch nothing.
if [ -n "${DOCKER_HOST:-}" ]; then
    die "no Docker engine answers at DOCKER_HOST=$DOCKER_HOST; expected one: start it, or unset DOCKER_HOST"
fi
endpoint=$(docker context inspect --format '{{.Endpoints.docker.Host}}' 2> /dev/null) || endpoint=
case $endpoint in '' | "unix://$socket") ;;
*) die "no Docker engine answers at $endpoint, where the docker context points; expected one: start it, or run" \
    "'docker context use default'" ;;
esac
if [ -S "$socket" ] && ! [ -w "$socket" ] && command -v docker > /dev/null; then
    die "the Docker engine at $socket does not answer to the user $(id -un); expected a member of its group" \
        "$(stat -c %G "$socket" 2> /dev/null || echo docker):" \
        "run 'sudo usermod -aG docker $(id -un)', log in again and repeat, or start the engine if it is stopped"
fi
if ! [ -f /etc/debian_version ]; then
    die "no Docker engine answers; expected one:" \
        "install or start Docker Desktop (macOS, Windows) or your distribution's Docker, then repeat"
fi
sudo=
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo > /dev/null; then
        die "no Docker engine answers, and installing one needs root or sudo; run 'apt-get install docker.io' as root"
    fi
    sudo="sudo -E"
fi

# Impact from here on. Two makes at once must not install or start two engines.
exec 9> "${TMPDIR:-/tmp}/pipeline-engine-$(id -u).lock"
flock 9
if answers; then exit 0; fi

if ! command -v dockerd > /dev/null && ! [ -x /usr/sbin/dockerd ]; then
    say "no Docker engine on this machine: installing the package docker.io (with containerd and runc) ..."
    # shellcheck disable=SC2086
    quietly $sudo apt-get update || die "apt-get update failed: see above"
    cli=; if apt-cache show docker-cli > /dev/null 2>&1; then cli=docker-cli; fi # a package of its own since Debian 13
    # shellcheck disable=SC2086
    quietly $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends docker.io $cli iptables \
        || die "docker.io could not be installed: see above"
    hash -r
fi

log=/var/log/dockerd.log
say "starting the Docker engine ..."
if [ -d /run/systemd/system ]; then
    # shellcheck disable=SC2086
    quietly $sudo systemctl start docker || die "systemd could not start docker: see above"
else
    # A killed dockerd leaves its pid file and its containerd's, and does not start while any process has that number.
    pidfile=/var/run/docker.pid
    if stale "$pidfile" dockerd; then $sudo rm -f "$pidfile"; fi
    pidfile=/var/run/docker/containerd/containerd.pid
    if stale "$pidfile" containerd; then $sudo rm -f "$pidfile"; fi
    # Not our child: a session of its own, no handle on our output or on the lock.
    # shellcheck disable=SC2016
    $sudo sh -c 'PATH=$PATH:/usr/sbin:/sbin setsid dockerd >> "$0" 2>&1 < /dev/null 9>&- &' "$log"
fi
for _ in $(seq 120); do
    if answers; then exit 0; fi
    if $sudo docker version > /dev/null 2>&1; then
        die "the Docker engine runs, but answers only to root: run 'sudo usermod -aG docker $(id -un)', log in again" \
            "and repeat"
    fi
    sleep 0.5
done
die "the Docker engine did not answer within a minute; its log ($log, or 'journalctl -u docker') says:" \
    "$($sudo tail -n 1 "$log" 2> /dev/null)"
