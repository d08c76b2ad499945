#!/usr/bin/env bash
# The first five minutes of a user, inside the fresh root that run.sh made.
set -euo pipefail
cd "$(dirname "$0")/../.."

say() { printf 'walk: %s\n' "$*"; }
fail() { printf 'walk: %s\n' "$*" >&2; exit 1; }

# The CID that `ipfs add --cid-version=1 --raw-leaves` gives for "hello" and a line feed.
readonly HELLO_CID=bafkreicysg23kiwv34eg2d7qweipxwosdo2py4ldv42nbauguluen5v6am

expect_hello() {
    [[ "$(cat mnt/folder/hello.txt)" == hello ]] || fail "the file has other bytes"
    [[ "$(getfattr --only-values -n ipfs.cid mnt/folder/hello.txt)" == "$HELLO_CID" ]] ||
        fail "the file has another CID"
}

began=$SECONDS
make setup
say "set-up took $((SECONDS - began)) s"

began=$SECONDS
make setup
[[ $((SECONDS - began)) -le 1 ]] || fail "the second set-up was not idle"

make mount
mkdir mnt/folder
echo hello >mnt/folder/hello.txt
expect_hello
before="$(getfattr --only-values -n ipfs.cid mnt)"

make mount
expect_hello

make umount
[[ ! -e mnt/folder ]] || fail "make umount left the mount up"

make mount
expect_hello
[[ "$(getfattr --only-values -n ipfs.cid mnt)" == "$before" ]] || fail "the root's CID changed"
make umount
say "mounted, wrote, mounted again: all there"
