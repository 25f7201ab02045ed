# PostgreSQL and Redis as Debian has them: two services from one image, each as a user of its own.
ARG PYTHON_IMAGE
FROM ${PYTHON_IMAGE}
# PostgreSQL's compiler of queries (LLVM) weighs more than all else here, and such small queries never use it.
RUN mkdir -p /etc/postgresql-common && echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf \
    && apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends postgresql redis-server > /dev/null \
    && apt-get clean && rm -rf /var/lib/apt/lists/* /usr/lib/*/libLLVM* /usr/lib/*/libz3* /usr/lib/postgresql/*/lib/bitcode \
    && ln -s /usr/lib/postgresql/*/bin /opt/postgresql \
    && install -d -o postgres -g postgres -m 700 /data/postgres && install -d -o redis -g redis -m 700 /data/redis
COPY postgres.sh redis.sh /opt/
