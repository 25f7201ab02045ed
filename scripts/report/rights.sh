# shellcheck shell=sh disable=SC2034,SC2154 # read by scripts/host/runner.sh
# They read what runs left below .local, write pages there, and no more.
# One reads the registry and DVC's remote too.
case $verb in
report | log) holds_socket='' needs_network='' ;;
report_base) holds_socket='' ;;
esac
