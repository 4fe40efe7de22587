"""Holdfast keeps the training state of large models alive.  Start at Checkpointer."""

from holdfast._tiers import Tier
from holdfast._values import Drained, Stats
from holdfast._version import __version__
from holdfast.checkpointer import Checkpointer, Restored, SnapshotResult
from holdfast.errors import (
    AbandonedError,
    AlreadyExistsError,
    CancelledError,
    CorruptionError,
    DeadlineError,
    FencedError,
    ForkedError,
    HoldfastError,
    InputOutputError,
    InternalError,
    InvalidArgumentError,
    LibraryNotFoundError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    StateError,
    StateMismatchError,
    TornError,
    TornSnapshotWarning,
    UnavailableError,
    VersionMismatchError,
)


def arm_failpoints(specification: str) -> None:
    """Makes this process fail at named places; for tests and demonstrations."""
    from holdfast._native import library
    from holdfast.errors import error_of

    code = library().hf_arm_failpoints(specification.encode())
    if code != 0:
        raise error_of(code, (library().hf_last_error() or b"").decode("utf-8", "replace"))


__all__ = [
    "AbandonedError", "AlreadyExistsError", "CancelledError", "Checkpointer", "CorruptionError",
    "DeadlineError", "Drained", "FencedError", "ForkedError", "HoldfastError", "InputOutputError",
    "InternalError", "InvalidArgumentError", "LibraryNotFoundError", "NoSpaceError",
    "NotFoundError", "PermissionDeniedError", "Restored", "SnapshotResult", "StateError",
    "StateMismatchError", "Stats", "Tier", "TornError", "TornSnapshotWarning", "UnavailableError",
    "VersionMismatchError", "__version__", "arm_failpoints",
]
