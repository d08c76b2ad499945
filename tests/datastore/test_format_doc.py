"""docs/formats/datastore.md and docs/guide/datastore.md against the code."""

import re
from pathlib import Path

from blkdev.device import RamDevice
from blkdev.store import Store
from datastore import BlkdevDatastore, Key, mapping
from datastore.key import KEY_SIZE_MAX_BYTES

DOCUMENTS = Path(__file__).parents[2] / "docs"
FORMAT = (DOCUMENTS / "formats" / "datastore.md").read_text()
GUIDE = (DOCUMENTS / "guide" / "datastore.md").read_text()


def table_below(title: str) -> list[list[str]]:
    section = FORMAT.split(f"## {title}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def test_constants_are_those_of_the_code():
    documented = {row[0]: int(row[1]) for row in table_below("Constants")}
    code = {name: value for name, value in vars(mapping).items() if isinstance(value, int)}
    assert documented == code
    assert documented["KEY_SIZE_MAX_BYTES"] == KEY_SIZE_MAX_BYTES


def test_first_bytes_are_those_of_the_code():
    short, long = (row[1] for row in table_below("Keys and values"))
    assert short == f"`{mapping.SHORT.hex()}`, `{mapping.SHORT.decode()}`"
    assert long == f"`{mapping.LONG.hex()}`, `{mapping.LONG.decode()}`"


def test_mark_is_that_of_the_code():
    assert f"The engine's name `{mapping.MARK.decode()}` has the version" in FORMAT


def test_worked_example_is_what_the_store_holds():
    device = RamDevice(64 << 20)
    Store.format(device)
    store = Store.open(device)
    datastore = BlkdevDatastore(store)
    keys = (Key("/peers/local"), Key("/" + "k" * 64))
    for key in keys:
        datastore.put(key, b"value")
    stored = {key.hex(): store.get(key).hex() for key in store.keys()}  # noqa: SIM118  # no dict
    example = FORMAT.split("## Worked example")[1]
    lines = re.findall(r"^    ([0-9a-f …]+?) {2,}(key|value)$", example, flags=re.MULTILINE)
    assert [kind for _, kind in lines] == ["key", "value", "key", "value"]
    texts = [text.replace(" ", "") for text, _ in lines]
    assert set(stored) == {texts[0], texts[2]}
    assert stored[texts[0]] == texts[1]
    begin, end = texts[3].split("…")
    assert stored[texts[2]].startswith(begin)
    assert stored[texts[2]].endswith(end)
    assert dict(store.names()) == {mapping.MARK: b"\1"}


def test_code_of_the_guide_document_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"^```python\n(.*?)^```$", GUIDE, flags=re.MULTILINE | re.DOTALL)
    exec(compile(code, "datastore.md", "exec"), {})
    assert capsys.readouterr().out == "/peers/local b'::1'\n/peers/third b'192.0.2.9'\n"


def test_limits_of_the_guide_document_are_those_of_the_code():
    assert f"keys of {KEY_SIZE_MAX_BYTES} bytes" in GUIDE
