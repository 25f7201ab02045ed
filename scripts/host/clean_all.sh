#!/bin/sh
# Deletes this clone's containers, its network, the images that no other clone uses, and .local. Asks first, unless
# YES=1. Everything is found by label: what other clones and projects have is left alone.
set -eu
CDPATH='' cd -- "$(dirname "$0")/../.."
. scripts/host/lib.sh
clone=$(clone_id)

if [ "${YES:-}" != 1 ]; then
    say "This deletes the containers, the network and the images of this clone, and .local: MLflow's runs and models," \
        "and the data that 'make push' put into .local/dvc-remote."
    printf 'Go on? [y/N] ' >&2
    read -r answer || answer=
    case $answer in y | Y | yes) ;; *) die "nothing was deleted; expected 'y', or YES=1 on the command line" ;; esac
fi

docker version > /dev/null 2>&1 || die "no Docker engine answers, so nothing was deleted; expected the one that holds" \
    "this clone's containers and images: start it and repeat"

mine="label=pipeline.clone=$clone"
forget_former_place
# A runner that calls this (the tests) is of another clone.
remove_containers --filter "$mine"
# What runs in a working copy of the clone has its name, a dot and the copy's.
docker container ls --all --filter label=pipeline.clone --format '{{.ID}} {{.Label "pipeline.clone"}}' \
    | awk -v part="$clone." 'index($2, part) == 1 { print $1 }' | with_each docker container rm --force 2> /dev/null || true
docker network ls --quiet --filter "$mine" | with_each docker network rm
docker volume ls --quiet --filter "$mine" | with_each docker volume rm
docker image ls --format '{{.Repository}}:{{.Tag}}' "stages/clone-$clone" | with_each docker image rm
# An image goes when no clone has it tagged. Children go before parents, hence the order.
candidates=$(for kind in 'stages/*' stages/runner stages/base stages/python; do
    docker image ls --filter label=pipeline.image --format '{{.ID}} {{.Repository}}:{{.Tag}}' "$kind"
done)
of_a_clone() { docker image inspect --format '{{.Id}} {{.RepoTags}}' "$@" 2> /dev/null | grep -F stages/clone- || true; }
# shellcheck disable=SC2046
used=$(of_a_clone $(echo "$candidates" | cut -d ' ' -f 1 | sort -u) | cut -c 8-19) # sha256: and 12 digits
echo "$candidates" | grep -vF "${used:-none}" | while read -r id name; do
    if [ -n "$(of_a_clone "$id")" ]; then continue; fi # asked again at the last moment: other clones build meanwhile
    docker image rm "$name" > /dev/null 2>&1 || true # used by what is not ours, or gone in an earlier round
done
# What lost its tag to a newer build, of whichever clone.
docker image prune --force --filter label=pipeline.image > /dev/null 2>&1 || true # one at a time on an engine
if [ -z "$(docker image ls --quiet stages/python)" ]; then
    docker image ls --quiet stages/debian | with_each docker image rm
fi
# A stage may have left folders that nobody may enter.
find .local -type d ! -perm -700 -exec chmod u+rwx {} \; 2> /dev/null || true
rm -rf .local
say "deleted this clone's containers, network, images and .local; .env, DVC's cache and the outputs are still here"
