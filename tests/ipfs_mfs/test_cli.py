"""The command line as such: help, errors, exit statuses, and how little it loads."""

import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from ipfs_mfs import main as program
from ipfs_mfs.cli import COMMANDS, PIN_COMMANDS, ROOT_COMMANDS, LazyGroup, cli

# What `--help` may import beside click and what click itself needs. Everything else is slow.
HEAVY = {
    "grpc",
    "google.protobuf",
    "rich",
    "multiformats",
    "libipld",
    "pyfuse3",
    "trio",
    "blake3",
    "ipld",
    "blkdev",
    "repo",
    "mfs",
    "fusefs",
    "pinning",
    "asyncio",
    "hashlib",
    "subprocess",
    "tomllib",
}


def commands(group=cli, path=()):
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        yield (*path, name), command
        if isinstance(command, LazyGroup):
            yield from commands(command, (*path, name))


ALL = dict(commands())


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_has_help_with_an_example(path):
    done = CliRunner().invoke(cli, [*path, "--help"])
    assert done.exit_code == 0
    assert "Examples:" in done.output
    assert f"ipfs-mfs {' '.join(path)}" in done.output
    assert all(len(line) <= 100 for line in done.output.splitlines())


@pytest.mark.parametrize(
    "path", [path for path, command in ALL.items() if not isinstance(command, LazyGroup)]
)
def test_every_command_takes_the_common_options(path):
    flags = {flag for parameter in ALL[path].params for flag in parameter.opts}
    assert {"--store", "--json", "-q", "--quiet", "-v", "--verbose"} <= flags


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_the_summary_of_the_list_is_the_one_of_the_command(path):
    tables = {1: COMMANDS, 2: {"root": ROOT_COMMANDS, "pin": PIN_COMMANDS}.get(path[0], {})}
    assert ALL[path].short_help == tables[len(path)][path[-1]]


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["mount", "--help"], ["root", "--help"]]
)
def test_help_loads_nothing_heavy(arguments):
    code = (
        "import sys, json\n"
        "from ipfs_mfs.main import run\n"
        f"run({arguments!r})\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stderr))
    assert not loaded & HEAVY


def test_completion_offers_commands_without_loading_them():
    code = (
        "import os, sys\n"
        "os.environ |= {'_IPFS_MFS_COMPLETE': 'bash_complete', 'COMP_WORDS': 'ipfs-mfs ro',"
        " 'COMP_CWORD': '1'}\n"
        "from ipfs_mfs.main import run\n"
        "try:\n    run([])\n"
        "finally:\n    print([m for m in sys.modules if m.startswith('ipfs_mfs.commands.')],"
        " file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "plain,root" in done.stdout
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["cat"], 2, "Missing argument 'ADDR'"),
        (["cat", "--offset", "-1", "x"], 2, "--offset"),
        (["mount", "/x", "--transport", "smoke"], 2, "--transport"),
        (["root", "create", "x", "--quota", "many"], 2, "--quota: 'many' is not a size"),
        (["format", "/x", "--size", "big"], 2, "--size: 'big' is not a size"),
        (["root", "restore", "main"], 2, "NAME@SNAP"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(capfd, arguments, status, message):
    assert program.run(arguments) == status
    captured = capfd.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("ipfs-mfs: ")
    assert message in lines[0]
    assert captured.out == ""


def test_an_unexpected_error_is_one_line_and_a_traceback_only_with_v(capfd, monkeypatch):
    from ipfs_mfs import config

    def fail():
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(config, "load", fail)
    assert program.run(["sync"]) == 1
    error = capfd.readouterr().err
    assert error.splitlines() == [
        "ipfs-mfs: sync: unexpected ZeroDivisionError: oops (run it with -v for the whole story)"
    ]
    assert program.run(["sync", "-v"]) == 1
    assert "Traceback" in capfd.readouterr().err


def test_ctrl_c_is_one_line_and_status_1(capfd, monkeypatch):
    from ipfs_mfs import config

    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(config, "load", interrupt)
    assert program.run(["sync"]) == 1
    assert capfd.readouterr().err.startswith("ipfs-mfs: sync: interrupted")


def test_a_reader_that_goes_away_ends_the_program_quietly(tmp_path):
    done = subprocess.run(
        f"{sys.executable} -m ipfs_mfs.main man {tmp_path} | head -1; echo ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_the_version_is_that_of_the_package():
    from ipfs_mfs import __version__

    assert CliRunner().invoke(cli, ["--version"]).output == f"ipfs-mfs {__version__}\n"
