#!/bin/sh
# One attempt of a task, called in a clone on the machine that is to run it:
#   sh scripts/airflow/task.sh RUN STAGE TRY COMMIT [PATCH]
# RUN names the run and TRY is a number; STAGE is a stage of dvc.yaml, or 'publish', the last task; PATCH is a file
# SHA256.patch of what is not committed, or its SHA-256 alone (then it lies in .local/airflow/patches/).
#
# The attempt has a clone of its own, .local/airflow/RUN/STAGE/TRY, with the objects, the settings, the DVC remote, the
# network and the MLflow server of this one, and calls in it what 'make airflow-stage' is: by its own name, since make
# turns each exit code into 2. It ends with whoever called it: if any process above it ends, it has 60 s to be gone.
#
# Exit codes, as in scripts/airflow/codes.py: 0; 1 the user's or the stage's own fault; 65 the stage is not
# deterministic; 66 another stage would have to run; 75 worth another try.
set -eu
CDPATH='' cd -P -- "$(dirname "$0")/../.."
. scripts/host/lib.sh
. scripts/host/places.sh
main=$PWD

later() { say "error: $*"; exit 75; }

# --- who called

# Prints the processes above this one: another list as soon as one of them has ended, whoever has its children then.
callers() {
    pid=$$ found=
    while [ "${pid:-0}" -gt 1 ]; do
        found="$found $pid"
        find_parent "$pid"
        pid=$parent
    done
    echo "$found"
}
find_parent() {
    parent=
    if [ -r "/proc/$1/status" ]; then
        while read -r key value; do
            case $key in PPid:) parent=$value && break ;; esac
        done < "/proc/$1/status"
    elif [ ! -d /proc/self ]; then
        parent=$(ps -o ppid= -p "$1" | tr -d ' ') || true
    fi
} 2> /dev/null
callers=$(callers)

# --- what was asked for

[ $# = 4 ] || [ $# = 5 ] || die "task.sh was called with $# words; expected RUN STAGE TRY COMMIT [PATCH]"
run=$(printf %s "$1" | tr -c 'A-Za-z0-9_.-' _) # Airflow's own names hold colons, which no mount can express
stage=$2 try=$3 commit=$4 patch=${5:-}
case $run in '' | .* | -* | patches) die "the run is called '$1'; expected a name that begins with a letter or digit" ;; esac
case $stage in '' | [.-]* | *[!A-Za-z0-9_.@-]*) die "the stage is '$stage'; expected a stage of dvc.yaml, or publish" ;; esac
case $try in '' | *[!0-9]*) die "the try is '$try'; expected a number" ;; esac
printf %s "$commit" | grep -Eqx '[0-9a-f]{40}' || die "the commit is '$commit'; expected all of its 40 digits"

tries=.local/airflow/$run/$stage
attempt=$tries/$try
own_id=$(clone_id)
network=pipeline-$own_id

# --- what an attempt leaves on the engine

# Removes the containers of an attempt's clone, and gives this clone its claims on images, lest they be built again.
let_go() {
    id=$(cd -P "$1" && clone_id)
    docker container ls --all --quiet --filter "label=pipeline.clone=$id" | with_each docker container rm --force || true
    docker image ls --format '{{.Tag}}' "stages/clone-$id" | while read -r name; do
        docker tag "stages/clone-$id:$name" "stages/clone-$own_id:airflow-$name" || true
        docker image rm "stages/clone-$id:$name" > /dev/null || true
    done
} 2> /dev/null

remove() {
    find "$1" -type d ! -perm -700 -exec chmod u+rwx {} \; 2> /dev/null || true
    rm -rf "$1"
}

# shellcheck disable=SC2317 # it is called
remove_up_to_this() {
    for folder in "$tries"/*/; do
        if [ "$(basename "$folder")" -le "$try" ]; then remove "$folder"; fi
    done
}

is_mine() { [ "$(cat "$main/$attempt/.local/task" 2> /dev/null)" = "$mine" ]; }

# shellcheck disable=SC2317 # it is called
tidy() {
    code=$?
    trap - EXIT TERM INT HUP
    cd "$main"
    if [ -n "${watch:-}" ]; then kill "$watch" 2> /dev/null || true; fi
    if is_mine; then
        let_go "$attempt"
        (cd "$attempt" && rm -f .env .local/mlflow-password .local/home/.docker/config.json .dvc/config.local)
        if [ "$code" = 0 ]; then remove_up_to_this; fi # and else it is kept to be looked at
        rmdir "$tries" ".local/airflow/$run" 2> /dev/null || true
    fi
    exit "$code"
}

docker version > /dev/null 2>&1 || later "no Docker engine answers on this machine; expected one: start it"
mkdir -p .local/airflow .local/dvc-remote
chmod 700 .local
# Whoever calls again has given up on the tries before: what still runs of them would only work beside this one.
for former in "$tries"/*/; do
    if [ -d "$former" ]; then let_go "$former"; fi
done
remove "$attempt"
mine="$$ $(date)"
mkdir -p "$attempt/.local"
chmod 700 "$attempt/.local"
echo "$mine" > "$attempt/.local/task"
say "$stage, try $try of run $run, in $main/$attempt" # first: what is said last is why it fails
trap tidy EXIT
trap 'exit 143' TERM INT HUP

# --- a clone

# git's own 'clone' would read this clone's settings, and ask who owns it; all that is needed of it are its objects.
objects=$(git rev-parse --git-path objects)
case $objects in /*) ;; *) objects=$main/$objects ;; esac
if ! git cat-file -e "$commit^{commit}" 2> /dev/null; then
    git config remote.origin.url > /dev/null \
        || die "commit $commit is not here, and there is no remote origin; expected it in one of them: fetch it"
    say "fetching $commit from origin ..."
    export GIT_TERMINAL_PROMPT=0
    git fetch --quiet --no-tags origin "$commit" 2> /dev/null || git fetch --quiet --no-tags origin \
        || later "commit $commit is not here, and origin did not give it; expected it there: see above"
    git cat-file -e "$commit^{commit}" 2> /dev/null \
        || die "commit $commit is neither here nor at origin; expected it there: 'git push'"
fi
git init --quiet --template= "$attempt" 2> /dev/null
mkdir -p "$attempt/.git/objects/info"
{ echo "$objects"; cat "$objects/info/alternates" 2> /dev/null || true; } > "$attempt/.git/objects/info/alternates"
git -C "$attempt" -c advice.detachedHead=false -c core.hooksPath=/dev/null checkout --quiet --detach "$commit"
[ -e "$attempt/scripts/airflow/task.sh" ] \
    || die "commit $commit has no scripts/airflow/task.sh; expected a commit since there is one: name another one"

if [ -n "$patch" ]; then
    case $patch in */*) ;; *) patch=.local/airflow/patches/${patch%.patch}.patch ;; esac
    digest=$(basename "$patch" .patch)
    printf %s "$digest" | grep -Eqx '[0-9a-f]{64}' \
        || die "the patch is '$patch'; expected a file that is called by its SHA-256, or that alone"
    [ -f "$patch" ] || die "there is no $patch on this machine; expected the patch of what is not committed: put it there"
    cp "$patch" "$attempt/.local/patch" # what is looked at is what is applied
    found=$({ if command -v sha256sum > /dev/null; then sha256sum; else shasum -a 256; fi } \
        < "$attempt/.local/patch" | cut -c 1-64)
    [ "$found" = "$digest" ] \
        || die "$patch has the SHA-256 $found; expected the one that it is called by: bring it here again"
    git -C "$attempt" -c core.autocrlf=false -c core.symlinks=true apply --whitespace=nowarn --no-ignore-whitespace \
        "$main/$attempt/.local/patch" \
        || die "$patch does not fit commit $commit; expected the patch of that commit's working tree: see above"
fi

# --- with what this one has

# Prints DVC's settings, in which a path is seen from their own folder, for a clone elsewhere.
with_absolute_paths() {
    while IFS= read -r line; do
        path=$(printf '%s\n' "$line" | sed -nE 's/^[[:space:]]*(url|dir)[[:space:]]*=[[:space:]]*//p')
        case $path in '' | *://*) ;; *)
            place=$(seen_from .dvc "$path")
            line=${line%"$path"}${place:-$path} ;;
        esac
        printf '%s\n' "$line"
    done
}

has_network() { docker network inspect "$network" > /dev/null 2>&1; }
if ! has_network; then # one task at a time: an engine makes two networks of one name, and then takes neither
    exec 9> .local/airflow/network.lock
    if command -v flock > /dev/null; then flock 9; fi # macOS has none; a worker is a container, and has it
    has_network || docker network create --label "pipeline.clone=$own_id" "$network" > /dev/null || has_network \
        || later "the network $network could not be made: see above; expected an engine with room for one more network"
    exec 9>&-
fi
if [ "$stage" = publish ] || grep -Eq "network *= *[\"']mlflow" "$attempt/dvc.yaml.template"; then
    sh scripts/host/runner.sh ui > /dev/null || { # with a password in it
        code=$?
        if [ "$code" != 1 ] || ! docker version > /dev/null 2>&1; then code=75; fi
        exit "$code"
    }
fi
ln -s "$main/.local/dvc-remote" "$attempt/.local/dvc-remote" # where the default remote is, seen from there
for file in .env .local/mlflow-password .local/home/.docker/config.json; do # the last one is docker's: logins
    if [ -e "$file" ]; then (umask 077 && mkdir -p "$attempt/$(dirname "$file")" && cp "$file" "$attempt/$file"); fi
done
if [ ! -e .env ]; then (umask 077 && cp "$attempt/.env.example" "$attempt/.env"); fi
if [ -e .dvc/config.local ]; then
    (umask 077 && with_absolute_paths < .dvc/config.local > "$attempt/.dvc/config.local")
fi
if [ "$(id -u)" = 0 ]; then chown -R "$(stat -c %u:%g . 2> /dev/null || stat -f %u:%g .)" ".local/airflow/$run"; fi

# --- run it

cd "$attempt"
AIRFLOW_NETWORK=$network sh scripts/host/runner.sh airflow_stage \
    "stage=$stage" "run=$run" "main=$main" "network=$network" &
runner=$!
trap 'kill -TERM "$runner" 2> /dev/null || true' TERM INT HUP
( # if whoever called has ended
    while [ "$(callers)" = "$callers" ]; do sleep 1; done
    kill -TERM "$runner"
    sleep 40
    cd "$main" && is_mine && let_go "$attempt"
) > /dev/null 2>&1 &
watch=$!
while :; do
    code=0
    wait "$runner" || code=$?
    kill -0 "$runner" 2> /dev/null || break # a signal ends a wait
done
case $code in
0 | 65 | 66 | 75) ;;
1) # the runner's own word, if there was one and an engine
    if [ ! -e .local/place ] || ! docker version > /dev/null 2>&1; then code=75; fi ;;
*) # the runner, its client or the engine was killed
    say "error: the runner of this attempt ended with exit code $code; expected it to end by itself: try again"
    code=75 ;;
esac
cd "$main"
if [ "$code" = 0 ] && [ "$stage" = publish ]; then
    mkdir -p .local/made
    find "$attempt/.local/made" -type f -exec cp {} .local/made/ \; 2> /dev/null || true
    cp "$attempt/dvc.lock" ".local/airflow/$run/.dvc.lock.part"
    mv ".local/airflow/$run/.dvc.lock.part" ".local/airflow/$run/dvc.lock"
    say "dvc.lock of this run is in .local/airflow/$run/dvc.lock: copy it over dvc.lock, commit it, and 'make pull'"
fi
exit "$code"
