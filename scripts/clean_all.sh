#!/bin/sh
# Deletes all that this clone made outside git: its containers, its network, the images that no other clone uses, and
# .local. Asks first; YES=1 answers. What other clones and projects have is found by label and left alone.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
clone=$(clone_id)

if [ "${YES:-}" != 1 ]; then
    say "This deletes the containers, the network and the images of this clone, and .local: MLflow's runs and models," \
        "and the data that 'make push' put into .local/dvc-remote."
    printf 'Go on? [y/N] ' >&2
    read -r answer || answer=
    case $answer in y | Y | yes) ;; *) die "nothing was deleted; expected 'y', or YES=1 on the command line" ;; esac
fi

if docker version > /dev/null 2>&1; then
    mine="label=pipeline.clone=$clone"
    # A runner that calls this (the tests) is of another clone.
    docker container ls --all --quiet --filter "$mine" | xargs -r docker container rm --force > /dev/null
    docker network ls --quiet --filter "$mine" | xargs -r docker network rm > /dev/null
    docker image ls --format '{{.Repository}}:{{.Tag}}' "stages/clone-$clone" | xargs -r docker image rm > /dev/null
    # An image goes when no clone has it tagged; children before parents, hence the order.
    used=$(docker image ls --format '{{.ID}} {{.Repository}}' 'stages/*' | awk '/ stages\/clone-/ { print $1 }')
    for kind in 'stages/*' stages/runner stages/base stages/python; do
        docker image ls --filter label=pipeline.image --format '{{.ID}} {{.Repository}}:{{.Tag}}' "$kind"
    done | while read -r id name; do
        case $used in *"$id"*) continue ;; esac
        docker image rm "$name" > /dev/null 2>&1 || true # used by what is not ours, or gone in an earlier round
    done
    if [ -z "$(docker image ls --quiet stages/python)" ]; then
        docker image ls --quiet stages/debian | xargs -r docker image rm > /dev/null
    fi
fi
rm -rf .local
say "deleted all that this clone made; 'make clean' deletes the outputs in the working tree"
