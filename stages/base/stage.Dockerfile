# The image of every stage whose folder has no Dockerfile of its own: the base, what apt.txt and requirements.txt name,
# and the folder as /app. An edit of code installs nothing again, since that is copied last. No cache of packages is shared
# with other builds, which could put something into it: each package is what its hash says.
ARG BASE_IMAGE
# Lends its uv to the build; nothing of it stays.
ARG RUNNER_IMAGE
FROM ${RUNNER_IMAGE} AS runner

FROM ${BASE_IMAGE}
# Each of the two files may be missing: a pattern that matches nothing is no error.
COPY apt.tx[t] /app/
RUN if [ -f /app/apt.txt ]; then \
        apt-get update -qq \
        && sed 's/#.*//' /app/apt.txt | DEBIAN_FRONTEND=noninteractive xargs -r \
            apt-get install -y -qq --no-install-recommends > /dev/null \
        && rm -rf /var/lib/apt/lists/*; \
    fi
COPY requirements.tx[t] /app/
RUN --mount=type=bind,from=runner,source=/opt/venv/bin/uv,target=/usr/local/bin/uv \
    --mount=type=secret,id=uv.toml,target=/etc/uv/uv.toml \
    if [ -f /app/requirements.txt ]; then uv pip install --no-cache --require-hashes -r /app/requirements.txt; fi
COPY . /app/
ARG STAGE
ENV STAGE=${STAGE}
RUN test -f "/app/$STAGE.py" || { echo "stages/$STAGE has no $STAGE.py; expected the stage's program"; exit 1; } \
    && python -m compileall -q /app
ENTRYPOINT ["sh", "-c", "exec python \"/app/$STAGE.py\" \"$@\"", "sh"]
