#!/usr/bin/env bash
# Prove that a bare Debian needs nothing but this checkout and `make`.
#
#   deploy/fresh/run.sh [SUITE]       as root; SUITE is bookworm unless told otherwise
#
# Builds a minimal Debian root, puts HEAD into it and walks through walk.sh there, once as root and,
# in a second such root, as a user with sudo. All of it happens in mount and process namespaces of
# its own: whatever goes wrong, no mount and no daemon outlives this script, and the roots are
# removed.
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() { printf 'fresh: %s\n' "$*" >&2; exit 1; }

suite="${1:-bookworm}"
[[ $(id -u) -eq 0 ]] || fail "chroot and mount need root: run me as root"
command -v mmdebstrap >/dev/null || fail "needs mmdebstrap: apt-get install mmdebstrap"

folder="$(mktemp -d /var/tmp/ipfs-mfs-fresh.XXXXXX)"
trap 'rm -rf --one-file-system "$folder"' EXIT
network=()  # settings for programs inside that say how to reach the network

# The machine's own sources, so that a mirror or a proxy of its own is used here too.
make_base() {
    local sources=() file
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources}; do
        if [[ -s "$file" ]]; then
            sources+=("$file")
        fi
    done
    echo "fresh: making a minimal $suite (a minute)"
    mmdebstrap --quiet --variant=minbase --include=make,sudo "$suite" "$folder/base.tar" \
        "${sources[@]}"
}

# How this machine reaches the network belongs to the machine, not to the project. Its certificates
# get a name of their own: the package ca-certificates writes the usual one.
copy_network() {
    local root="$1" file name
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
}

# walk_as USER HOME: a new root, this checkout in HOME, walk.sh as USER.
walk_as() {
    local user="$1" home="$2" root="$folder/$1"
    echo "fresh: walking as $user"
    mkdir "$root"
    tar -x -f "$folder/base.tar" -C "$root"
    copy_network "$root"
    ln -sf ../proc/self/mounts "$root/etc/mtab"  # an installed Debian has it, a bare root does not
    if [[ "$user" != root ]]; then
        chroot "$root" useradd --create-home --home-dir "$home" "$user"
        echo "$user ALL=(ALL) NOPASSWD: ALL" >"$root/etc/sudoers.d/walk"
    fi
    mkdir "$root$home/ipfs-mfs"
    git archive HEAD | tar -x -C "$root$home/ipfs-mfs"
    chroot "$root" chown -R "$user" "$home/ipfs-mfs"

    # --kill-child ends the daemons with the walk; the mounts go with the namespace.
    unshare --mount --pid --fork --kill-child bash -euo pipefail -c '
        root="$1" user="$2"
        shift 2
        mount -t proc proc "$root/proc"
        mount -t tmpfs tmpfs "$root/run"
        [[ -e "$root/dev/fuse" ]] || mknod -m 666 "$root/dev/fuse" c 10 229
        exec chroot --userspec="$user" "$root" env -i "$@" bash deploy/fresh/walk.sh
    ' walk "$root" "$user" --chdir="$home/ipfs-mfs" HOME="$home" USER="$user" \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "${network[@]}" </dev/null
    rm -rf --one-file-system "$root"
}

make_base
walk_as root /root
walk_as walker /home/walker
echo "fresh: passed"
