#!/bin/sh
# Calls a command with two Docker engines beside the shared one, as on two machines that a cable joins:
#   tests/airflow/with_engines.sh COMMAND [ARGUMENT...]
# It needs root and dockerd on this machine; without them the command is called all the same, and its tests are skipped.
# Each engine has a network namespace of its own, one as 10.77.0.1 and two as 10.77.0.2, from which nothing else is
# reached, and lies below .local/engines. A file `kill` there kills it with its number 9; it is then started again.
set -eu
CDPATH='' cd -- "$(dirname "$0")/../.."
. scripts/host/lib.sh
folder=$PWD/.local/engines
PATH=$PATH:/usr/sbin:/sbin

start() { # NAME
    own=$folder/$1
    env -u HTTP_PROXY -u HTTPS_PROXY -u http_proxy -u https_proxy nsenter --net="$own/net" dockerd \
        --data-root "$own/data" --exec-root "$own/exec" --pidfile "$own/pid" --host "unix://$own/docker.sock" \
        --insecure-registry 10.77.0.0/24 >> "$own/log" 2>&1 &
    engine=$!
}

# Keeps an engine alive until the command has ended; then all of it goes.
watch() { # NAME
    start "$1"
    while [ -d "$folder/wanted" ]; do
        if [ -e "$own/kill" ]; then
            kill -9 "$engine"
            wait "$engine" || true
            # It leaves the numbers of itself and of its containerd, which any process may have by now.
            rm -f "$own/pid" "$own/exec/containerd/containerd.pid" "$own/kill"
            start "$1"
        fi
        sleep 0.1
    done
    DOCKER_HOST=unix://$own/docker.sock docker ps --all --quiet 2> /dev/null \
        | DOCKER_HOST=unix://$own/docker.sock xargs -r docker rm -f > /dev/null
    kill "$engine" 2> /dev/null || true # Ctrl-C ends it too
    wait "$engine" || true
    umount "$own/net"
    umount "$own/data" 2> /dev/null || true # what a killed engine had mounted onto itself
    umount "$own/exec/netns/default" 2> /dev/null || true # what a container on its network had mounted
}

if [ "$(id -u)" = 0 ] && command -v dockerd > /dev/null && unshare --net true 2> /dev/null; then
    mkdir -p "$folder/wanted"
    for name in one two; do
        mkdir -p "$folder/$name"
        touch "$folder/$name/net"
        unshare --net="$folder/$name/net" ip link set lo up
    done
    nsenter --net="$folder/one/net" ip link add cable type veth peer name cable netns "$folder/two/net"
    address=1
    for name in one two; do
        nsenter --net="$folder/$name/net" ip address add "10.77.0.$address/24" dev cable
        nsenter --net="$folder/$name/net" ip link set cable up
        address=2
    done
    watchers=
    # shellcheck disable=SC2086
    end_watch() { rmdir "$folder/wanted" && wait $watchers && rm -rf "$folder"; }
    at_end end_watch
    for name in one two; do
        watch "$name" &
        watchers="$watchers $!"
    done
fi
"$@"
