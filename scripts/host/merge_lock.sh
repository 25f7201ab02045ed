#!/bin/sh
# git's merge driver of dvc.lock (named by .gitattributes, set by runner.sh): BASE OURS THEIRS, files in the clone.
# Merges stage by stage, in the runner, and writes the result to OURS. Where that cannot be done it is an ordinary
# conflict. Ends with 0 if there is none and else with 1: at more than 128 git would give the whole merge up.
set -eu
CDPATH='' cd -P -- "$(dirname "$0")/../.."
. scripts/host/lib.sh
exec < /dev/null >&2

# Not by engine.sh: nobody who merges wants an engine installed.
if docker version > /dev/null 2>&1; then
    code=0
    # The commits that git merges; in a rebase, a cherry-pick or a stash it names none.
    # shellcheck disable=SC2046
    sh scripts/host/runner.sh merge_lock "$1" "$2" "$3" $(env | sed -n 's/^GITHEAD_\([0-9a-f]*\)=.*/\1/p') || code=$?
    case $code in 0) exit 0 ;; 3) exit 1 ;; esac
    why="the runner could not do it (see above)"
else
    why="no Docker engine answers"
fi
# A conflict even if no line is: an entry of both sides' lines is a result that nobody had.
git merge-file -L ours -L base -L theirs "$2" "$1" "$3" || true
say "dvc.lock was merged line by line, since $why; expected whole entries: once an engine runs, resolve the other" \
    "files, 'git checkout --merge dvc.lock' merges it again, then 'make run' and 'git add dvc.lock dvc.yaml'"
exit 1
