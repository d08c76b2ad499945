#!/usr/bin/env bash
# Build the programs we are compared with, each once per machine and version.
#
#   tools/peers.sh [kubo] [csi-sanity] [datastores] [npm]     without arguments: all that is needed now
#
# They go to $IPFS_MFS_PEERS, by default ~/.cache/ipfs-mfs-peers, outside the checkout:
#   bin/ipfs-v0.43.0, bin/ipfs -> it      binaries by name and version
#   bin/datastores-HASH                   benchmarks/rivals/go, by the hash of its source and versions
#   npm/HASH/node_modules, npm/current    the judges of tests/interop/package.json, by its hash
set -euo pipefail
cd "$(dirname "$0")/.."
source tests/peers/versions.sh

readonly PEERS="${IPFS_MFS_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/ipfs-mfs-peers}"

say() { printf 'peers: %s\n' "$*"; }
fail() { printf 'peers: %s\n' "$*" >&2; exit 1; }

# build_go NAME VERSION MODULE COMMAND: build MODULE/COMMAND of exactly VERSION to bin/NAME-VERSION.
#
# Each program gets a module of its own: what they require conflicts. The module names one exact
# version, so that no list of versions is ever asked for.
build_go() {
    local name="$1" version="$2" module="$3" command="$4"
    local binary="$PEERS/bin/$name-$version" folder
    if [[ ! -x "$binary" ]]; then
        command -v go >/dev/null || fail "building $name needs Go $GO_VERSION or newer on the PATH"
        say "building $name $version (minutes; once per machine)"
        folder="$(mktemp -d)"
        (
            cd "$folder"
            printf 'module peer\n\ngo %s\n\ntool %s/%s\n\nrequire %s %s\n' \
                "$GO_VERSION" "$module" "$command" "$module" "$version" >go.mod
            go mod tidy >tidy.log 2>&1 || { tail -20 tidy.log >&2; exit 1; }
            go build -mod=mod -trimpath -o program "$module/$command"
            mv program "$binary.new"
            mv "$binary.new" "$binary"
        ) || fail "building $name $version failed"
        chmod -R u+w "$folder"
        rm -rf "$folder"
    fi
    ln -sfn "$name-$version" "$PEERS/bin/$name"
    say "$name $version: $binary"
}

# Our own program around Kubo's datastores. Its go.mod is written here, from exact versions, so that
# these stand in one file.
build_datastores() {
    local source=benchmarks/rivals/go hash binary folder
    hash="$(cat "$source"/*.go tests/peers/versions.sh | sha256sum | cut -c -16)"
    binary="$PEERS/bin/datastores-$hash"
    if [[ ! -x "$binary" ]]; then
        command -v go >/dev/null || fail "building datastores needs Go $GO_VERSION or newer"
        say "building datastores (minutes; once per machine)"
        folder="$(mktemp -d)"
        cp "$source"/*.go "$folder"
        (
            cd "$folder"
            {
                printf 'module datastores\n\ngo %s\n\nrequire (\n' "$GO_VERSION"
                printf '\tgithub.com/%s %s\n' \
                    ipfs/go-datastore "$GO_DATASTORE_VERSION" \
                    ipfs/go-ds-badger4 "$GO_DS_BADGER4_VERSION" \
                    ipfs/go-ds-flatfs "$GO_DS_FLATFS_VERSION" \
                    ipfs/go-ds-leveldb "$GO_DS_LEVELDB_VERSION" \
                    ipfs/go-ds-pebble "$GO_DS_PEBBLE_VERSION" \
                    cockroachdb/pebble/v2 "$PEBBLE_VERSION" \
                    syndtr/goleveldb "$GOLEVELDB_VERSION"
                printf ')\n'
            } >go.mod
            go mod tidy >tidy.log 2>&1 || { tail -20 tidy.log >&2; exit 1; }
            go build -mod=mod -trimpath -o program .
            mv program "$binary.new"
            mv "$binary.new" "$binary"
        ) || fail "building datastores failed"
        rm -rf "$folder"
    fi
    say "datastores: $binary"
}

install_npm() {
    local hash folder
    hash="$(sha256sum <tests/interop/package.json | cut -c -16)"
    folder="$PEERS/npm/$hash"
    if [[ ! -d "$folder/node_modules" ]]; then
        command -v npm >/dev/null || fail "the JavaScript judges need node and npm on the PATH"
        say "installing the JavaScript judges (once per machine)"
        rm -rf "$folder.new"
        mkdir -p "$folder.new"
        cp tests/interop/package.json "$folder.new/"
        (cd "$folder.new" && npm install --ignore-scripts --no-audit --no-fund --loglevel=error) ||
            fail "npm install failed"
        mv "$folder.new" "$folder"
    fi
    ln -sfn "$hash" "$PEERS/npm/current"
    say "JavaScript judges: $folder"
}

mkdir -p "$PEERS/bin" "$PEERS/npm"
exec 9>"$PEERS/lock"
flock 9  # two runs at once would build everything twice

if [[ $# -eq 0 ]]; then
    set -- kubo datastores npm
fi
for peer in "$@"; do
    case "$peer" in
        kubo) build_go ipfs "$KUBO_VERSION" github.com/ipfs/kubo cmd/ipfs ;;
        csi-sanity)
            build_go csi-sanity "$CSI_SANITY_VERSION" \
                github.com/kubernetes-csi/csi-test/v5 cmd/csi-sanity ;;
        datastores) build_datastores ;;
        npm) install_npm ;;
        *) fail "unknown peer $peer: kubo, csi-sanity, datastores or npm" ;;
    esac
done
