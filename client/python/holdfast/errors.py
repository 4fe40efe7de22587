"""What can go wrong, by what the caller can do next.

Every failure of the native library arrives as one of these, with its one-line message: what was
wrong, where, and what to do.  All derive from HoldfastError; where Python has a fitting built-in
(TimeoutError, PermissionError), the class is that too.
"""

from __future__ import annotations


class HoldfastError(RuntimeError):
    """Base of all errors of this package."""


class InvalidArgumentError(HoldfastError):
    """The call is wrong; repeating it cannot help."""


class NotFoundError(HoldfastError):
    """No snapshot, job or file of that name exists, or it cannot be had any more."""


class AlreadyExistsError(HoldfastError):
    """The name is taken by something else, such as another trainer with this job and rank."""


class CorruptionError(HoldfastError):
    """Bytes do not match their digest.  They were not handed on."""


class InputOutputError(HoldfastError):
    """The system refused a call."""


class NoSpaceError(HoldfastError):
    """Memory budget or disk is exhausted; the message has the numbers."""


class UnavailableError(HoldfastError):
    """The daemon is away, busy or starting: try again later."""


class DeadlineError(HoldfastError, TimeoutError):
    """The time was up; the outcome is unknown."""


class CancelledError(HoldfastError):
    """The wait was given up because of a shutdown."""


class FencedError(HoldfastError):
    """A newer start of this job exists: this process must stop training, not retry."""


class AbandonedError(HoldfastError):
    """That snapshot is given up for good (some rank missed it); later ones are not affected."""


class VersionMismatchError(HoldfastError):
    """The library, the daemon or a file is of another version."""


class PermissionDeniedError(HoldfastError, PermissionError):
    """This user or path may not do that."""


class InternalError(HoldfastError):
    """A bug in Holdfast."""


class TornError(HoldfastError):
    """State was written while it was copied.  fence() turns it into a TornSnapshotWarning."""


class ForkedError(HoldfastError):
    """This process is a fork of the one that made the Checkpointer."""


class StateError(HoldfastError):
    """Something in the training state cannot be saved; the message names it."""


class StateMismatchError(HoldfastError):
    """The snapshot does not fit the model, optimizer or extra objects given; says how."""


class LibraryNotFoundError(HoldfastError):
    """The native library or a program was not found or cannot be loaded."""


class TornSnapshotWarning(RuntimeWarning):
    """A snapshot was given up because something wrote to the state before the fence."""


#: hf_code of holdfast/types.h -> class.
_BY_CODE: dict[int, type[HoldfastError]] = {
    1: InvalidArgumentError,
    2: NotFoundError,
    3: AlreadyExistsError,
    4: CorruptionError,
    5: InputOutputError,
    6: NoSpaceError,
    7: UnavailableError,
    8: DeadlineError,
    9: CancelledError,
    10: FencedError,
    11: AbandonedError,
    12: VersionMismatchError,
    13: PermissionDeniedError,
    14: InternalError,
    100: TornError,
    101: ForkedError,
}


def error_of(code: int, message: str) -> HoldfastError:
    """The exception for a code of the native library (never for 0)."""
    return _BY_CODE.get(code, InternalError)(message)
