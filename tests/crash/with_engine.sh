#!/bin/sh
# Calls a command with a second Docker engine beside the shared one, for tests/crash/test_dockerd.py to kill:
#   tests/crash/with_engine.sh COMMAND [ARGUMENT...]
# It needs root and dockerd on this machine; without them the command is called all the same, and those tests are skipped.
# All of the engine is below .local/engine; it has a network namespace of its own, so that it touches no one's rules.
# A file `kill` there kills it with its number 9; it is then started again.
set -eu
CDPATH='' cd -- "$(dirname "$0")/../.."
. scripts/host/lib.sh
folder=$PWD/.local/engine
PATH=$PATH:/usr/sbin:/sbin

start() {
    nsenter --net="$folder/net" dockerd --data-root "$folder/data" --exec-root "$folder/exec" --pidfile "$folder/pid" \
        --host "unix://$folder/docker.sock" >> "$folder/log" 2>&1 &
    engine=$!
}

# A killed engine leaves the numbers of itself and of its containerd, which any process may have by now.
restart() {
    wait "$engine" || true
    rm -f "$folder/pid" "$folder/exec/containerd/containerd.pid" "$folder/kill"
    start
}

# Kills what is asked for until the command has ended; then all of the engine goes.
watch() {
    start
    while [ -d "$folder/wanted" ]; do
        if [ -e "$folder/kill" ]; then kill -9 "$engine"; restart; fi
        sleep 0.1
    done
    export DOCKER_HOST="unix://$folder/docker.sock"
    docker ps --all --quiet 2> /dev/null | xargs -r docker rm -f > /dev/null
    kill "$engine" 2> /dev/null || true # Ctrl-C ends it too
    wait "$engine" || true
    umount "$folder/net"
    umount "$folder/data" 2> /dev/null || true # what a killed engine had mounted onto itself
    rm -rf "$folder"
}

if [ "$(id -u)" = 0 ] && command -v dockerd > /dev/null && unshare --net true 2> /dev/null; then
    mkdir -p "$folder/wanted"
    touch "$folder/net"
    unshare --net="$folder/net" ip link set lo up
    watch &
    watcher=$!
    end_watch() { rmdir "$folder/wanted" && wait "$watcher"; }
    at_end end_watch
fi
"$@"
