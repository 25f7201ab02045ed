# shellcheck shell=sh
# To be read by scripts/host/runner.sh: what the verbs of this room may do.
# shellcheck disable=SC2034,SC2154
case $verb in
# It asks Airflow's API alone.
airflow_run) holds_socket='' ;;
# A task works in a clone of its own, on the network of the clone that it was called in (scripts/airflow/task.sh).
airflow_stage) ends_with_make=1 network=${AIRFLOW_NETWORK:-$network} ;;
esac
