#!/bin/sh
# Runs a verb of scripts/ in the runner: the one container that holds the Docker socket.
#   scripts/host/runner.sh VERB [ARGUMENT...]
# The clone is mounted at the path that it has on the host, so that a path means the same thing on the host, in the
# runner and to the Docker engine, which the runner asks for sibling containers.
set -eu
CDPATH='' cd -P -- "$(dirname "$0")/../.."
. scripts/host/lib.sh
. scripts/host/places.sh
project=$PWD # with a line break at its end, which $(pwd) would lose

case $project in
*,* | *:* | *'"'* | *[{}]* | *'
'*) die "the project lies in '$project'; expected a path without comma, colon, quotation mark, brace or line break," \
    "which Docker's mounts or DVC cannot express: move the clone" ;;
esac
[ -e .git ] || die "$project is no git clone; expected one, since DVC works beside git: clone it, or run 'git init'"

about='{{.OperatingSystem}} {{.SecurityOptions}} {{.ClientInfo.Context}}'
engine=$(docker info --format "$about" 2> /dev/null) || engine=
case $engine in '' | ' '*) # without an engine some clients (26.1) end with 0 all the same, and with empty fields
    sh scripts/host/engine.sh
    engine=$(docker info --format "$about") ;;
esac

# Which socket, and who may use it. In Docker Desktop's virtual machine it is root's, at the usual place.
case "${DOCKER_HOST:-} $engine" in
' '*' default') host=unix:///var/run/docker.sock ;; # no other context has this name: one question less
*) host=${DOCKER_HOST:-$(docker context inspect --format '{{.Endpoints.docker.Host}}')} ;;
esac
if [ -n "${RUNNER_SOCKET:-}" ]; then host=unix://$RUNNER_SOCKET; fi # we are in a runner: the host's path of it
case $host in unix://*) socket=${host#unix://} ;;
*) die "the Docker engine is at $host; expected one on this machine (unix://...), which can mount this folder:" \
    "unset DOCKER_HOST or choose another docker context" ;;
esac
owner=$(stat -c %u:%g . 2> /dev/null || stat -f %u:%g .)
case $engine in
*"Docker Desktop"*) socket=/var/run/docker.sock group=0 ;;
*rootless*) owner=0:0 group=0 ;; # there, root in a container is the user on the host
*) # Without GNU stat (macOS with Colima, OrbStack or Rancher Desktop) the engine is in a virtual machine too.
    here=$socket
    if [ -n "${RUNNER_SOCKET:-}" ]; then here=/var/run/docker.sock; fi
    group=$(stat -Lc %g "$here" 2> /dev/null) || { socket=/var/run/docker.sock group=0; } ;;
esac

clone=$(clone_id)
python_image=${PYTHON_IMAGE:-$(sh scripts/host/python_image.sh --name)}
runner_image=stages/runner:$({ echo "$python_image"; cat Dockerfile.runner scripts/requirements.txt; } | hash12)
network=pipeline-$clone

# Succeeds if both images, this clone's second tag of each and its network exist: one question instead of five.
all_present() {
    docker inspect --format '{{.Id}}' "$python_image" "stages/clone-$clone:python" \
        "$runner_image" "stages/clone-$clone:runner" ${needs_network:+"$network"} 2> /dev/null \
        | awk -v all="${needs_network:-4}" '{ id[NR] = $0 } END { exit !(NR == all && id[1] == id[2] && id[3] == id[4]) }'
}

make_ready() {
    # A second tag says that this clone uses an image, so that clean-all in another clone leaves it; first of all, then.
    if have_image "$python_image"; then docker tag "$python_image" "stages/clone-$clone:python"; fi
    if ! have_image "$runner_image"; then
        [ -n "${PYTHON_IMAGE:-}" ] || sh scripts/host/python_image.sh > /dev/null
        docker tag "$python_image" "stages/clone-$clone:python"
        say "building the runner image $runner_image (once; a minute or two) ..."
        context=$(mktemp -d)
        target=packages # what is installed is not copied, which takes as long again
        forget_build_stage() { :; }
        if [ -n "${PIP_INDEX_URL:-}${PIP_EXTRA_INDEX_URL:-}${PIP_TRUSTED_HOST:-}" ]; then
            target=
            # The legacy builder keeps that stage as an image without a name, arguments and all: not longer than needed.
            # The engine runs one 'prune' at a time: where another clone's is going on, that one does it.
            forget_build_stage() {
                docker image prune --force --filter label=pipeline.image=runner-build > /dev/null 2>&1 || true
            }
        fi
        tidy() { rm -rf "$context" && forget_build_stage; }
        at_end tidy
        cp Dockerfile.runner scripts/requirements.txt "$context"
        quietly docker build --pull=false --tag "$runner_image" --file "$context/Dockerfile.runner" \
            ${target:+--target "$target"} --label pipeline.image=runner \
            --build-arg "PYTHON_IMAGE=$python_image" \
            --build-arg PIP_INDEX_URL --build-arg PIP_EXTRA_INDEX_URL --build-arg PIP_TRUSTED_HOST \
            --build-arg HTTP_PROXY --build-arg HTTPS_PROXY --build-arg NO_PROXY \
            --build-arg http_proxy --build-arg https_proxy --build-arg no_proxy "$context" \
            || die "the runner image could not be built: see above"
        tidy
        nothing_at_end
    fi
    mkdir -p -m 700 .local
    forget_former_place
    check_that_the_engine_sees_this
    docker tag "$runner_image" "stages/clone-$clone:runner" # from now on nothing of this is asked again
    pwd -P > .local/place
    chown "$owner" .local .local/place 2> /dev/null || true # by root, in somebody else's clone
    [ -n "$needs_network" ] || return 0
    docker network inspect "$network" > /dev/null 2>&1 \
        || docker network create --label "pipeline.clone=$clone" "$network" > /dev/null \
        || die "the network $network could not be made: see above; expected an engine with room for one more network" \
            "(it has 31 as it is installed): call 'make clean-all' in a clone that you no longer need"
}

# How git merges dvc.lock (.gitattributes): a clone's own setting, which no commit can bring along.
set_merge_driver() {
    driver='sh scripts/host/merge_lock.sh %O %A %B'
    [ "$(git config merge.dvc-lock.driver 2> /dev/null)" != "$driver" ] || return 0
    # Not of two common ancestors at a criss-cross, of which neither is a commit's.
    { git config merge.dvc-lock.recursive binary && git config merge.dvc-lock.driver "$driver"; } 2> /dev/null \
        || true # in somebody else's clone, or set by another make at this moment
}

# Prints a setting of .env (which the runner itself reads with a library), nothing if it is not there.
setting() {
    [ ! -e .env ] || tr -d '\r' < .env | sed -nE "s/^ *(export  *)?$1 *= *[\"']?([^\"'#]*[^\"'# ]).*/\2/p" | tail -n 1
}

# In a container that was given its host's socket, the engine mounts the host's folders, not those that are seen here.
check_that_the_engine_sees_this() {
    echo "$$ $(date)" > .local/nonce
    seen=$(docker run --rm --pull never --network none --label "pipeline.clone=$clone" \
        --mount "type=bind,src=$project/.local,dst=/seen,readonly" "$runner_image" cat /seen/nonce 2>&1) || true
    nonce=$(cat .local/nonce)
    rm .local/nonce
    [ "$seen" = "$nonce" ] || die "the Docker engine does not see $project; expected a folder of the machine that it runs" \
        "on: in a container with its host's socket, mount the clone at the path that it has on the host, or give the" \
        "container an engine of its own; in Docker Desktop, share the folder ($(echo "$seen" | tail -n 1 | cut -c 1-200))"
}

verb=${1:-}
# What a verb may do (SECURITY.md): one that runs no stage gets no Docker socket, and one that edits no code may not.
holds_socket=1 edits='' needs_network=5 # things that must be there, with it
ends_with_make='' # whether it stops if make or the docker client does
case $verb in
metrics | plots | setup_env | setup_dvc | clean | lint | fmt | check | merge_lock | upgrade | new_stage | rename | start | \
    devcontainer)
    needs_network= ;;
esac
case "$*" in 'exec dvc '*) needs_network= ;; esac
case $verb in
exec | metrics | plots | setup_env | setup_dvc | dagshub_connect | push | pull | clean | lint) holds_socket='' ;;
explain | status | check | merge_lock | upgrade) holds_socket='' ;;
fmt | lock) holds_socket='' edits=all ;;
run | notebook) ends_with_make=1 ;;
shell) edits=all ;;
new_stage | start) holds_socket='' edits='dvc.yaml.template stages' ;;
rename) holds_socket='' edits=dvc.yaml.template ;;
esac
for rights in scripts/*/rights.sh; do # those of the verbs of optional rooms
    # shellcheck source=/dev/null
    if [ -f "$rights" ]; then . "$rights"; fi
done
set_merge_driver
if [ ! -d .local ] || ! all_present; then make_ready; fi
if [ -z "$needs_network" ]; then network=none; fi

# The command line is put together from its end: what runs, then the options before it.
set -- "$runner_image" python -m scripts "$@"
# Shell variables are passed on by name: settings (.env.example lists them, and env.example those of an optional room) and
# what builds need.
settings=$(cat .env.example scripts/*/env.example 2> /dev/null | sed -n 's/^#* *\([A-Z][A-Z0-9_]*\)=.*/\1/p')
limits=$(env | sed -nE 's/^([A-Z][A-Z0-9_]*_(MEMORY|CPUS|PIDS|TIMEOUT|OUTPUT_SIZE|OUTPUT_FILES|GPUS|SHM|TMP))=.*/\1/p') # of one stage: TRAIN_MEMORY
known=" $(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p' | tr '\n' ' ') " # once, not a process for each name
for name in $settings $limits PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST \
    HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy CI TERM WAIT KEEP_GOING; do
    case $known in *" $name "*) set -- --env "$name" "$@" ;; esac
done
# What lies outside of the clone, at its own path as well.
mounts=
while IFS= read -r line; do
    place=${line#* } readonly=
    case $line in 'ro '*) readonly=,readonly ;; esac
    case $place in '' | *[,:\"]* | /*/..*) continue ;; esac
    case $place/ in "$project"/*) continue ;; esac
    case :$mounts: in *":$place:"*) continue ;; esac
    # Not what the runner itself is made of; and not what is not there, which Docker would refuse.
    case $place/ in
    /bin/* | /dev/* | /etc/* | /lib/* | /lib64/* | /opt/venv/* | /proc/* | /sbin/* | /sys/* | /usr/*) continue ;;
    // | /opt/ | /run/ | /tmp/ | /var/) continue ;;
    esac
    if [ -e "$place" ]; then
        set -- --mount "type=bind,src=$place,dst=$place$readonly" "$@"
        mounts=${mounts:+$mounts:}$place
    fi
done << EOF
$(places "${DVC_REMOTE_URL:-$(setting DVC_REMOTE_URL)}")
EOF
if [ -n "$mounts" ]; then set -- --env "RUNNER_MOUNTS=$mounts" "$@"; fi
# In a worktree .git is a file that points to the repository. (git itself will not tell root about another user's.)
if [ -f .git ]; then
    gitdir=$(sed -n 's/^gitdir: //p' .git)
    common=$(cd "$gitdir" && cd "$(cat commondir 2> /dev/null || echo .)" && pwd -P) 2> /dev/null || die \
        "$project/.git points to $gitdir, which is not there; expected a repository: call 'git worktree repair' in it"
    set -- --mount "type=bind,src=$common,dst=$common" "$@"
fi
# What is run on the host, or says what is run: whatever goes wrong in the runner, it stays as it is.
if [ "$edits" != all ]; then
    for path in Makefile Dockerfile.runner docker-compose.yml dvc.yaml.template scripts stages .ci .devcontainer \
        "${common:-.git}/hooks" "${common:-.git}/config"; do
        case " $edits " in *" $path "*) continue ;; esac
        case $path in /*) ;; *) path=$project/$path ;; esac
        if [ -e "$path" ]; then set -- --mount "type=bind,src=$path,dst=$path,readonly" "$@"; fi
    done
fi
case $verb in
test | bench) ;; # they stand for many users, and for many runners
*)
    memory=${RUNNER_MEMORY:-$(setting RUNNER_MEMORY)}
    case ${memory:=4g} in
    *[!0-9bkmgBKMG]* | [!0-9]* | *[!0-9]*[!0-9]*) die "RUNNER_MEMORY is $memory; expected one like 4g: correct it in .env" ;;
    esac
    # Nothing is written but where the host sees it: elsewhere it would be gone with the runner.
    set -- --cap-drop ALL --security-opt no-new-privileges --memory "$memory" --read-only --mount type=volume,dst=/tmp "$@"
    ;;
esac
# A clone made with --shared or --reference has its objects elsewhere.
if [ -f .git/objects/info/alternates ]; then
    while read -r objects; do
        set -- --mount "type=bind,src=$objects,dst=$objects,readonly" "$@"
    done < .git/objects/info/alternates
fi
# Who commits: what is typed in a shell does, as 'dvc exp run --queue', and does not see this user's own settings of git.
if [ "$verb" = shell ] && name=$(git config user.name) && email=$(git config user.email); then
    for who in AUTHOR COMMITTER; do
        set -- --env "GIT_${who}_NAME=$name" --env "GIT_${who}_EMAIL=$email" "$@"
    done
fi
# For tests that kill: the name of a function at which a process stops (tests/stop).
if [ -n "${STOP_AT:-}" ]; then set -- --env STOP_AT --env "PYTHONPATH=$project/tests/stop" "$@"; fi
# A run's input is a pipe that only we hold: with make, or with the docker client, it ends, and then the run stops. So
# does a server in the foreground.
if [ -n "$ends_with_make" ]; then
    make=$PPID
    pipe=$(mktemp -u)
    mkfifo "$pipe"
    (
        exec > "$pipe" 2> /dev/null
        while kill -0 "$make" && kill -0 "$$"; do sleep 1; done
    ) &
    exec < "$pipe"
    rm -f "$pipe"
    set -- --interactive --env LIFELINE=1 "$@"
    # Docker gives no terminal to who has a pipe for input: the run is told that it has one, and how wide that is.
    if [ -t 1 ]; then set -- --env "TERMINAL=$(stty size < /dev/tty 2> /dev/null | cut -d ' ' -f 2)" "$@"; fi
# Docker refuses a terminal if input is piped in: 'echo dvc dag | make shell'.
elif [ -t 0 ] && [ -t 1 ]; then set -- --interactive --tty "$@"
elif [ "$verb" = shell ] || [ "$verb" = debug ]; then set -- --interactive "$@"
elif [ -t 1 ]; then set -- --tty "$@"; fi
if [ -n "$holds_socket" ]; then
    set -- --group-add "$group" --mount "type=bind,src=$socket,dst=/var/run/docker.sock" --env "RUNNER_SOCKET=$socket" "$@"
fi
# DVC takes $HOME in the path of its site cache for the variable, so that path is not one of the host.
exec docker run --rm --init --pull never --log-driver none --user "$owner" \
    --label "pipeline.clone=$clone" --label pipeline.role=runner --label "pipeline.verb=$verb" --network "$network" \
    --mount "type=bind,src=$project,dst=$project" --workdir "$project" \
    --mount "type=bind,src=$project/.local,dst=/run/local" --env DVC_SITE_CACHE_DIR=/run/local/dvc-site-cache \
    --env "HOME=$project/.local/home" --env USER=runner \
    --env "CLONE=$clone" --env DVC_PAGER=cat \
    --env "HOST_USER=$(id -un 2> /dev/null || id -u)" --env "PYTHON_IMAGE=$python_image" --env "RUNNER_IMAGE=$runner_image" "$@"
