# shellcheck shell=sh
# What the shell scripts on the host share; they source it from the project's folder.

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# Calls a command when this shell ends, also when a signal ends it: by itself dash calls no trap of EXIT then.
at_end() {
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    # shellcheck disable=SC2064
    trap "$1" EXIT
}
nothing_at_end() { trap - HUP INT TERM EXIT; }

# The first 12 digits of a hash of standard input; git is on every host, sha256sum is not.
hash12() { git hash-object --stdin | cut -c1-12; }

have_image() { docker image inspect "$1" > /dev/null 2>&1; }

# Runs a long step. On a terminal its output is the progress; elsewhere it is shown only if the step fails.
quietly() {
    if [ -t 2 ]; then "$@" >&2; return; fi
    log=$(mktemp)
    if "$@" > "$log" 2>&1; then rm -f "$log"; else
        tail -n 30 "$log" >&2; rm -f "$log"; return 1
    fi
}

# Prints what distinguishes this clone's containers, network and images from those of others.
clone_id() { printf %s "$(pwd -P)" | hash12; }

# Calls a command with the words of standard input as its last arguments, if there are any ('xargs -r' is GNU's).
with_each() {
    words=$(cat)
    # shellcheck disable=SC2086
    [ -z "$words" ] || "$@" $words > /dev/null
}

# Removes the containers that these filters of 'docker ls' name. Docker refuses one that is just removing itself
# ('--rm'): that one is waited for.
remove_containers() {
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        found=$(docker container ls --all --quiet "$@")
        # shellcheck disable=SC2086
        if [ -z "$found" ] || docker container rm --force $found > /dev/null 2>&1; then return; fi
        sleep 1
    done
    # shellcheck disable=SC2086
    docker container rm --force $found > /dev/null # its own words say what is wrong
}

# A clone that was moved has another name for its containers: those of the old one would go on with its files.
forget_former_place() {
    former=$(cat .local/place 2> /dev/null) || former=
    here=$(pwd -P)
    case $former in '' | "$here") return ;; esac
    if [ ! -e "$former/.git" ]; then
        theirs="label=pipeline.clone=$(printf %s "$former" | hash12)"
        remove_containers --filter "$theirs"
        docker network ls --quiet --filter "$theirs" | with_each docker network rm
        say "this clone was moved from $former: what still ran for it there is removed"
    fi
    printf '%s\n' "$here" > .local/place
}
