"""One connection to the daemon: holdfast.h with Python types and exceptions.

Threads: like hf_client. snapshot(), fence() and set_layout() belong to the training loop; the rest
may be called from any thread.  Calls release the interpreter lock while they wait; in those that
may wait for minutes signals are handled (_calls.py), but for load().
Ownership: close() must come before the process ends; the object is useless afterwards.
"""

from __future__ import annotations

import ctypes
import dataclasses
import logging
import time
from collections.abc import Callable, Sequence

from holdfast import _native
from holdfast._calls import Calls
from holdfast._drain import Flushing
from holdfast._structs import milliseconds, stream_structs, tensor_structs, text, tier_structs
from holdfast._tiers import Tier
from holdfast._values import HOST, Begun, Capture, Choice, Drained, Incarnation, Stats, Streams
from holdfast._values import TensorSpec
from holdfast.errors import DeadlineError, HoldfastError, error_of

_log = logging.getLogger("holdfast")
_MOST_TIERS = 16
_REASON_BYTES = 1024
# All counters take longer to fetch than a fence takes.
_NOTE_SECONDS = 1.0
#: Signals are handled between two of them.
_SLICE_SECONDS = 0.2


def _in_slices(seconds: float, wait: Callable[[int], None]) -> None:
    """wait(milliseconds) raises DeadlineError, and may be called again."""
    deadline = time.monotonic() + seconds
    while True:
        left = deadline - time.monotonic()
        try:
            wait(milliseconds(min(left, _SLICE_SECONDS)))
            return
        except DeadlineError:
            if left <= _SLICE_SECONDS:
                raise


class Restore:
    """One attempt of a restore; see hf_restore_begin."""

    def __init__(self, client: "Client", handle: ctypes.c_void_p, choice: Choice) -> None:
        self._client = client
        self._handle: ctypes.c_void_p | None = handle
        self.choice = choice

    def sidecar(self) -> str:
        """The sidecar in protobuf's JSON mapping."""
        found = ctypes.c_void_p()
        length = ctypes.c_size_t()
        self._client.check(
            self._client.lib.hf_restore_sidecar(
                self._handle, ctypes.byref(found), ctypes.byref(length)
            )
        )
        if not found.value:
            return "{}"
        return ctypes.string_at(found.value, length.value).decode("utf-8")

    def load(
        self,
        indices: Sequence[int],
        addresses: Sequence[int],
        lengths: Sequence[int],
        devices: Sequence[int],
        threads: int,
    ) -> None:
        """Copies tensors of the sidecar, checked, to memory that the caller keeps alive."""
        n = len(indices)
        self._client.check(
            self._client.lib.hf_restore_load(
                self._handle,
                (ctypes.c_uint32 * n)(*indices),
                (ctypes.c_void_p * n)(*addresses),
                (ctypes.c_uint64 * n)(*lengths),
                (ctypes.c_int32 * n)(*devices),
                n,
                threads,
            )
        )
        if any(device != HOST for device in devices):
            self._client.tell_note(self._client.stats().note)

    def finish(self, failure: str | None, timeout: float) -> bool:
        """Tells the verdict of this rank and waits for all; True when committed."""
        return self._client.calls.make(lambda: self._finish(failure, timeout))

    def _finish(self, failure: str | None, timeout: float) -> bool:
        committed = ctypes.c_uint32()
        self._client.check(
            self._client.lib.hf_restore_finish(
                self._handle,
                None if failure is None else failure.encode(),
                milliseconds(timeout),
                ctypes.byref(committed),
            )
        )
        return bool(committed.value)

    def refuse(self, reason: str, timeout: float) -> None:
        """No snapshot can help this rank: the restore ends on all ranks with this reason."""
        wait = milliseconds(timeout)
        self._client.check(
            self._client.lib.hf_restore_refuse(self._handle, reason.encode("utf-8", "replace"), wait)
        )

    def free(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            library = self._client.lib
            self._client.calls.free(lambda: library.hf_restore_free(handle))

    def __del__(self) -> None:
        # The other ranks wait for the word of one whose caller was interrupted.
        self.free()


class Client:
    """A connection; see hf_connect.  Raises UnavailableError where no daemon answers."""

    def __init__(
        self,
        socket: str,
        timeout: float,
        slots: int = 0,
        copy_threads: int = 0,
        request_timeout: float = 10.0,
        verify_every: int = 0,
        staging_percent: int = 50,
        gather_bytes: int = 0,
    ) -> None:
        self.lib = _native.library()
        self.calls = Calls()
        self.socket = socket
        options = _native.Options()
        self.lib.hf_options_init(ctypes.byref(options))
        options.slots_wanted = slots
        options.copy_threads = copy_threads
        options.verify_every = verify_every
        options.staging_percent = staging_percent
        options.gather_bytes = gather_bytes
        options.request_timeout_ms = milliseconds(request_timeout)
        handle = ctypes.c_void_p()
        self._handle: ctypes.c_void_p | None = None
        self._begin = _native.BeginStruct()
        self._noted: set[str] = set()
        self._next_look = 0.0
        self.check(
            self.lib.hf_connect(
                socket.encode(), ctypes.byref(options), milliseconds(timeout), ctypes.byref(handle)
            )
        )
        self._handle = handle

    def check(self, code: int) -> None:
        if code != 0:
            raise self._error(code)

    def _error(self, code: int) -> HoldfastError:
        return error_of(code, text(self.lib.hf_last_error()))

    def close(self) -> None:
        """Waits for copies under way, then drops the connection; where a signal has ended the wait
        for a call, when that call is over.  May be called again."""
        handle, self._handle = self._handle, None
        if handle is None:
            return
        if self.calls.under_way():
            # The connection lives on until that call ends, but no copy may.
            self.lib.hf_fence(handle, stream_structs(()), 0)
        self.calls.free(lambda: self.lib.hf_close(handle))

    def make_card(self, job: str) -> bytes:
        """What the other ranks must know of this rank's node; see hf_make_card."""
        card = _native.CardStruct()
        self.check(self.lib.hf_make_card(self._handle, job.encode(), ctypes.byref(card)))
        return bytes(card.bytes)

    def set_nodes(self, cards: Sequence[bytes], tiers: Sequence[Tier]) -> None:
        """The cards of all ranks, in order of rank; before open_incarnation and join."""
        raw = (_native.CardStruct * len(cards)).from_buffer_copy(b"".join(cards))
        self.check(
            self.lib.hf_set_nodes(self._handle, raw, len(cards), tier_structs(tiers), len(tiers))
        )

    def open_incarnation(
        self, job: str, world_size: int, tiers: Sequence[Tier], take_over: bool
    ) -> Incarnation:
        out = _native.IncarnationStruct()
        self.check(
            self.lib.hf_open_incarnation(
                self._handle,
                job.encode(),
                world_size,
                tier_structs(tiers),
                len(tiers),
                int(take_over),
                ctypes.byref(out),
            )
        )
        return Incarnation(bytes(out.job_uid), out.number, out.token)

    def join(self, job: str, incarnation: Incarnation, rank: int, world_size: int) -> None:
        uid = (ctypes.c_uint8 * 16)(*incarnation.job_uid)
        raw = _native.IncarnationStruct(uid, incarnation.number, incarnation.token)
        self.check(
            self.lib.hf_join(self._handle, job.encode(), ctypes.byref(raw), rank, world_size)
        )

    def set_layout(self, specs: Sequence[TensorSpec], seconds: float | None = None) -> None:
        """Waits "seconds" at most (else the request timeout); after DeadlineError the registration
        goes on, and the same call again joins it."""
        tensors, _numbers = tensor_structs(specs)
        if seconds is None:
            self.check(self.lib.hf_set_layout(self._handle, tensors, len(specs)))
        else:
            wait = milliseconds(seconds)
            self.check(self.lib.hf_set_layout_within(self._handle, tensors, len(specs), wait))

    def expect_zero(self, indices: Sequence[int]) -> None:
        """Tensors of the layout in force that must be zero in a snapshot; else it is torn."""
        array = (ctypes.c_uint32 * max(1, len(indices)))(*indices)
        self.check(self.lib.hf_expect_zero(self._handle, array, len(indices)))

    def wait_ready(self, timeout: float) -> None:
        _in_slices(timeout, lambda ms: self.check(self.lib.hf_wait_ready(self._handle, ms)))

    def snapshot(self, step: int, capture: Capture) -> Begun:
        """Starts a snapshot."""
        items = capture.items
        state = (_native.StateItemStruct * max(1, len(items)))()
        for i, item in enumerate(items):
            name = item.name.encode()
            if isinstance(item.value, str):
                state[i] = _native.StateItemStruct(name, item.value.encode(), None, 0)
            else:
                state[i] = _native.StateItemStruct(name, None, item.value, len(item.value))
        begin = self._begin
        code = self.lib.hf_snapshot(
            self._handle, step, capture.address, capture.count, capture.strides.array,
            capture.strides.count, stream_structs(capture.streams), len(capture.streams),
            state, len(items), ctypes.byref(begin),
        )
        if code != 0:
            raise self._error(code)
        if not begin.started:
            return Begun(text(begin.reason) or "no reason given")
        return Begun(None, begin.bytes, begin.static_bytes)

    def not_constant(self) -> list[int]:
        """Indices of the tensors of the layout in force that were declared CONSTANT and were found
        written since they were copied: another layout is due."""
        count = ctypes.c_size_t()
        self.check(self.lib.hf_not_constant(self._handle, None, 0, ctypes.byref(count)))
        found = (ctypes.c_uint32 * max(1, count.value))()
        if count.value:
            self.check(
                self.lib.hf_not_constant(self._handle, found, count.value, ctypes.byref(count))
            )
        return list(found)[: count.value]

    def skip(self, step: int, reason: str) -> None:
        """There is no snapshot of this step, because no layout is in force: counted, reported."""
        self.check(self.lib.hf_skip(self._handle, step, reason.encode("utf-8", "replace")))

    def fence(self, streams: Streams = ()) -> None:
        """Raises TornError where the state was written during the copy (for state on GPUs: during
        one before).  streams: further ones that will write it."""
        code = self.lib.hf_fence(self._handle, stream_structs(streams), len(streams))
        if code != 0:
            raise self._error(code)
        if streams and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _NOTE_SECONDS
            self.tell_note(self.stats().note)

    def tell_note(self, note: str) -> None:
        """Once: that the GPU's copies are slow or checked less than asked, and why."""
        for reason in note.splitlines():
            if reason not in self._noted:
                self._noted.add(reason)
                _log.warning("%s", reason)

    def wait_sealed(self, step: int, timeout: float) -> None:
        _in_slices(timeout, lambda ms: self.check(self.lib.hf_wait_sealed(self._handle, step, ms)))

    def stats(self) -> Stats:
        raw = _native.StatsStruct()
        self.check(self.lib.hf_get_stats(self._handle, ctypes.byref(raw)))
        values = {field.name: getattr(raw, field.name) for field in dataclasses.fields(Stats)}
        values.update(
            connected=bool(raw.connected), fenced=bool(raw.fenced), note=raw.note.decode()
        )
        return Stats(**values)

    def why_away(self) -> str:
        """Why no daemon serves this client; empty where one does, or where it is fenced."""
        reason = ctypes.create_string_buffer(_REASON_BYTES)
        self.check(self.lib.hf_why_away(self._handle, reason, len(reason)))
        return text(reason.value)

    def restore_begin(
        self,
        step: int | None,
        include_discarded: bool,
        after_attempt: int,
        timeout: float,
        overwritten: bool = False,
    ) -> Restore:
        flags = _native.INCLUDE_DISCARDED * include_discarded + _native.OVERWRITTEN * overwritten
        named = -1 if step is None else step
        return self.calls.make(lambda: self._restore_begin(named, flags, after_attempt, timeout))

    def _restore_begin(
        self, named_step: int, flags: int, after_attempt: int, timeout: float
    ) -> Restore:
        handle = ctypes.c_void_p()
        raw = _native.ChoiceStruct()
        self.check(
            self.lib.hf_restore_begin(
                self._handle,
                named_step,
                flags,
                after_attempt,
                milliseconds(timeout),
                ctypes.byref(handle),
                ctypes.byref(raw),
            )
        )
        choice = Choice(
            attempt=raw.attempt,
            incarnation=raw.incarnation,
            step=raw.step if raw.has_choice else None,
            source=text(raw.source) if raw.has_choice else "",
            log=tuple(text(raw.log).splitlines()),
        )
        return Restore(self, handle, choice)

    def drain(self, timeout: float) -> Drained:
        return self.calls.make(lambda: self._drain(timeout))

    def _drain(self, timeout: float) -> Drained:
        raw = _native.DrainedStruct()
        self.check(self.lib.hf_drain(self._handle, milliseconds(timeout), ctypes.byref(raw)))
        return Drained(raw.incarnation, raw.step, bool(raw.durable), text(raw.reason))

    def flush_progress(self) -> list[Flushing]:
        """How far the way to each persistent folder is; for another thread than drain()'s."""
        return self.calls.count(self._flush_progress)

    def _flush_progress(self) -> list[Flushing]:
        raw = (_native.FlushingStruct * _MOST_TIERS)()
        count = ctypes.c_uint32()
        self.check(
            self.lib.hf_flush_progress(self._handle, raw, _MOST_TIERS, ctypes.byref(count))
        )
        return [
            Flushing(
                text(t.root), t.incarnation, t.step, t.bytes, t.done_bytes, text(t.last_error)
            )
            for t in raw[: min(count.value, _MOST_TIERS)]
        ]

    def finish(self) -> int:
        freed = ctypes.c_uint64()
        self.check(self.lib.hf_finish(self._handle, ctypes.byref(freed)))
        return int(freed.value)


__all__ = [
    "Begun", "Capture", "Choice", "Client", "Drained", "Incarnation", "NativeStrides", "Restore",
    "StateItem", "Stats", "TensorSpec",
]
