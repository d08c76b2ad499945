#!/usr/bin/env bash
# Prove that a bare Debian needs nothing but this checkout and `make`.
#
#   deploy/fresh/run.sh [SUITE]       as root; SUITE is bookworm unless told otherwise
#
# Builds a minimal Debian root, puts HEAD into it and walks through walk.sh there. All of it
# happens in mount and process namespaces of its own: whatever goes wrong, no mount and no daemon
# outlives this script, and the root is removed.
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() { printf 'fresh: %s\n' "$*" >&2; exit 1; }

suite="${1:-bookworm}"
[[ $(id -u) -eq 0 ]] || fail "chroot and mount need root: run me as root"
command -v mmdebstrap >/dev/null || fail "needs mmdebstrap: apt-get install mmdebstrap"

root="$(mktemp -d /var/tmp/ipfs-mfs-fresh.XXXXXX)"
trap 'rm -rf --one-file-system "$root"' EXIT

# The machine's own sources, so that a mirror or a proxy of its own is used here too.
sources=()
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources}; do
    if [[ -s "$file" ]]; then
        sources+=("$file")
    fi
done
echo "fresh: making a minimal $suite (a minute)"
mmdebstrap --quiet --variant=minbase --include=make "$suite" "$root" "${sources[@]}"

# How this machine reaches the network belongs to the machine, not to the project. Its certificates
# get a name of their own: the package ca-certificates writes the usual one.
for file in /etc/resolv.conf /etc/hosts /etc/pip.conf; do
    if [[ -e "$file" ]]; then
        cp -L "$file" "$root$file"
    fi
done
network=()
if [[ -e /etc/ssl/certs/ca-certificates.crt ]]; then
    mkdir -p "$root/etc/ssl"
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/machine.crt"
    for name in PIP_CERT SSL_CERT_FILE REQUESTS_CA_BUNDLE CURL_CA_BUNDLE; do
        network+=("$name=/etc/ssl/machine.crt")
    done
fi
mkdir "$root/srv/ipfs-mfs"
git archive HEAD | tar -x -C "$root/srv/ipfs-mfs"

# --kill-child ends the daemons with the walk; the mounts go with the namespace.
unshare --mount --pid --fork --kill-child bash -euo pipefail -c '
    mount -t proc proc "$1/proc"
    mount --rbind /dev "$1/dev"
    mount -t tmpfs tmpfs "$1/run"
    root="$1"
    shift
    exec env -u PIP_FIND_LINKS -u XDG_CACHE_HOME -u XDG_DATA_HOME -u XDG_RUNTIME_DIR \
        HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        "$@" chroot "$root" bash /srv/ipfs-mfs/deploy/fresh/walk.sh
' fresh "$root" "${network[@]}" </dev/null
echo "fresh: passed"
