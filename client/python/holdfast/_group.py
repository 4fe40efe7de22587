"""The ranks of one job, and the little that they must agree on.

It uses the job's own process group: collectives never see what an earlier start of the job left
behind, as keys of a rendezvous store would.
"""

from __future__ import annotations

import os

import torch
import torch.distributed as dist

from holdfast.errors import InvalidArgumentError

_TEXT_BYTES = 4096


class Group:
    """This process's rank and world size.  All calls are collective."""

    def __init__(self, rank: int | None = None, world_size: int | None = None) -> None:
        if (rank is None) != (world_size is None):
            raise InvalidArgumentError("rank and world_size go together")
        self._distributed = dist.is_available() and dist.is_initialized()
        if self._distributed:
            self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        else:
            self.rank, self.world_size = rank or 0, world_size or 1
        if self._distributed and rank is not None:
            if (rank, world_size) != (self.rank, self.world_size):
                raise InvalidArgumentError(
                    f"rank {rank} of {world_size} was given, but torch.distributed says rank "
                    f"{self.rank} of {self.world_size}"
                )
        launched = int(os.environ.get("WORLD_SIZE", "1"))
        if self.world_size == 1 and launched > 1 and not self._distributed:
            raise InvalidArgumentError(
                f"WORLD_SIZE is {launched} but torch.distributed is not initialised: call "
                "init_process_group before making the Checkpointer"
            )
        if self.world_size > 1 and not self._distributed:
            raise InvalidArgumentError("more than one rank needs torch.distributed initialised")

    def _device(self) -> torch.device:
        """Where the group's backends take tensors from."""
        # Not by the backend's name: init_process_group() without one, as init_device_mesh calls it,
        # is "undefined" to torch and serves the machine's accelerator alone.
        kinds = {device.type for device in getattr(dist.group.WORLD, "_device_types", ())}
        if not kinds:  # a torch that does not say
            kinds = {"cuda" if str(dist.get_backend()) == "nccl" else "cpu"}
        if "cpu" in kinds:
            return torch.device("cpu")
        return torch.device("cuda", torch.cuda.current_device())

    def gather(self, mine: bytes) -> list[bytes]:
        """What each rank gave, in order of rank: of one length on all of them."""
        if self.world_size == 1:
            return [mine]
        tensor = torch.frombuffer(bytearray(mine), dtype=torch.uint8).to(self._device())
        everybodys = [torch.empty_like(tensor) for _ in range(self.world_size)]
        dist.all_gather(everybodys, tensor)
        return [bytes(each.cpu().tolist()) for each in everybodys]

    def broadcast(self, text: str, source: int = 0) -> str:
        """The text of rank "source" on all ranks; cut at 4 KiB."""
        if self.world_size == 1:
            return text
        raw = bytearray(text.encode()[:_TEXT_BYTES].ljust(_TEXT_BYTES, b"\0"))
        tensor = torch.frombuffer(raw, dtype=torch.uint8).to(self._device())
        dist.broadcast(tensor, src=source)
        return bytes(tensor.cpu().tolist()).rstrip(b"\0").decode("utf-8", "ignore")
