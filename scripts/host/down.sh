#!/bin/sh
# Stops and removes this clone's services, and gives its network back: an engine has addresses for 31 of them.
set -eu
CDPATH='' cd -- "$(dirname "$0")/../.."
. scripts/host/lib.sh

docker version > /dev/null 2>&1 || die "no Docker engine answers, so none of this clone's services can be stopped;" \
    "expected the one that they run on: start it and repeat"
forget_former_place
mine="label=pipeline.clone=$(clone_id)"
services=$(for label in com.docker.compose.service pipeline.notebook; do
    docker container ls --all --quiet --filter "$mine" --filter "label=$label"
done)
echo "$services" | with_each docker container stop
# 'make notebook' ends with its server, which it removes itself.
docker container ls --quiet --filter "$mine" --filter label=pipeline.verb=notebook \
    | with_each docker container wait 2> /dev/null || true
echo "$services" | with_each docker container rm --force 2> /dev/null || true
# It stays while something else of this clone runs, which needs it.
docker network ls --quiet --filter "$mine" | with_each docker network rm 2> /dev/null || true
