"""Non-tensor state comes back exactly, or is refused by name."""

from __future__ import annotations

import collections
import json
import math
import random
import struct
from typing import Any

import numpy
import pytest
import torch

from holdfast._encoding import Decoder, Encoder, tensor_names
from holdfast.errors import StateError


def round_trip(value: Any, allow_pickle: bool = False) -> Any:
    encoder = Encoder(allow_pickle)
    document = json.loads(json.dumps(encoder.encode(value, "x"), allow_nan=False))
    assert set(tensor_names(document)) == set(encoder.tensors)
    return Decoder(encoder.tensors, encoder.pickles if allow_pickle else None).decode(document)


def same(a: Any, b: Any) -> bool:
    """Equal in value and type, all the way down; floats by their bits."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack("<d", a) == struct.pack("<d", b)
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and a.equal(b)
    if isinstance(a, numpy.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return len(a) == len(b) and all(
            same(ka, kb) and same(va, vb) for (ka, va), (kb, vb) in zip(a.items(), b.items())
        )
    if isinstance(a, (list, tuple, collections.deque)):
        maxlen = getattr(a, "maxlen", None) == getattr(b, "maxlen", None)
        return maxlen and len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


LEAVES: list[Any] = [
    None, True, False, 0, 1, -1, 2**63, -(2**200), 0.0, -0.0, 1.0, 0.1, 5e-324, 1.7e308, math.inf,
    -math.inf, math.nan, struct.unpack("<d", struct.pack("<Q", 0xFFF8000000000123))[0], "",
    "ä\0\n", "\ud800", "$tensor", b"", b"\x00\xff", bytearray(b"ab"), 1j, complex(math.nan, -0.0),
    torch.float32, torch.bfloat16, torch.device("cpu"), torch.device("cuda:1"), torch.Size([2, 3]),
    torch.Size([]), numpy.float32(0.1), numpy.int64(-5), numpy.bool_(True), numpy.float64(2.5),
]


@pytest.mark.parametrize("value", LEAVES, ids=repr)
def test_a_leaf_comes_back_with_value_and_type(value: Any) -> None:
    assert same(round_trip(value), value)


@pytest.mark.parametrize(
    "value",
    [
        {"a": 1, 2: "b", (1, "x"): [None], None: 0, 1.5: 2, True: 3},
        {"$tensor": "not a tensor"},
        {"$": 1, "plain": 2},
        collections.OrderedDict([("b", 1), ("a", (2, 3))]),
        collections.Counter({3: 2, 7: 1}),
        collections.deque([1, (2,)], maxlen=4),
        collections.deque([1]),
        {1, 5, 3},
        frozenset({"a"}),
        {1, "mixed"},
        [[], (), {}, ((),)],
        {"nested": {"t": torch.arange(6).reshape(2, 3), "u": [torch.tensor(2.5)]}},
        {1: torch.zeros(0, 3), 2: torch.tensor([True])},
        {"a": numpy.arange(6, dtype=numpy.uint32).reshape(2, 3)[:, ::-1], "b": numpy.array(3.0)},
    ],
    ids=lambda value: type(value).__name__,  # repr orders a set by the seed of the hash
)
def test_a_container_comes_back_with_order_keys_and_types(value: Any) -> None:
    assert same(round_trip(value), value)


def random_value(rng: random.Random, depth: int) -> Any:
    kind = rng.randrange(10 if depth else 2)
    if kind < 3:
        return rng.choice(LEAVES)
    items = [random_value(rng, depth - 1) for _ in range(rng.randrange(4))]
    if kind == 3:
        return tuple(items)
    if kind == 4:
        return {rng.choice(["a", "b", "$x", 1, -7, (1, 2), None, b"k"]): item for item in items}
    if kind == 5:
        return collections.OrderedDict((rng.randrange(99), item) for item in items)
    if kind == 6:
        return torch.randn(rng.randrange(3), 2, dtype=torch.float64)
    if kind == 7:
        return numpy.array([rng.random()] * rng.randrange(3), dtype=numpy.float32)
    return items


@pytest.mark.parametrize("seed", range(200))
def test_any_nested_value_comes_back(seed: int) -> None:
    value = random_value(random.Random(seed), 4)
    assert same(round_trip(value), value)


class Strange:
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Strange)


def test_what_cannot_be_expressed_is_refused_with_its_path() -> None:
    with pytest.raises(StateError, match=r"x\.a\.1 is a test_encoding\.Strange"):
        round_trip({"a": [1, Strange()]})


def test_pickle_is_written_and_read_only_when_allowed() -> None:
    assert same(round_trip({"s": Strange(), "n": 1}, allow_pickle=True), {"s": Strange(), "n": 1})
    encoder = Encoder(allow_pickle=True)
    document = encoder.encode({"s": Strange()}, "x")
    with pytest.raises(StateError, match="allow_pickle=True"):
        Decoder(encoder.tensors).decode(document)


def test_a_value_that_holds_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(StateError, match="nested more than"):
        round_trip(loop)


def test_tensors_of_equal_path_get_names_of_their_own() -> None:
    value = {"a": {"b": torch.tensor(1)}, "a.b": torch.tensor(2), 1: {}, "1": torch.tensor(3)}
    assert same(round_trip(value), value)


@pytest.mark.parametrize(
    "document",
    [{"$float": "x"}, {"$unknown": 1}, {"$tensor": "gone"}, {"$dtype": "nn"}, {"$tuple": 5},
     {"$dict": [[1]]}, {"$numpy": ["O", ""]}, {"$bytes": "%"}, {"$deque": []}],
    ids=repr,
)
def test_damaged_documents_are_errors_not_crashes(document: Any) -> None:
    with pytest.raises(StateError):
        Decoder({}).decode(document)
