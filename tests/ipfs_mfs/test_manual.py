"""Manual pages come from the command tree."""

import click
import pytest

from ipfs_mfs.cli import COMMANDS, PIN_COMMANDS, ROOT_COMMANDS, cli
from ipfs_mfs.manual import page, pages

PAGES = dict(pages(cli, "ipfs-mfs"))


def test_every_command_has_a_page():
    names = {f"ipfs-mfs-{name}.1" for name in COMMANDS}
    names |= {f"ipfs-mfs-root-{name}.1" for name in ROOT_COMMANDS}
    names |= {f"ipfs-mfs-pin-{name}.1" for name in PIN_COMMANDS}
    assert set(PAGES) == {*names, "ipfs-mfs.1"}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_its_sections_and_an_example(name):
    text = PAGES[name]
    for section in (".TH", ".SH NAME", ".SH SYNOPSIS", ".SH OPTIONS", ".SH EXAMPLES"):
        assert f"\n{section}" in f"\n{text}", section


@pytest.mark.parametrize("name", PAGES)
def test_a_page_uses_known_requests_only(name):
    requests = {".TH", ".SH", ".TP", ".B", ".BR", ".nf", ".fi"}
    for line in PAGES[name].splitlines():
        assert line.strip(), "an empty line is a request too"
        assert line[0] != "'"
        if line[0] == ".":
            assert line.split()[0] in requests


def test_text_that_looks_like_a_request_is_printed_as_it_is():
    command = click.Command("x", help=".fi is not a request\\here\n\n'neither this")
    text = page(command, click.Context(command, info_name="x"))
    assert "\n.fi is" not in text
    assert "\\&'neither" in text
    assert "\\ehere" in text
