#!/bin/sh
# Prints the name of the Python image that all images here start from, and makes it if this machine has none:
# BASE_IMAGE, or else the pinned image of stages/base/Dockerfile, or else (Docker Hub out of reach, on a Debian or
# Ubuntu host) the same Debian made from its own packages; plus the CA bundle that the environment names.
# With --name it only prints the name; with --begin it begins what takes longest, aside, if it will be needed.
set -eu
CDPATH='' cd -- "$(dirname "$0")/../.."
. scripts/host/lib.sh

pinned=$(sed -n 's/^ARG PYTHON_IMAGE=//p' stages/base/Dockerfile)
wanted=${BASE_IMAGE:-$pinned}

# Where a network inspects TLS, its CA is in one of these; without it no build could install anything.
ca=${SSL_CERT_FILE:-${REQUESTS_CA_BUNDLE:-${PIP_CERT:-${CURL_CA_BUNDLE:-}}}}
if [ -n "$ca" ] && ! [ -r "$ca" ]; then
    die "the environment names the CA bundle $ca, which cannot be read; expected a file of PEM certificates:" \
        "correct or unset SSL_CERT_FILE, REQUESTS_CA_BUNDLE, PIP_CERT, CURL_CA_BUNDLE"
fi
image=stages/python:$({ echo "$wanted"; cat scripts/host/python_image.sh; [ -z "$ca" ] || cat "$ca"; } | hash12)
[ "${1:-}" = --begin ] || echo "$image"
if [ "${1:-}" = --name ] || have_image "$image"; then exit 0; fi

# Debian trixie with Python 3.13, as python:3.13-slim is, from the packages that the host can reach anyway.
begun=.local/debian.tar
install_mmdebstrap() {
    command -v mmdebstrap > /dev/null && return
    # shellcheck disable=SC2086
    [ "${1:-}" = --begin ] || quietly $sudo apt-get update || die "apt-get update failed: see above"
    # shellcheck disable=SC2086
    quietly $sudo apt-get install -y --no-install-recommends mmdebstrap debian-archive-keyring \
        || die "mmdebstrap could not be installed: see above"
}
make_debian() {
    # shellcheck disable=SC2086
    $sudo mmdebstrap --variant=essential --include=apt,ca-certificates,python3,python3-venv \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --format=tar trixie $begun.part \
        && mv -f $begun.part $begun
}
sudo=; [ "$(id -u)" = 0 ] || sudo="sudo -E"

# While an engine is installed, if it will not reach Docker Hub, whose name this network does not know.
if [ "${1:-}" = --begin ]; then
    [ -z "${BASE_IMAGE:-}${HTTPS_PROXY:-}${https_proxy:-}" ] || exit 0
    ! getent hosts registry-1.docker.io > /dev/null || exit 0
    install_mmdebstrap --begin
    mkdir -p -m 700 .local
    exec 8> $begun.lock
    flock --nonblock 8 || exit 0
    make_debian > /dev/null 2>&1 < /dev/null 9>&- & # should it fail, it is done again, and says why
    exit 0
fi

debian_image() {
    debian=stages/debian:trixie-python3.13
    have_image "$debian" && return
    [ -f /etc/debian_version ] || die "$pinned cannot be pulled ($(tail -n 1 "$work/pull.log")); expected it or a Debian or Ubuntu" \
        "host to make it on: set BASE_IMAGE to a Debian image with Python 3.13 that you can pull"
    say "$(tail -n 1 "$work/pull.log")"
    say "Docker Hub cannot be reached: making the same Debian from its packages instead (about half a minute)"
    if [ -e $begun.lock ]; then flock $begun.lock true; fi
    if ! [ -e $begun ]; then
        install_mmdebstrap
        mkdir -p -m 700 .local
        quietly make_debian || die "no base image could be made from Debian's packages: see above, or set BASE_IMAGE"
    fi
    quietly docker import --change "LABEL pipeline.source=debian-packages" $begun "$debian"
    rm -f $begun $begun.lock
}

work=$(mktemp -d)
tidy() { rm -rf "$work"; }
at_end tidy
if have_image "$wanted"; then from=$wanted
else
    say "pulling $wanted"
    if docker pull -q "$wanted" > /dev/null 2> "$work/pull.log"; then from=$wanted
    elif [ -n "${BASE_IMAGE:-}" ]; then
        die "BASE_IMAGE=$BASE_IMAGE is not on this machine and cannot be pulled: $(tail -n 1 "$work/pull.log")"
    else debian_image; from=$debian
    fi
fi

bundle=/etc/ssl/certs/ca-certificates.crt
{
    echo "FROM $from"
    if [ -n "$ca" ]; then
        cp "$ca" "$work/host-ca.crt"
        echo "COPY host-ca.crt /usr/local/share/ca-certificates/"
        echo "RUN update-ca-certificates > /dev/null"
    fi
    echo "ENV LANG=C.UTF-8 SSL_CERT_FILE=$bundle REQUESTS_CA_BUNDLE=$bundle PIP_CERT=$bundle"
    echo "LABEL pipeline.image=python"
} > "$work/Dockerfile"
rm -f "$work"/pull.log
quietly docker build --pull=false --tag "$image" "$work" || die "the base image could not be made from $from: see above"
