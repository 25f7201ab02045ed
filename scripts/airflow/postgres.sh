#!/bin/sh
# PostgreSQL with one database of Airflow's. POSTGRES_PASSWORD is set at each start: a volume may be older than it.
set -eu
data=/data/postgres/cluster
if [ ! -e "$data/PG_VERSION" ]; then
    rm -rf "$data" "$data.part" # a first start that was killed
    /opt/postgresql/initdb --pgdata="$data.part" --username=airflow --auth-local=trust --auth-host=scram-sha-256 \
        --encoding=UTF8 --locale=C.UTF-8
    echo 'host all all all scram-sha-256' >> "$data.part/pg_hba.conf"
    echo 'CREATE DATABASE airflow' | /opt/postgresql/postgres --single -D "$data.part" postgres > /dev/null
    mv "$data.part" "$data"
fi
rm -f "$data/postmaster.pid" # of a container that was killed: nobody else has this volume
echo "ALTER ROLE airflow PASSWORD '$POSTGRES_PASSWORD'" | /opt/postgresql/postgres --single -D "$data" postgres > /dev/null
exec /opt/postgresql/postgres -D "$data" -c listen_addresses='*' -c unix_socket_directories=/tmp \
    -c jit=off -c shared_buffers=32MB -c max_connections=100
