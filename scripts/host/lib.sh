# shellcheck shell=sh
# What the shell scripts on the host share; they source it from the project's folder.

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

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
