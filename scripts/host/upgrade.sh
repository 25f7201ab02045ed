#!/bin/sh
# `make upgrade`: brings a newer version of the machinery into this fork. scripts/host/upgrade.sh [URL-OR-PATH [BASE]]
# Fetches here, where git's credentials are; the merge is the runner's, whose git can merge without a work tree. It
# ends in one commit and a clean tree, or changes nothing. Asks first, unless YES=1.
set -eu
CDPATH='' cd -P -- "$(dirname "$0")/../.."
. scripts/host/lib.sh

from=${1:-} base=${2:-}
if [ -z "$from" ] && git remote get-url template > /dev/null 2>&1; then from=template; fi
[ -n "$from" ] || die "nothing says where the newer version is; expected a git repository: 'make upgrade" \
    "FROM=url-or-path', or once 'git remote add template URL'"
case $from in -*) die "FROM is $from; expected the URL or the path of a git repository: correct it" ;; esac
head=$(git rev-parse --verify --quiet 'HEAD^{commit}') || die "this clone has no commit; expected the fork's first one:" \
    "commit it"
[ -z "$(git status --porcelain --untracked-files=no)" ] || die "the work tree has changes that are not committed;" \
    "expected none, since an upgrade is a commit of its own: commit them, or 'git stash'"
for going_on in MERGE_HEAD CHERRY_PICK_HEAD REVERT_HEAD rebase-merge rebase-apply; do
    [ ! -e "$(git rev-parse --git-path "$going_on")" ] || die "a merge, a rebase or the like is going on ($going_on);" \
        "expected none: end it, 'git status' says how"
done
git var GIT_COMMITTER_IDENT > /dev/null 2>&1 || die "git does not know who you are, so it cannot commit; expected" \
    "a name: git config user.name ..., git config user.email ..."

say "fetching from $(printf %s "$from" | sed 's,//[^/@]*@,//,') ..."
git fetch --quiet --no-tags --no-recurse-submodules "$from" '+HEAD:refs/upgrade/from' || die "git cannot fetch from" \
    "there (see above); expected the URL or the path of a git repository: correct FROM"
new=$(git rev-parse 'refs/upgrade/from^{commit}')
url=$(git remote get-url "$from" 2> /dev/null) || url=$from

sh scripts/host/runner.sh upgrade plan "$new" "$url" "$base" || die "nothing was changed"
[ -s .local/upgrade/tree ] || exit 0

if [ "${YES:-}" != 1 ]; then
    say "Whatever is in there, 'make' runs it as you, with your Docker engine. To read it:" \
        "git diff HEAD $(cat .local/upgrade/tree)"
    printf 'Bring it into this fork? [y/N] ' >&2
    read -r answer || answer=
    case $answer in y | Y | yes) ;; *) die "nothing was changed; expected 'y', or YES=1 on the command line" ;; esac
fi
sign=
if [ "$(git config --type=bool commit.gpgSign || true)" = true ]; then sign=-S; fi
commit=$(git commit-tree ${sign:+"$sign"} -p "$head" -F .local/upgrade/message "$(cat .local/upgrade/tree)")
# Not one file is written if one that git does not know is in the way, or if HEAD is no longer where it was.
git merge --quiet --ff-only "$commit" || die "nothing was changed: see above"

# From here on the new version.
undo="'git reset --keep $head' takes the upgrade back"
sh scripts/host/runner.sh upgrade finish "$head" || die "the machinery is upgraded, and dvc.yaml is not rendered by" \
    "it (see above); expected a template that the new version renders: correct what it says, or $undo"
git diff --quiet -- dvc.yaml || git commit --quiet --no-verify --amend --no-edit -- dvc.yaml
say "upgraded to $(git rev-parse --short=12 "$new"), in one commit; 'make run' and 'make test' try it, $undo"
