# shellcheck shell=sh disable=SC2034,SC2154 # read by scripts/host/runner.sh
case $verb in
sweep) ends_with_make=1 ;;
sweeps | keep) holds_socket='' needs_network='' ;; # they read what sweeps left, and write params.yaml
esac
