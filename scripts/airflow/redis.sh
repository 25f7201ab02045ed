#!/bin/sh
# Redis as Celery's broker. Each message is on disk before it is answered, so that a kill loses none.
set -eu
# Its settings come by a pipe: a password on a command line would show in 'ps'.
exec redis-server - << SETTINGS
dir /data/redis
appendonly yes
appendfsync always
save ""
maxmemory-policy noeviction
requirepass $REDIS_PASSWORD
SETTINGS
