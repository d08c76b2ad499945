#!/usr/bin/env bash
# Generate the Python code of every .proto file; with --check only compare it with what is there.
#
# Only messages are generated: the services are served and called from their descriptors, so that
# no generated module imports grpc.
set -euo pipefail
cd "$(dirname "$0")/.."

# One line per generated package: where its .proto files are, and the package.
readonly PACKAGES="
proto/ipfs_mfs/node/v1 ipfs_mfs/pb
"

fresh="$(mktemp -d)"
trap 'rm -rf "$fresh"' EXIT

stale=0
while read -r source package; do
    [[ -n "$source" ]] || continue
    for file in "$source"/*.proto; do
        .venv/bin/python -m grpc_tools.protoc "-I$package=$source" \
            --python_out="$fresh" --pyi_out="$fresh" "$package/$(basename "$file")"
    done
    for file in "$fresh/$package"/*; do
        if [[ "${1:-}" != --check ]]; then
            cp "$file" "$package/"
        elif ! cmp -s "$file" "$package/$(basename "$file")"; then
            echo "$package/$(basename "$file") is not what $source generates; run: make proto" >&2
            stale=1
        fi
    done
done <<<"$PACKAGES"
exit "$stale"
