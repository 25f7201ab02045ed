# shellcheck shell=sh
# To be read by runner.sh, in the clone. `places` prints what lies outside of the clone and is to be seen in the runner, a
# line each, as "rw PATH" or "ro PATH": what DVC's configuration names, and what a symbolic link leads to. Links are
# looked for two folders deep, and below data/external/: there may be a million outputs. What is not found here, and what
# is not there, is told by scripts/places.py.

# Prints where a path leads, seen from a folder; nothing if its own folder is not there.
seen_from() {
    case $2 in
    /*) echo "$2" ;;
    *) (cd -P "$1/$(dirname "$2")" 2> /dev/null && echo "${PWD%/}/$(basename "$2")") || true ;;
    esac
}

# The values of `url` and `dir` in DVC's configuration that are paths of this machine.
configured() {
    awk '{ sub(/\r$/, "") }
        /^[ \t]*(url|dir)[ \t]*=/ { sub(/^[^=]*=[ \t]*/, ""); sub(/[ \t]+$/, ""); if (!/:\/\//) print }
        ' .dvc/config .dvc/config.local 2> /dev/null
}

places() { # DVC_REMOTE_URL
    { echo "$1"; configured; } | while IFS= read -r path; do
        case $path in '' | *://*) ;; *) echo "rw $(seen_from .dvc "$path")" ;; esac
    done
    { find . -maxdepth 2 -type l ! -path './.git/*'; find ./data/external -type l; } 2> /dev/null \
        | while IFS= read -r link; do
            case $link in ./data/external/*) mode=ro ;; *) mode=rw ;; esac
            echo "$mode $(seen_from "$(dirname "$link")" "$(readlink "$link")")"
        done
}
