"""The binding itself, with a real library and daemon behind it."""

from __future__ import annotations

import logging
import os
from typing import Any

import pytest

from holdfast import _client, _native
from holdfast._client import Client
from node import Node


class SlowLibrary:
    """The real library, on a machine that does not let slots be pinned; without device code, as it
    says later."""

    NOTES = ("slots cannot be pinned: cudaHostRegister: out of memory", "verify: by the sample only")

    def __init__(self, real: Any) -> None:
        self._real = real
        self.notes = 1
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def hf_get_stats(self, handle: Any, out: Any) -> int:
        self.asked += 1
        code: int = self._real.hf_get_stats(handle, out)
        out._obj.note = "\n".join(self.NOTES[: self.notes]).encode()
        out._obj.unpinned_bytes, out._obj.unpinned_copy_ns = 6_000, 2_000
        return code


def test_why_copies_are_slow_is_told_once(
    node: Node, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_client, "_NOTE_SECONDS", 0.0)
    client = Client(os.environ["HOLDFAST_SOCKET"], 5)
    try:
        assert client.stats().note == ""
        on_a_gpu = [(0, 0)]
        with caplog.at_level(logging.WARNING, "holdfast"):
            client.fence(on_a_gpu)
            assert not caplog.records
            slow = SlowLibrary(_native.library())
            client.lib = slow  # type: ignore[assignment]
            for slow.notes in (1, 1, 2, 2):
                client.fence(on_a_gpu)
        assert [record.getMessage() for record in caplog.records] == list(SlowLibrary.NOTES)
        assert client.stats().note.splitlines() == list(SlowLibrary.NOTES)
        assert client.stats().unpinned_bytes_per_second == 3e9
    finally:
        client.close()


def test_a_fence_does_not_fetch_all_counters_each_time(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_client, "_NOTE_SECONDS", 3600.0)
    client = Client(os.environ["HOLDFAST_SOCKET"], 5)
    try:
        slow = SlowLibrary(_native.library())
        client.lib = slow  # type: ignore[assignment]
        for _ in range(3):
            client.fence([(0, 0)])
        assert slow.asked == 1
    finally:
        client.close()
