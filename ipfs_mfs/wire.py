"""Between the results of `api.py` and the messages of `node.proto`: same names, field by field.

Invariants:
- a result and its message have the same fields; `tests/ipfs_mfs/test_wire.py` compares them.
- None is an absent `optional` field, a tuple is a `repeated` one.
- an exception crosses as (class, message, plain attributes). Only classes of our own `errors.py`
  modules and the OSError family are made from a message, without running their constructors: the
  text was composed where the facts were.
"""

import builtins
import importlib
import types
import typing
from typing import Any, TypeVar

from ipfs_mfs.errors import RemoteError
from ipfs_mfs.pb import node_pb2 as pb

T = TypeVar("T")
# Resolving annotations takes longer than converting a message.
_HINTS: dict[type[Any], dict[str, Any]] = {}
_PLAIN = (str, bytes, int, bool, float)

# A status travels in HTTP/2 headers, which gRPC limits to 8 KiB in total.
ERROR_TEXT_MAX_BYTES = 2048
ERROR_DATA_MAX_BYTES = 256
ERROR_MODULES = frozenset(
    f"{package}.errors"
    for package in ("ipld", "blkdev", "repo", "exchange", "mfs", "pinning", "fusefs", "ipfs_mfs")
)


def to_message(value: Any, message: Any) -> Any:
    """Fills `message` from the result `value` and returns it."""
    for name, item in zip(value._fields, value, strict=True):
        if item is None:
            continue
        if not isinstance(item, tuple):
            setattr(message, name, item)
        elif _is_result(item):
            to_message(item, getattr(message, name))
        else:
            repeated = getattr(message, name)
            for element in item:
                if _is_result(element):
                    to_message(element, repeated.add())
                else:
                    repeated.append(element)
    return message


def _is_result(value: Any) -> bool:
    return hasattr(value, "_fields")


def from_message(message: Any, kind: type[T]) -> T:
    """The result `kind` with the values of `message`."""
    values: dict[str, Any] = {}
    for name, hint in _hints(kind).items():
        item = getattr(message, name)
        if typing.get_origin(hint) is tuple:
            element = typing.get_args(hint)[0]
            values[name] = tuple(
                each if element in _PLAIN else from_message(each, element) for each in item
            )
        elif isinstance(hint, types.UnionType) and not message.HasField(name):
            values[name] = None
        elif _is_result(hint):
            values[name] = from_message(item, hint)
        else:
            values[name] = item
    return kind(**values)


def _hints(kind: type[Any]) -> dict[str, Any]:
    if kind not in _HINTS:
        _HINTS[kind] = typing.get_type_hints(kind)
    return _HINTS[kind]


def arguments_of(request: Any) -> dict[str, Any]:
    """The fields of a request as keyword arguments; an absent optional field is None."""
    return {
        field.name: None
        if field.has_presence and not request.HasField(field.name)
        else getattr(request, field.name)
        for field in request.DESCRIPTOR.fields
    }


def request(kind: type[T], arguments: dict[str, Any]) -> T:
    """A request message from keyword arguments; None leaves an optional field absent."""
    return kind(**{name: value for name, value in arguments.items() if value is not None})


def error_to_bytes(error: BaseException) -> bytes:
    """ErrorDetail of an exception; attributes that are not short plain values stay behind."""
    kind = type(error)
    detail = pb.ErrorDetail(type=f"{kind.__module__}.{kind.__qualname__}", message=_text(error))
    attributes = dict(getattr(error, "__dict__", {}))
    if isinstance(error, OSError):
        name = error.filename
        attributes |= {"errno": error.errno, "filename": None if name is None else str(name)}
        detail.message = error.strerror or detail.message
    for name, value in attributes.items():
        field = pb.ErrorField(name=name)
        if isinstance(value, bool):
            field.flag = value
        elif isinstance(value, int) and -(2**63) <= value < 2**63:
            field.number = value
        elif isinstance(value, str) and len(value) <= ERROR_DATA_MAX_BYTES:
            field.text = value.encode("utf-8", "replace").decode("utf-8")
        elif isinstance(value, bytes) and len(value) <= ERROR_DATA_MAX_BYTES:
            field.data = value
        else:
            continue
        detail.fields.append(field)
    return detail.SerializeToString()


def error_from_bytes(data: bytes) -> Exception:
    """The exception to raise here for one that was raised in the daemon."""
    detail = pb.ErrorDetail.FromString(data)
    kind = _error_class(detail.type)
    if kind is None:
        return RemoteError(f"{detail.type}: {detail.message}", "see the daemon's log")
    values: dict[str, Any] = {}
    for field in detail.fields:
        which = field.WhichOneof("value")
        values[field.name] = getattr(field, which) if which else None
    if issubclass(kind, OSError):
        return kind(values.get("errno"), detail.message, values.get("filename"))
    error = kind.__new__(kind)
    error.args = (detail.message,)
    error.__dict__.update(values)
    return error


def _text(error: BaseException) -> str:
    encoded = str(error).encode("utf-8", "replace")[:ERROR_TEXT_MAX_BYTES]
    return encoded.decode("utf-8", "ignore")


def _error_class(dotted: str) -> type[Exception] | None:
    module_name, _, class_name = dotted.rpartition(".")
    if module_name in ERROR_MODULES:
        found = getattr(importlib.import_module(module_name), class_name, None)
        return found if isinstance(found, type) and issubclass(found, Exception) else None
    found = getattr(builtins, class_name, None) if module_name == "builtins" else None
    return found if isinstance(found, type) and issubclass(found, OSError) else None
