"""Non-tensor state as JSON that comes back exactly: same values, same types.

A value that JSON has (None, bool, int, finite float, str, list, dict with plain string keys) is
itself.  Everything else is an object with one key that starts with "$":

  {"$float": "nan"|"inf"|"-inf"|"0x7ff8..."}   floats that JSON has not (hex: the bits of a NaN)
  {"$complex": [re, im]}  {"$bytes": base64}  {"$bytearray": base64}
  {"$tuple": [...]}  {"$size": [...]}  {"$set": [...]}  {"$frozenset": [...]}
  {"$deque": [maxlen, [...]]}
  {"$dict": [[key, value], ...]}               dicts whose keys are no plain strings
  {"$ordered_dict": [...]}  {"$counter": [...]}
  {"$tensor": name}  {"$ndarray": name}        bytes are in the image under that name
  {"$numpy": [dtype, base64]}                  a numpy scalar
  {"$dtype": "float32"}  {"$device": "cuda:0"}
  {"$pickle": name}                            only where the user allowed it

What is none of these is refused by name, never turned into something similar.
"""

from __future__ import annotations

import base64
import collections
import math
import pickle
import struct
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch

from holdfast.errors import StateError

Json = Any

_MAX_DEPTH = 200


def _base64(raw: bytes | bytearray) -> str:
    return base64.b64encode(raw).decode("ascii")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _float(value: float) -> Json:
    if math.isfinite(value):
        return value
    if math.isinf(value):
        return {"$float": "inf" if value > 0 else "-inf"}
    bits = struct.unpack("<Q", struct.pack("<d", value))[0]
    # A NaN may carry a payload; the usual one is written as a word for people.
    return {"$float": "nan" if bits == 0x7FF8000000000000 else f"{bits:#018x}"}


def _float_back(text: str) -> float:
    if text.startswith("0x"):
        return float(struct.unpack("<d", struct.pack("<Q", int(text, 16)))[0])
    return float(text)


class Encoder:
    """Turns values into JSON and collects the tensors in them.

    Tensors are collected as they are, not copied: the caller copies them before they change.
    """

    def __init__(self, allow_pickle: bool = False) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        self.pickles: dict[str, bytes] = {}
        self._allow_pickle = allow_pickle
        self._depth = 0

    def encode(self, value: object, path: str) -> Json:
        """JSON of "value"; "path" names it, and the tensors below it."""
        kind = type(value)
        if value is None or kind is bool or kind is int or kind is str:
            return value
        if kind is float:
            return _float(value)  # type: ignore[arg-type]
        self._depth += 1
        try:
            if self._depth > _MAX_DEPTH:
                raise StateError(f"{path}: nested more than {_MAX_DEPTH} deep, or in itself")
            return self._encode_other(value, kind, path)
        finally:
            self._depth -= 1

    def _encode_other(self, value: Any, kind: type, path: str) -> Json:
        if kind is list:
            return self._sequence(value, path)
        if kind is dict:
            return self._dict(value, path)
        if isinstance(value, torch.Tensor):
            return {"$tensor": self._add(path, value)}
        tagged = _TAGGED.get(kind)
        if tagged is not None:
            return tagged(self, value, path)
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            if kind is numpy.ndarray and value.dtype.kind in "biufc" and value.dtype.isnative:
                return self._ndarray(numpy, value, path)
            if isinstance(value, numpy.generic) and value.dtype.kind in "biufc":
                return {"$numpy": [value.dtype.str, _base64(value.tobytes())]}
        return self._pickle(value, path)

    def _sequence(self, values: Any, path: str) -> list[Json]:
        return [self.encode(item, f"{path}.{i}") for i, item in enumerate(values)]

    def _pairs(self, values: Mapping[Any, Any], path: str) -> list[Json]:
        return [
            [self.encode(key, f"{path}.key"), self.encode(item, f"{path}.{key}")]
            for key, item in values.items()
        ]

    def _dict(self, values: dict[Any, Any], path: str) -> Json:
        if all(type(key) is str and not key.startswith("$") for key in values):
            return {key: self.encode(item, f"{path}.{key}") for key, item in values.items()}
        return {"$dict": self._pairs(values, path)}

    def _set(self, values: Any, path: str) -> list[Json]:
        try:
            ordered = sorted(values)  # the same set gives the same text
        except TypeError:
            ordered = list(values)
        return self._sequence(ordered, path)

    def _ndarray(self, numpy: Any, value: Any, path: str) -> Json:
        # torch takes no negative strides and warns of arrays that it could write by mistake.
        plain = value if value.flags.c_contiguous and value.flags.writeable else value.copy("C")
        try:
            return {"$ndarray": self._add(path, torch.from_numpy(plain))}
        except TypeError:
            return self._pickle(value, path)

    def _pickle(self, value: object, path: str) -> Json:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        if not self._allow_pickle:
            raise StateError(
                f"{path} is a {kind}, which cannot be saved without pickle: leave it out of the "
                "state, or pass allow_pickle=True to Checkpointer"
            )
        name = self._unused(path, self.pickles)
        try:
            self.pickles[name] = pickle.dumps(value)
        except Exception as error:
            raise StateError(f"{path} is a {kind} that pickle cannot save: {error}") from error
        return {"$pickle": name}

    def _add(self, path: str, tensor: torch.Tensor) -> str:
        name = self._unused(path, self.tensors)
        # requires_grad is no part of the value; a conjugate or negative view is not what lies in
        # memory.
        plain = tensor.detach()
        if plain.layout is torch.strided and not plain.is_quantized:
            plain = plain.resolve_conj().resolve_neg()
        self.tensors[name] = plain
        return name

    @staticmethod
    def _unused(path: str, taken: Mapping[str, object]) -> str:
        name = path
        while name in taken:
            name += "~"
        return name


_TAGGED: dict[type, Callable[[Encoder, Any, str], Json]] = {
    tuple: lambda e, v, p: {"$tuple": e._sequence(v, p)},
    torch.Size: lambda e, v, p: {"$size": [int(n) for n in v]},
    set: lambda e, v, p: {"$set": e._set(v, p)},
    frozenset: lambda e, v, p: {"$frozenset": e._set(v, p)},
    collections.deque: lambda e, v, p: {"$deque": [v.maxlen, e._sequence(v, p)]},
    collections.OrderedDict: lambda e, v, p: {"$ordered_dict": e._pairs(v, p)},
    collections.Counter: lambda e, v, p: {"$counter": e._pairs(v, p)},
    bytes: lambda e, v, p: {"$bytes": _base64(v)},
    bytearray: lambda e, v, p: {"$bytearray": _base64(v)},
    complex: lambda e, v, p: {"$complex": [_float(v.real), _float(v.imag)]},
    torch.dtype: lambda e, v, p: {"$dtype": str(v).removeprefix("torch.")},
    torch.device: lambda e, v, p: {"$device": str(v)},
}


def tensor_names(value: Json) -> list[str]:
    """Names of all tensors that a JSON value refers to."""
    names: list[str] = []
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, dict):
            for key in ("$tensor", "$ndarray"):
                if isinstance(item.get(key), str) and len(item) == 1:
                    names.append(item[key])
            stack.extend(item.values())
    return names


class Decoder:
    """Turns the JSON back.  "tensors" holds every tensor that it names."""

    def __init__(
        self, tensors: Mapping[str, torch.Tensor], pickles: Mapping[str, bytes] | None = None
    ) -> None:
        self._tensors = tensors
        self._pickles = pickles  # None: pickle is not allowed

    def decode(self, value: Json) -> Any:
        try:
            return self._decode(value)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, struct.error) as error:
            raise StateError(f"the snapshot's state cannot be read: {error!r}") from error

    def _decode(self, value: Json) -> Any:
        if isinstance(value, list):
            return [self._decode(item) for item in value]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            tag, body = next(iter(value.items()))
            if tag.startswith("$"):
                return self._tagged(tag, body)
        return {key: self._decode(item) for key, item in value.items()}

    def _pairs(self, body: Json) -> list[tuple[Any, Any]]:
        return [(self._decode(key), self._decode(item)) for key, item in body]

    def _tagged(self, tag: str, body: Json) -> Any:
        if tag in _FROM_SEQUENCE:
            return _FROM_SEQUENCE[tag]([self._decode(item) for item in body])
        if tag in _FROM_PAIRS:
            return _FROM_PAIRS[tag](self._pairs(body))
        if tag in _FROM_TEXT:
            return _FROM_TEXT[tag](body)
        if tag == "$complex":
            return complex(*(self._decode(part) for part in body))
        if tag == "$deque":
            return collections.deque([self._decode(item) for item in body[1]], maxlen=body[0])
        if tag == "$tensor":
            return self._tensors[body]
        if tag == "$ndarray":
            return self._tensors[body].numpy()
        if tag == "$numpy":
            import numpy

            return numpy.frombuffer(_bytes(body[1]), dtype=numpy.dtype(body[0]))[0]
        if tag == "$pickle":
            if self._pickles is None:
                raise StateError(
                    f"the snapshot holds {body} as pickle, which can run any code: pass "
                    "allow_pickle=True to Checkpointer if you trust where it comes from"
                )
            return pickle.loads(self._pickles[body])
        raise ValueError(f"unknown tag {tag}")


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"{name} is no dtype")
    return found


def _counter(pairs: list[tuple[Any, Any]]) -> collections.Counter[Any]:
    return collections.Counter(dict(pairs))


_FROM_SEQUENCE: dict[str, Callable[[list[Any]], Any]] = {
    "$tuple": tuple,
    "$size": torch.Size,
    "$set": set,
    "$frozenset": frozenset,
}
_FROM_PAIRS: dict[str, Callable[[list[tuple[Any, Any]]], Any]] = {
    "$dict": dict,
    "$ordered_dict": collections.OrderedDict,
    "$counter": _counter,
}
_FROM_TEXT: dict[str, Callable[[str], Any]] = {
    "$float": _float_back,
    "$bytes": _bytes,
    "$bytearray": lambda text: bytearray(_bytes(text)),
    "$dtype": _dtype,
    "$device": torch.device,
}
