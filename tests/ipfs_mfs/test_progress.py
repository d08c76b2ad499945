"""Progress: silent for short work, lines or a bar for long work."""

import io
import sys

import pytest

from ipfs_mfs import progress
from ipfs_mfs.progress import Meter


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves: `clock.now_s`."""

    class Clock:
        now_s = 100.0

    monkeypatch.setattr(progress.time, "monotonic", lambda: Clock.now_s)
    return Clock


def meter(total=1 << 20, unit="bytes", silent=False):
    return Meter("add", total, unit=unit, silent=silent)


def test_short_work_prints_nothing(clock, capsys):
    with meter() as bar:
        clock.now_s += 0.9
        bar.advance(1 << 20)
    assert capsys.readouterr() == ("", "")


def test_long_work_prints_a_line_every_few_seconds_without_a_terminal(clock, capsys):
    with meter() as bar:
        for _ in range(20):
            clock.now_s += 1
            bar.advance(1 << 15)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "add: 32.0 KiB of 1.0 MiB, 3 %, 32.0 KiB/s, 00:31 left"
    assert 3 <= len(lines) <= 5


def test_nothing_is_printed_when_asked_to_be_silent(clock, capsys):
    with meter(silent=True) as bar:
        clock.now_s += 60
        bar.advance(1)
    assert capsys.readouterr() == ("", "")


def test_work_of_unknown_size_has_no_percentage(clock):
    bar = meter(total=None, unit="blocks")
    bar.set(1234)
    assert bar.line(clock.now_s + 2) == "add: 1,234 blocks, 617 blocks/s"


def test_a_total_that_becomes_known_later_is_used(clock):
    bar = meter(total=None, unit="blocks")
    bar.set(5, 10)
    bar.set(5)
    assert "of 10 blocks, 50 %" in bar.line(clock.now_s + 1)


def test_a_bar_appears_on_a_terminal_and_goes_away(clock, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with meter() as bar:
        clock.now_s += 2
        bar.advance(1 << 19)
        clock.now_s += 2
        bar.advance(1 << 19)
    assert "add" in terminal.getvalue()


def test_an_error_inside_ends_the_bar(clock):
    with pytest.raises(ZeroDivisionError), meter() as bar:
        bar.advance(1)
        raise ZeroDivisionError
