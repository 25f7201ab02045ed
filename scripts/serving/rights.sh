# shellcheck shell=sh disable=SC2034,SC2154 # read by scripts/host/runner.sh
# Both hold a container that ends with them.
case $verb in serve | predict) ends_with_make=1 ;; esac
