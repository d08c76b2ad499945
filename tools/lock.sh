#!/usr/bin/env bash
# Pin the newest versions that requirements/*.in allow, each with the hashes of its files.
#
# pip-tools lives in a folder of its own: nothing else needs it, and it is not pinned itself.
set -euo pipefail
cd "$(dirname "$0")/../requirements"

tools="$(mktemp -d)"
trap 'rm -rf "$tools"' EXIT
../.venv/bin/python -m venv "$tools"
"$tools/bin/python" -m pip install --quiet pip-tools

# dev.in is constrained by the other two, so the order matters. Where the packages come from is
# the business of each machine's pip: no address is written.
for name in build runtime dev; do
    "$tools/bin/pip-compile" --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras \
        --no-header --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
        --output-file "$name.txt" "$name.in"
    echo "requirements/$name.txt: $(grep -c '==' "$name.txt") packages"
done
