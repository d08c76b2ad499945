"""Messages and results have the same fields, and errors come back as what they were."""

import inspect

import pytest

from ipfs_mfs import api, control, wire
from ipfs_mfs.errors import BadName, RemoteError, StoreInUse
from ipfs_mfs.pb import node_pb2 as pb
from repo.errors import BlockDamaged
from tests.ipfs_mfs.errors_of_layers import ERROR_CLASSES

RESULTS = [
    kind for kind in vars(api).values() if isinstance(kind, type) and hasattr(kind, "_fields")
]
assert len(RESULTS) > 15


def example(kind, seed=1):
    values: dict[str, object] = {}
    for number, (name, hint) in enumerate(wire._hints(kind).items(), seed):
        text = str(hint)
        if text.startswith("tuple"):
            element = hint.__args__[0]
            inner = "one" if element is str else example(element, number)
            values[name] = (inner, inner)
        elif hasattr(hint, "_fields"):
            values[name] = example(hint, number)
        elif "str" in text:
            values[name] = f"text {number}"
        elif "bytes" in text:
            values[name] = bytes([number, 255])
        elif "bool" in text:
            values[name] = True
        else:
            values[name] = number
    return kind(**values)


@pytest.mark.parametrize("kind", RESULTS, ids=lambda kind: kind.__name__)
def test_a_result_has_the_fields_of_its_message(kind):
    message = getattr(pb, kind.__name__)
    assert list(kind._fields) == [field.name for field in message.DESCRIPTOR.fields]


@pytest.mark.parametrize("kind", RESULTS, ids=lambda kind: kind.__name__)
def test_a_result_comes_back_as_it_went(kind):
    value = example(kind)
    data = wire.to_message(value, getattr(pb, kind.__name__)()).SerializeToString()
    assert wire.from_message(getattr(pb, kind.__name__).FromString(data), kind) == value


def test_none_is_an_absent_field_and_not_zero():
    entry = api.EntryInfo(b"x", "cid", "directory", None)
    empty = api.EntryInfo(b"x", "cid", "file", 0)
    for value in (entry, empty):
        assert wire.from_message(wire.to_message(value, pb.EntryInfo()), api.EntryInfo) == value


def test_every_rpc_is_a_method_of_the_interface_with_the_same_arguments():
    for name, method in control.SERVICE.methods_by_name.items():
        function = getattr(api.NodeApi, control.method_name(name))
        if method.client_streaming:
            continue
        parameters = set(inspect.signature(function).parameters) - {"self", "progress"}
        assert parameters == {field.name for field in method.input_type.fields}, name


def test_every_method_of_the_interface_is_an_rpc_and_is_implemented_remotely():
    methods = {
        name
        for name, value in vars(api.NodeApi).items()
        if inspect.isfunction(value) and not name.startswith("_") and name != "close"
    }
    assert methods == {control.method_name(name) for name in control.SERVICE.methods_by_name}
    assert methods <= set(vars(control.RemoteNode))


def test_a_request_keeps_absent_arguments_absent():
    request = wire.request(pb.CatRequest, {"address": "main", "offset": 3, "length": None})
    assert wire.arguments_of(request) == {"address": "main", "offset": 3, "length": None}


def test_an_error_keeps_class_message_and_attributes():
    error = wire.error_from_bytes(wire.error_to_bytes(StoreInUse("in use", "wait")))
    assert type(error) is StoreInUse
    assert str(error) == "in use (wait)"
    assert error.fix == "wait"
    damaged = wire.error_from_bytes(
        wire.error_to_bytes(BlockDamaged(b"\x01\x55\x12\x20" + b"x" * 32))
    )
    assert isinstance(damaged, BlockDamaged)
    assert damaged.cid == b"\x01\x55\x12\x20" + b"x" * 32


@pytest.mark.parametrize(
    "kind", ERROR_CLASSES, ids=lambda kind: f"{kind.__module__}.{kind.__name__}"
)
def test_every_error_class_crosses_the_socket(kind):
    error = kind.__new__(kind)
    error.args = ("what went wrong",)
    arrived = wire.error_from_bytes(wire.error_to_bytes(error))
    assert type(arrived) is kind
    assert str(arrived) == "what went wrong"


def test_an_os_error_keeps_errno_and_file_name():
    arrived = wire.error_from_bytes(wire.error_to_bytes(OSError(28, "No space left", "/x")))
    assert (type(arrived), arrived.errno, arrived.filename) == (OSError, 28, "/x")
    assert isinstance(
        wire.error_from_bytes(wire.error_to_bytes(PermissionError(13, "no", "/y"))), PermissionError
    )


@pytest.mark.parametrize(
    "name", ["builtins.SystemExit", "builtins.eval", "os.system", "ipfs_mfs.errors.Path", "x"]
)
def test_a_class_that_is_not_ours_is_never_made(name):
    detail = pb.ErrorDetail(type=name, message="boom").SerializeToString()
    arrived = wire.error_from_bytes(detail)
    assert type(arrived) is RemoteError
    assert "boom" in str(arrived)


def test_a_long_message_is_cut_to_what_a_header_takes():
    data = wire.error_to_bytes(BadName("ü" * 100_000))
    assert len(data) < 4096
    assert str(wire.error_from_bytes(data)).startswith("ü" * 100)
