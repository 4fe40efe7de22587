"""The stage of the others: the same training, saved to memory by what torch has, every step."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import logging
import pathlib
import shutil
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed.checkpoint.state_dict_loader as loader
import torch.distributed.checkpoint.state_dict_saver as saver
from report import Reach, Row, compared

from blocks import Way, run_block
from device import Device
from gpt import KEPT_FREE
from model import Batch, Training
from reference import Reference, verdict
from settings import Stage, skipped


class Peer(Way):
    """Saves to one path, over and over."""

    warm_up = 0

    def __init__(self, training: Training, path: pathlib.Path) -> None:
        self.training = training
        self.path = path

    def state(self) -> dict[str, Any]:
        return {"model": self.training.model.state_dict(),
                "optimizer": self.training.optimizer.state_dict()}  # fmt: skip

    def after_update(self) -> None:
        super().after_update()
        self.save()

    def save(self) -> None:
        raise NotImplementedError

    def load(self) -> None:
        """Into the training's own tensors."""
        loader.load(self.state(), checkpoint_id=self.path, no_dist=True)

    def close(self) -> None:
        if self.path.is_dir():
            shutil.rmtree(self.path)
        else:
            self.path.unlink(missing_ok=True)


class TorchSave(Peer):
    name = "torch.save"

    def save(self) -> None:
        torch.save(self.state(), self.path)

    def load(self) -> None:
        found = torch.load(self.path, map_location=self.training.device.torch, weights_only=True)
        self.training.model.load_state_dict(found["model"])
        self.training.optimizer.load_state_dict(found["optimizer"])


class DcpSave(Peer):
    name = "DCP save"

    def save(self) -> None:
        saver.save(self.state(), checkpoint_id=self.path, no_dist=True)


class DcpAsync(Peer):
    """A save waits for the one before; an update waits for the staging, where that is told."""

    name = "DCP async_save"
    warm_up = 1

    def __init__(self, training: Training, path: pathlib.Path) -> None:
        super().__init__(training, path)
        self._staged: Any = None
        self._written: Any = None
        self.options: dict[str, Any] = {}

    def before_update(self) -> None:
        super().before_update()
        if self._staged is not None:
            self._staged.result()
            self._staged = None

    def save(self) -> None:
        self.end()
        answer: Any = saver.async_save(
            self.state(), checkpoint_id=self.path, no_dist=True, **self.options
        )
        self._staged = getattr(answer, "staging_completion", None)
        self._written = getattr(answer, "upload_completion", answer)

    def end(self) -> None:
        if self._written is not None:
            self._written.result()
            self._written = None


class DcpPinned(DcpAsync):
    name = "DCP async_save, pinned staging"

    def __init__(self, training: Training, path: pathlib.Path) -> None:
        super().__init__(training, path)
        from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

        self._stager = DefaultStager(StagingOptions())
        self.options = {"async_stager": self._stager}

    def close(self) -> None:
        self._stager.close()
        super().close()


class DataStates(Peer):
    """DataStates-LLM, where whoever runs the bench has installed it.  Its wait() before the update is
    the fence that its own training loop has."""

    name = "DataStates-LLM"
    module = "datastates"
    warm_up = 1

    def __init__(self, training: Training, path: pathlib.Path) -> None:
        super().__init__(training, path)
        gigabytes = -(-training.bytes() * 5 // 4 >> 30)
        self._engine = self._engine_class()({"host_cache_size": gigabytes}, 0)

    @classmethod
    def missing(cls) -> bool:
        return importlib.util.find_spec(cls.module) is None

    @staticmethod
    def _engine_class() -> Any:
        """By the names that its versions have had."""
        for module, name in (("datastates.llm", "Checkpointing"), ("datastates", "CheckpointEngine")):
            try:
                return getattr(importlib.import_module(module), name)
            except (ImportError, AttributeError):
                continue
        raise ImportError("datastates has neither llm.Checkpointing nor CheckpointEngine")

    def before_update(self) -> None:
        super().before_update()
        self._engine.wait()

    def save(self) -> None:
        self._engine.save(self.state(), str(self.path))

    def end(self) -> None:
        waits = inspect.signature(self._engine.wait).parameters
        self._engine.wait(*[True] * len(waits))  # persist: until the file is written

    def load(self) -> None:
        found = self._engine.load(str(self.path))
        self.training.model.load_state_dict(found["model"])
        self.training.optimizer.load_state_dict(found["optimizer"])


class Peers:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.sizes = stage.sizes
        self.device = Device(stage.settings.device)
        self.training = Training(self.sizes, self.device)
        self.training.iterate()
        self.bytes = self.training.bytes()
        facts = stage.facts()
        if "slow_batch" in facts:
            self.training.batch = Batch(*facts["slow_batch"])
        else:
            self.training.calibrate(self.sizes.slow_ms, KEPT_FREE)
        buffer = self.device.host_buffer(Reference.size(self.training.state()))
        self.reference = Reference(self.device, buffer)
        self.none = run_block(self.training, Way(), 5, 2).mean()
        stage.say(f"  without a save: {self.none:.1f} ms")

    def measure(self, kind: Callable[[Training, pathlib.Path], Peer], name: str) -> None:
        """A peer that fails is shown with its reason; it is no failure of this run."""
        try:
            peer = kind(self.training, pathlib.Path(self.stage.settings.memory) / "peer")
            try:
                self._measure(peer)
            finally:
                peer.close()
        except (Exception, SystemExit) as error:  # one of them ends the process on an error
            text = str(error).strip().splitlines() or [""]
            self.stage.add(Row(f"{name} every step", "", reach="failed",
                               note=f"{type(error).__name__}: {text[0][:200]}"))  # fmt: skip

    def _measure(self, peer: Peer) -> None:
        def go_on() -> None:
            self.reference.take(self.training.state(), 0)
            if isinstance(peer, (DcpAsync, DataStates)):
                self.training.iterate(peer.before_update)

        block = run_block(
            self.training, peer, self.sizes.peer_iterations, peer.warm_up, go_on
        )  # fmt: skip
        self.training.destroy()
        self.device.sync()
        began = time.perf_counter()
        peer.load()
        self.device.sync()
        took = time.perf_counter() - began
        found = self.reference.differences(self.training.state())
        ms = block.mean()
        self.stage.add(
            Row(f"{peer.name} every step", "ms", ms, self.none, ms / self.none,
                note=f"peer; iteration of {self.none:.0f} ms; {verdict(found)}; "
                f"loaded in {took:.2f} s"),
        )  # fmt: skip
        ours = self.stage.facts().get("restore_gbs")
        if isinstance(peer, TorchSave) and ours is not None:
            self.stage.add(
                compared("restore against torch.load and load_state_dict", "GB/s", [ours],
                         [self.bytes / took / 1e9], Reach("ratio", least=15.0),
                         "peer: from the same memory"),
            )  # fmt: skip


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    stage = Stage.of_arguments()
    peers = Peers(stage)
    kinds: list[type[Peer]] = [TorchSave, DcpSave, DcpAsync, DcpPinned, DataStates]
    for kind in kinds:
        if kind is DataStates and DataStates.missing():
            stage.add(Row(f"{kind.name} every step", "", reach="not installed",
                          note=f"peer; there is no module {DataStates.module}"))  # fmt: skip
            continue
        if kind in (DcpPinned, DataStates) and not stage.settings.cuda:
            what = "pinned staging" if kind is DcpPinned else kind.name
            stage.add(skipped(f"{kind.name} every step", f"{what} needs a GPU"))
            continue
        if stage.left() < 20:
            stage.add(Row(f"{kind.name} every step", "", reach="skipped", note="no time was left"))
            continue
        peers.measure(kind, kind.name)


if __name__ == "__main__":
    main()
