#!/usr/bin/env bash
# Set up what the program (`run`) or its tests (`test`) need: system packages, .venv, the program.
#
#   tools/setup.sh run|test
#
# Running it again does nothing and is quick: .venv holds a stamp named after the contents of the
# lock files and of the C sources, so only a change of those makes it work again.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly PYTHON_MIN="3.11"
PATH="$PATH:/usr/sbin:/sbin"  # where a plain user's shell does not look
purpose="${1:-run}"

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# ------------------------------------------------------------------------- system packages

missing_packages=()

# need PACKAGE REASON TEST...: note PACKAGE unless the command TEST succeeds.
need() {
    local package="$1" reason="$2"
    shift 2
    if ! "$@" >/dev/null 2>&1; then
        say "needs $package: $reason"
        missing_packages+=("$package")
    fi
}

has_header() { echo "#include <$1>" | cc -E -x c -; }
python_has_header() {
    "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))'
}

# The first Python that is new enough, or nothing.
find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
        if [[ -n "$candidate" ]] && command -v "$candidate" >/dev/null &&
            "$candidate" -c "import sys; sys.exit(sys.version_info < (${PYTHON_MIN/./, }))" \
                2>/dev/null; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
}

note_run_packages() {
    need fuse3 "fusermount3, which mounts the file system" command -v fusermount3
    need attr "getfattr, which shows a file's CID" command -v getfattr
}

note_build_packages() {
    need python3 "runs the program" test -n "$python"
    need python3-venv "makes .venv" "${python:-false}" -c 'import ensurepip, venv'
    need python3-dev "Python.h, to compile pyfuse3" python_has_header
    need gcc "compiles pyfuse3" command -v cc
    need libc6-dev "the C library's headers, to compile pyfuse3" has_header stdio.h
    need pkg-config "finds libfuse" command -v pkg-config
    need libfuse3-dev "libfuse's headers, to compile pyfuse3" pkg-config --exists fuse3
}

note_test_packages() {
    need git "tests work with a git repository on the mount" command -v git
    need rsync "tests copy trees onto the mount" command -v rsync
    need sqlite3 "tests run a database on the mount" command -v sqlite3
    need e2fsprogs "tests check that a device with ext4 on it is refused" command -v mkfs.ext4
    need util-linux "tests use loop devices and mount namespaces" command -v losetup
}

install_missing_packages() {
    [[ ${#missing_packages[@]} -gt 0 ]] || return 0
    local command="apt-get install --no-install-recommends ${missing_packages[*]}" sudo=()
    command -v apt-get >/dev/null ||
        fail "this is no Debian; install what the packages above contain, then run me again"
    if [[ $(id -u) -ne 0 ]]; then
        command -v sudo >/dev/null ||
            fail "needs root once, and there is no sudo; as root run: $command"
        sudo=(sudo)
    fi
    say "running: ${sudo[*]:+sudo }$command"
    "${sudo[@]}" apt-get update -qq ||
        fail "apt-get update failed (no network, or no right to); as root run: $command"
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends "${missing_packages[@]}" \
        >/dev/null ||
        fail "apt-get failed (see above); as root run: $command"
    missing_packages=()
}

# --------------------------------------------------------------------------------- Python

stamp_for() {
    cat "$@" pyproject.toml tools/setup.sh blkdev/native/* | sha256sum | cut -c -16
}

make_venv() {
    # A folder that was moved or whose Python is gone does not run any more.
    if ! .venv/bin/python -c "import sys; sys.exit(sys.prefix != '$PWD/.venv')" 2>/dev/null; then
        say "making .venv with $python ($("$python" -V))"
        "$python" -m venv --clear .venv
    fi
}

install_locked() {
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
        --no-build-isolation "$@" ||
        fail "pip failed (see above): the first set-up needs the network, later ones do not"
}

install_python_packages() {
    make_venv
    say "installing the pinned Python packages into .venv (a minute or two the first time)"
    install_locked --requirement requirements/build.txt
    install_locked --requirement requirements/runtime.txt
    if [[ "$purpose" == test ]]; then
        install_locked --requirement requirements/dev.txt
    fi
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
        --no-build-isolation --no-index --editable . || fail "pip could not install the program"
    .venv/bin/python -c "import blkdev._native" 2>/dev/null ||
        say "note: the C helper was not built (is there a compiler?); all works without it, slower"
    # An editable install compiles nothing. The first command of a user who may not write here, or
    # whose Python is told not to, would compile everything again each time.
    .venv/bin/python -m compileall -q ipld blkdev datastore repo mfs pinning \
        fusefs csi ipfs_mfs
}

# ----------------------------------------------------------------------------------- main

[[ -f pyproject.toml ]] || fail "run me from a checkout of the project"
run_stamp=".venv/.ready-to-run-$(stamp_for requirements/{build,runtime}.txt)"
test_stamp=".venv/.ready-to-test-$(stamp_for requirements/{build,runtime,dev}.txt)"

case "$purpose" in
    run) wanted_stamp="$run_stamp" ;;
    test) wanted_stamp="$test_stamp" ;;
    *) fail "usage: tools/setup.sh run|test" ;;
esac

exec 9<pyproject.toml
flock 9  # a second `make` waits for the first one's set-up instead of mixing with it

note_run_packages
if [[ "$purpose" == test ]]; then
    note_test_packages
fi
python=""
if [[ ! -e "$wanted_stamp" ]]; then
    python="$(find_python)"
    note_build_packages
fi
install_missing_packages
if [[ ! -e "$wanted_stamp" ]]; then
    python="$(find_python)"
    [[ -n "$python" ]] || fail "no Python $PYTHON_MIN or newer found; set PYTHON to one"
    install_python_packages
    rm -f .venv/.ready-to-*
    touch "$run_stamp" "$wanted_stamp"
    say "done"
fi
