"""What a Checkpointer answers."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class SnapshotResult:
    """What snapshot() did; true when it started.  A skipped one is no error: "reason" says why.
    bytes: of the tensors that it copies.  static_bytes: of the frozen ones, which only the first
    snapshot of their layout copies and all later ones share."""

    step: int
    skipped: bool
    reason: str = ""
    bytes: int = 0
    static_bytes: int = 0

    def __bool__(self) -> bool:
        return not self.skipped


@dataclasses.dataclass(frozen=True)
class Restored:
    """What restore() loaded.  log: newer snapshots that could not be had, each with the reason."""

    incarnation: int
    step: int
    source: str
    log: tuple[str, ...]
