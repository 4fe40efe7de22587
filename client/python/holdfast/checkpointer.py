"""Checkpointer: snapshots of one training process, and their way back.

Threads: use it from the thread that trains.
Signals: their handlers run while restore(), wait(), drain() and close() wait for the daemon; what one
raises (KeyboardInterrupt) ends the wait.  Tensors that restore() reads are read to the end first.
Processes: every rank of a job makes one at the same point of the program, as with DDP.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import time
import types
import warnings
import weakref
from collections.abc import Sequence
from typing import Any


from holdfast import _daemon
from holdfast._attempts import Attempts, Wish
from holdfast._client import Client
from holdfast._derived import FLAG, Derived
from holdfast._devices import named_streams
from holdfast._drain import DrainProgress
from holdfast._group import Group
from holdfast._nodes import meet
from holdfast._registration import Registration
from holdfast._results import Restored, SnapshotResult
from holdfast._frozen import Frozen
from holdfast._skips import Skips, restarter
from holdfast._state import TrainingState
from holdfast._tiers import Tier, tiers_of, warn_of_missing
from holdfast._values import Drained, Incarnation, Stats
from holdfast.errors import ForkedError, HoldfastError, InputOutputError
from holdfast.errors import TornError, TornSnapshotWarning, UnavailableError, error_of

_log = logging.getLogger("holdfast")
Persist = str | os.PathLike[str] | Tier
_open: "weakref.WeakSet[Checkpointer]" = weakref.WeakSet()


class Checkpointer:
    """Keeps the state of a training job.

        ckpt = holdfast.Checkpointer("my-job", model=model, optimizer=opt, persist="/checkpoints")
        step = ckpt.restore()
        for step in range(step + 1, n + 1):
            train_one_step()
            ckpt.snapshot(step)
        ckpt.close()

    model, optimizer: one, or a dict of several by name.  extra: an object with state_dict() and
    load_state_dict() (scheduler, GradScaler, data loader) or a torch.Generator, or a dict of such;
    load_state_dict() gets the tensors of its state in host memory, wherever they were saved from.
    persist: folder for durable snapshots, or Tier objects; persist_every (steps), persist_seconds,
    keep_last and keep_every are for a folder given by its path.
    socket: of the daemon; else $HOLDFAST_SOCKET, else this user's own daemon, which is started if
    none answers (autostart).
    auto_fence: put the fence before optimizer.step() by its pre-hook.  With step(closure) the hook
    fires before forward and backward: switch it off there and call fence() before the update.
    allow_pickle: save and load what JSON and tensors cannot express.
    frozen: tensors that training never writes: copied once, shared by all snapshots.  "auto":
    parameters that need no gradient and that no optimizer has; a list of names (of tensors, or of
    modules with all that is in them) adds to these; False: none.  A sample of them is compared at
    every snapshot: one that was written after all is saved like all others from then on.
    derived: pairs (tensor, source) where the tensor is source.to(tensor.dtype) after each update, as
    bf16 parameters of their fp32 masters: not saved, made again at restore, bit for bit.  A sample is
    compared at every snapshot: a tensor that differs is saved like all others from then on.
    copy_threads: threads that copy and digest (0: one, or as many as keep up with a GPU).
    verify_every: for state on GPUs: digest it on the device at every so many snapshots, and compare
    with what arrived (0: compare a sample only, as at every snapshot).
    staging_percent: for state on GPUs: how much of the device memory that is free above a reserve of
    5 % a snapshot may take where the update comes before its copies are done (0: none, it waits).
    gather_bytes: for state on GPUs: most that is copied at once on each device, in bytes: buffers and
    tensors up to 64 KiB (0: 64 MiB).  More than that raises NoSpaceError.
    slots: snapshots that the daemon keeps room for in memory (0: its default).
    take_over: start although another process still trains this job on this node, and fence it; else
    the start waits for its end, and is refused (AlreadyExistsError) if it lives on.
    timeout: seconds for the connection and for requests that the daemon answers at once.
    """

    def __init__(
        self,
        job: str,
        *,
        model: Any = None,
        optimizer: Any = None,
        extra: Any = None,
        persist: Persist | Sequence[Persist] | None = None,
        persist_every: int = 0,
        persist_seconds: int = 0,
        keep_last: int = 2,
        keep_every: int = 0,
        socket: str | os.PathLike[str] | None = None,
        autostart: bool = True,
        auto_fence: bool = True,
        save_rng: bool = True,
        allow_pickle: bool = False,
        frozen: Frozen = "auto",
        derived: Derived = (),
        rank: int | None = None,
        world_size: int | None = None,
        take_over: bool = False,
        slots: int = 0,
        copy_threads: int = 0,
        verify_every: int = 0,
        staging_percent: int = 50,
        gather_bytes: int = 0,
        timeout: float = 30.0,
    ) -> None:
        self.job = job
        self.restored: Restored | None = None
        self._pid = os.getpid()
        self._copying = False
        self._warned_torn = False
        self._restored = False  # a restore was asked for: the daemon has heard of this rank
        self._unregistered = ""  # why the last snapshot was skipped before it was begun
        self._threads = copy_threads
        self._hooks: list[Any] = []
        self._client: Client | None = None
        self._group = Group(rank, world_size)
        self._state = TrainingState(
            model, optimizer, extra, save_rng, allow_pickle, self._group.rank, frozen, derived
        )
        self._state.entries()  # refuse what cannot be saved before anything is connected
        self._tiers = tiers_of(persist, persist_every, persist_seconds, keep_last, keep_every)
        self._client = _daemon.connect(
            lambda path, seconds: Client(
                path, seconds, slots, copy_threads, timeout, verify_every, staging_percent,
                gather_bytes,
            ),
            socket,
            autostart,
            timeout,
        )
        self._registration = Registration(self._client, self._state)
        try:
            meet(self._client, self._group, job, self._tiers)
            self.incarnation = self._open_incarnation(take_over)
            self._client.join(job, self.incarnation, self._group.rank, self._group.world_size)
        except BaseException:
            self._drop()
            raise
        self._skips = Skips(restarter(self._client, socket, autostart))
        if self._group.rank == 0:
            warn_of_missing(self._tiers)
        if auto_fence:
            for each in self._state.optimizers.values():
                self._hooks.append(each.register_step_pre_hook(self._before_step))
        _open.add(self)

    # ---- life ----

    def _open_incarnation(self, take_over: bool) -> Incarnation:
        """Rank 0 opens it and hands it to all; its failure is everybody's."""
        message = ""
        if self._group.rank == 0:
            try:
                made = self._connected().open_incarnation(
                    self.job, self._group.world_size, self._tiers, take_over
                )
                message = json.dumps([made.job_uid.hex(), made.number, made.token])
            except HoldfastError as error:
                if self._group.world_size == 1:
                    raise
                self._group.broadcast(json.dumps({"error": str(error)[:600]}))
                raise
        answer = json.loads(self._group.broadcast(message))
        if isinstance(answer, dict):
            raise UnavailableError(f"rank 0 could not start the job: {answer['error']}")
        return Incarnation(bytes.fromhex(answer[0]), answer[1], answer[2])

    def _connected(self) -> Client:
        if self._client is None:
            raise error_of(1, "this Checkpointer is closed")
        if os.getpid() != self._pid:
            raise ForkedError("this process is a fork of the one that made the Checkpointer")
        return self._client

    def close(self, *, drain: bool = True, timeout: float = 600.0) -> None:
        """Waits until the last snapshot is durable (complete, without a persistent folder), then
        drops the connection.  Raises where that cannot be had, with the connection dropped too.
        May be called again."""
        if self._client is None or os.getpid() != self._pid:
            return
        try:
            if drain:
                self.drain(timeout)
        finally:
            self._drop()

    def _drop(self) -> None:
        client, self._client = self._client, None
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        if client is not None:
            client.close()  # waits for copies under way: only then may the memory go
        self._registration.forget()
        _open.discard(self)

    def __del__(self) -> None:
        # A copy under way reads the memory that this object holds: all of it is still there now, also
        # where the object goes as part of a cycle, and must be until the copy has ended.
        if getattr(self, "_client", None) is not None and os.getpid() == self._pid:
            self._drop()

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        # A failing training must not hang in a drain before its error is seen.
        self.close(drain=kind is None)

    # ---- snapshot and fence ----

    def snapshot(self, step: int) -> SnapshotResult:
        """Starts a snapshot of the state as it is now, and returns at once.  Where there is no
        room, or no daemon, it is skipped; the next one tries again.

        Call it after the optimizer, the scaler and the scheduler have stepped and before the next
        batch is fetched.  Raises FencedError when a newer start of the job exists.
        """
        client = self._connected()
        if self._copying:
            self.fence()
        try:
            capture = self._registration.capture()
        except HoldfastError as error:
            if not self._registration.may_pass(error):
                raise
            return self._skip(client, step, str(error))
        self._unregistered = ""
        begun = client.snapshot(step, capture)
        self._copying = begun.skipped is None
        if begun.skipped is not None:
            self._registration.release()
            self._skips.skipped(step, begun.skipped)
            return SnapshotResult(step, True, begun.skipped)
        self._skips.begun()
        return SnapshotResult(step, False, "", begun.bytes, begun.static_bytes)

    def _skip(self, client: Client, step: int, reason: str) -> SnapshotResult:
        """No layout is in force: the next snapshot tries again."""
        client.skip(step, reason)
        self._registration.release()
        self._skips.skipped(step, reason, at_once=True)
        self._unregistered = reason
        return SnapshotResult(step, True, reason)

    def fence(self, streams: Sequence[Any] = ()) -> None:
        """Call before anything but optimizer.step() writes to parameters or optimizer state.
        Returns at once where no copy is under way.

        For state on GPUs the current stream of each device waits on the device, and so do
        "streams" (torch.cuda.Stream): those on which the writer works, if it is another.
        """
        if not self._copying:
            return
        client = self._connected()
        try:
            client.fence(self._registration.streams() + named_streams(streams))
        except TornError as error:
            if self._registration.thaw():
                warnings.warn(
                    f"{error}. That snapshot is given up and training goes on; these tensors are "
                    "saved with every snapshot from now on. Name only what is never written in "
                    "frozen=[...], or switch it off by frozen=False.",
                    TornSnapshotWarning,
                    stacklevel=2,
                )
            elif FLAG in str(error):
                pass  # the next snapshot finds out which tensors, and says so
            elif not self._warned_torn:
                self._warned_torn = True
                warnings.warn(
                    f"{error}. That snapshot is given up and training goes on; call "
                    "ckpt.fence() before the code that writes there. Shown once; see "
                    "ckpt.stats.torn.",
                    TornSnapshotWarning,
                    stacklevel=2,
                )
        except InputOutputError as error:
            # The copy failed: one snapshot less, counted, and no reason to stop training.
            _log.warning("a snapshot failed: %s", error)
        finally:
            self._copying = False
            self._registration.release()

    def _before_step(self, optimizer: Any, arguments: Any, keywords: Any) -> None:
        if self._copying and os.getpid() == self._pid:
            self.fence()

    def prepare(self, timeout: float = 60.0) -> None:
        """Registers the state as it is now and waits until the daemon has memory for it: without
        it the first snapshots may be skipped while that is being made ready."""
        self.fence()
        deadline = time.monotonic() + timeout
        client = self._connected()
        self._registration.register(timeout)
        client.wait_ready(max(0.001, deadline - time.monotonic()))

    def wait(self, step: int, timeout: float = 60.0) -> None:
        """Waits until the snapshot of "step" on this rank is sealed, or raises AbandonedError."""
        self._connected().wait_sealed(step, timeout)

    # ---- restore ----

    def restore(
        self,
        step: int | None = None,
        *,
        include_discarded: bool = False,
        timeout: float = 600.0,
    ) -> int:
        """Loads the newest snapshot that every rank can get back; its step, or 0 where there is
        none.  With "step" that one, and newer ones are put aside for good.

        timeout: seconds.  A little before they are over, all ranks get a DeadlineError that says
        which shards are missing and which nodes had them.

        Raises StateMismatchError on all ranks where the snapshot does not fit the objects of one of
        them.  Nothing is written to the objects of that rank; those of others may be loaded already:
        make them anew before training from the start.  NotFoundError where the named step cannot be
        had.
        """
        self.fence()
        client = self._connected()
        # Also where there is nothing to load; and what is gathered would keep the values from before.
        self._state.sharded.reshard()
        wish = Wish(step, include_discarded, time.monotonic() + timeout)
        self._restored = True
        attempts = Attempts(client, self._state, self._threads)
        choice, loader = attempts.run(wish)
        if choice.step is not None and loader is not None:
            self.restored = Restored(choice.incarnation, choice.step, choice.source, choice.log)
            _log.info("restored step %d from %s", choice.step, choice.source)
            try:
                self._registration.begin()
            except UnavailableError as error:
                _log.warning("the layout is registered by a later snapshot: %s", error)
            loader.load_rng()
        return choice.step or 0

    # ---- the rest ----

    def drain(self, timeout: float = 600.0) -> Drained:
        """Waits until the newest snapshot is durable in every persistent folder of the job
        (complete, where it has none).  Raises UnavailableError where it is not; warns where a
        newer one was begun and given up.  On a terminal, rank 0 shows how far that is."""
        self.fence()
        client = self._connected()
        if not (self._restored or self._registration.admitted):
            if self._unregistered:
                raise UnavailableError(f"nothing was saved: {self._unregistered}")
            return Drained(self.incarnation.number, -1, True, "nothing was saved")
        with DrainProgress(self.job, client.flush_progress, wanted=self._group.rank == 0):
            drained = client.drain(timeout)
        if drained.step >= 0 and not drained.durable and self._tiers:
            raise UnavailableError(f"step {drained.step} is not durable: {drained.reason}")
        begun, how = client.stats().last_begun_step, "durable" if self._tiers else "complete"
        self._skips.warn_of_newer(begun, self.incarnation.number, drained, how)
        return drained

    def finish(self) -> int:
        """Releases the job's memory on this node; durable snapshots stay.  Bytes freed."""
        self.fence()
        return self._connected().finish()

    @property
    def stats(self) -> Stats:
        """Counters of this process."""
        return self._connected().stats()


@atexit.register
def _drop_all() -> None:
    """Ends the copy threads before the interpreter's memory goes.  Drains nothing: a program that
    ends without close() must not hang here."""
    for checkpointer in list(_open):
        if checkpointer._pid == os.getpid():
            checkpointer._drop()


__all__ = ["Checkpointer", "Restored", "SnapshotResult"]
