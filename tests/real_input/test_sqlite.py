"""A database lives on the mount, with both of SQLite's journals, also when the daemon is killed."""

import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest

pytestmark = [pytest.mark.needs_fuse, pytest.mark.slow]

JOURNALS = ["wal", "delete"]

# Says the number of each row after its commit has returned. EXTRA, because a commit of the DELETE
# journal is its removal, and with FULL SQLite does not sync the folder that it was removed from. It
# takes a folder that it cannot open for one that needs no sync (os_unix.c, unixDelete), so a row
# counts only when the folder could still be opened afterwards.
WRITER = """
import os, sqlite3, sys
folder = os.path.dirname(sys.argv[1])
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA synchronous = EXTRA")
for number in range(int(sys.argv[2]), 1_000_000):
    database.execute("INSERT INTO rows VALUES (?, ?)", (number, "x" * (number % 5000)))
    os.close(os.open(folder, os.O_RDONLY))
    print(number, flush=True)
"""


def create(path, journal):
    with closing(connect(path)) as database:
        mode = database.execute(f"PRAGMA journal_mode = {journal}").fetchone()[0]
        assert mode == journal
        database.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, text TEXT)")


def connect(path):
    return sqlite3.connect(path, timeout=30, isolation_level=None)


def numbers(path):
    """All rows, after the database has checked itself."""
    with closing(connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = database.execute("SELECT number, length(text) FROM rows ORDER BY number").fetchall()
    assert all(length == number % 5000 for number, length in rows)
    return [number for number, _ in rows]


def insert(database, first, count):
    with database:
        database.execute("BEGIN")
        rows = ((number, "x" * (number % 5000)) for number in range(first, first + count))
        database.executemany("INSERT INTO rows VALUES (?, ?)", rows)


@pytest.mark.parametrize("journal", JOURNALS)
def test_a_database_is_used_rolled_back_vacuumed_and_found_again(mounted, journal):
    path = mounted.mountpoint / "base.sqlite"
    create(path, journal)
    with closing(connect(path)) as database:
        insert(database, 0, 2000)
        database.execute("BEGIN")
        database.execute("DELETE FROM rows")
        database.execute("ROLLBACK")
        database.execute("DELETE FROM rows WHERE number >= 1500")
        database.execute("VACUUM")
    assert numbers(path) == list(range(1500))
    mounted.run("umount", mounted.mountpoint)
    mounted.run("mount", mounted.mountpoint)
    assert numbers(path) == list(range(1500))


@pytest.mark.parametrize("journal", JOURNALS)
def test_readers_see_whole_transactions_while_another_process_writes(mounted, journal):
    path = mounted.mountpoint / "base.sqlite"
    create(path, journal)
    seen = []
    ended = threading.Event()

    def read():
        with closing(connect(path)) as database:
            while not ended.is_set():
                seen.append(database.execute("SELECT count(*) FROM rows").fetchone()[0])

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with closing(connect(path)) as database:
            for transaction in range(20):
                insert(database, transaction * 50, 50)
    finally:
        ended.set()
        reader.join()
    assert seen == sorted(seen)
    assert {count % 50 for count in seen} == {0}
    assert numbers(path) == list(range(1000))


@pytest.mark.parametrize("journal", JOURNALS)
def test_committed_rows_survive_the_kill_of_the_daemon(mounted, journal):
    path = mounted.mountpoint / "base.sqlite"
    create(path, journal)
    for _ in range(3):
        first = len(numbers(path))
        command = [sys.executable, "-c", WRITER, str(path), str(first)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as writer:
            assert writer.stdout.readline() == f"{first}\n"
            time.sleep(0.7)
            mounted.kill_daemon()
            writer.kill()
            acknowledged = [first, *map(int, writer.stdout.read().splitlines())]
        mounted.run("mount", mounted.mountpoint)
        there = numbers(path)
        assert there == list(range(len(there))), "rows appear in the order of their commits"
        assert there[: acknowledged[-1] + 1] == list(range(acknowledged[-1] + 1))
    assert mounted.run("check", "--json").record["findings"] == []
