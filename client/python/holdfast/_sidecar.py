"""What a snapshot of a rank holds, as its sidecar says it."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from holdfast._collection import collection_paused
from holdfast._sharded import Place
from holdfast._state import FORMAT
from holdfast._tensors import DTYPE_NAMES
from holdfast.errors import StateError


@dataclasses.dataclass(slots=True)
class SavedTensor:
    index: int  # in the sidecar's layout
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]  # of what the rank holds
    alias_of: str | None
    whole: tuple[int, ...]
    offset: tuple[int, ...] | None  # None: the rank holds all of it

    def fits(self, shape: Sequence[int], place: Place | None) -> bool:
        if self.offset is None or place is None:
            return self.offset is None and place is None and self.shape == tuple(shape)
        return (self.shape, self.whole, self.offset) == (tuple(shape), place.shape, place.offset)

    def text(self) -> str:
        return place_text(self.shape, self.whole, self.offset)


class Sidecar:
    """What a snapshot of this rank holds, from protobuf's JSON mapping (where defaults are left
    out and 64-bit numbers are strings)."""

    @collection_paused()
    def __init__(self, text: str) -> None:
        try:
            document = json.loads(text)
            self.tensors = {
                t["name"]: self._tensor(i, t)
                for i, t in enumerate(document.get("layout", {}).get("tensors", ()))
            }
            self.documents: dict[str, Any] = {}
            self.pickles: dict[str, bytes] = {}
            for item in document.get("state", ()):
                if "json" in item:
                    self.documents[item["name"]] = json.loads(item["json"])
                else:
                    self.pickles[item["name"]] = base64.b64decode(item.get("pickle", ""))
        except (ValueError, KeyError, TypeError) as error:
            raise StateError(f"the snapshot's sidecar cannot be read: {error!r}") from error
        written = self.documents.get("holdfast", {}).get("format", FORMAT)
        if written > FORMAT:
            raise StateError(
                f"the snapshot's state has format {written}, this package knows {FORMAT}: use a "
                "newer holdfast"
            )

    @staticmethod
    def _tensor(index: int, raw: Mapping[str, Any]) -> SavedTensor:
        if raw.get("dtype") not in DTYPE_NAMES:
            raise StateError(f"tensor \"{raw['name']}\" has the unknown type {raw.get('dtype')}")
        shape = tuple(int(n) for n in raw.get("local_shape", ()))
        dtype = DTYPE_NAMES[raw["dtype"]]
        boxes = raw.get("part", {}).get("boxes", ())
        return SavedTensor(
            index,
            raw["name"],
            dtype,
            shape,
            raw.get("alias_of") or None,
            tuple(int(n) for n in raw.get("global_shape", ())),
            tuple(int(n) for n in boxes[0].get("offset", ())) if boxes else None,
        )

    def source(self, tensor: SavedTensor) -> int:
        """Index of the tensor that has the bytes."""
        return self.tensors[tensor.alias_of].index if tensor.alias_of else tensor.index


def place_text(
    shape: Sequence[int], whole: Sequence[int], offset: Sequence[int] | None
) -> str:
    if offset is None:
        return str(list(shape))
    return f"{list(shape)} from {list(offset)} of {list(whole)}"


__all__ = ["SavedTensor", "Sidecar", "place_text"]
