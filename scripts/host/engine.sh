#!/bin/sh
# Provides a Docker engine: does nothing if one answers; installs and starts Debian's or Ubuntu's own if it may;
# elsewhere says in one sentence what to install.
set -eu
CDPATH='' cd -- "$(dirname "$0")/../.."
. scripts/host/lib.sh

socket=/var/run/docker.sock

# Prints the process of a pid file if that is the program $2 and alive; one that is dead and not reaped yet is not.
alive() {
    pid=$($sudo cat "$1" 2> /dev/null) && grep -qs "^Name:.$2" "/proc/$pid/status" && lives "$pid" && echo "$pid"
}
lives() { [ -d "/proc/$1" ] && ! grep -qs '^State:.Z' "/proc/$1/status"; }

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
flock --nonblock 9 || { say "waiting for another make, which starts the Docker engine ..."; flock 9; }
if answers; then exit 0; fi

if ! command -v dockerd > /dev/null && ! [ -x /usr/sbin/dockerd ]; then
    say "no Docker engine on this machine: installing the package docker.io (with containerd and runc) ..."
    # shellcheck disable=SC2086
    quietly $sudo apt-get update || die "apt-get update failed: see above"
    sh scripts/host/python_image.sh --begin
    cli=; if apt-cache show docker-cli > /dev/null 2>&1; then cli=docker-cli; fi # a package of its own since Debian 13
    # shellcheck disable=SC2086
    quietly $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends docker.io $cli iptables \
        || die "docker.io could not be installed: see above"
    hash -r
fi

log=/var/log/dockerd.log
daemon= # our engine's process; systemd knows its own
say "starting the Docker engine ..."
if [ -d /run/systemd/system ]; then
    # shellcheck disable=SC2086
    quietly $sudo systemctl start docker || die "systemd could not start docker: see above"
elif ! daemon=$(alive /var/run/docker.pid dockerd); then
    # A killed dockerd leaves its pid file and its containerd's, and does not start while any process has that number.
    $sudo rm -f /var/run/docker.pid
    alive /var/run/docker/containerd/containerd.pid containerd > /dev/null \
        || $sudo rm -f /var/run/docker/containerd/containerd.pid
    # Not our child: a session of its own, no handle on our output or on the lock.
    # shellcheck disable=SC2016
    daemon=$($sudo sh -c 'PATH=$PATH:/usr/sbin:/sbin setsid dockerd >> "$0" 2>&1 < /dev/null 9>&- & echo $!' "$log")
fi

# An engine that lives is waited for; on a machine with much to do it takes minutes. One that has ended is given up.
goes_on() {
    if [ -n "$daemon" ]; then lives "$daemon"; else
        case $(systemctl is-active docker) in active | activating | reloading) ;; *) return 1 ;; esac
    fi
}
began=$(date +%s)
note=5
answers_in_time() { timeout 10 docker version > /dev/null 2>&1; }
until answers_in_time; do
    if [ -n "$sudo" ] && timeout 10 sudo docker version > /dev/null 2>&1 && ! answers_in_time; then
        die "the Docker engine runs, but answers only to root: run 'sudo usermod -aG docker $(id -un)', log in again" \
            "and repeat"
    fi
    waited=$(($(date +%s) - began))
    if ! goes_on; then why="ended as it started"; elif [ "$waited" -ge 600 ]; then why="did not answer within 10 minutes"
    else why=; fi
    [ -z "$why" ] || die "the Docker engine $why; its log ($log, or 'journalctl -u docker') says:" \
        "$($sudo tail -n 3 "$log" 2> /dev/null)"
    if [ "$waited" -ge "$note" ]; then
        say "waiting for the Docker engine, which is still starting ($waited s) ..."
        note=$((waited + 30))
    fi
    sleep 0.5
done
