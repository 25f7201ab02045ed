# shellcheck shell=sh disable=SC2034,SC2154 # read by scripts/host/runner.sh
# They read what runs left below .local, write pages there, and no more.
case $verb in report | log) holds_socket='' needs_network='' ;; esac
