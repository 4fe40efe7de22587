"""The nodes of a job: each rank tells all others who serves it, before the job starts."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from holdfast._client import Client
from holdfast._group import Group
from holdfast._native import CardStruct
from holdfast._tiers import Tier
from holdfast.errors import HoldfastError, UnavailableError

_CARD_BYTES = ctypes.sizeof(CardStruct)
_OK, _FAILED = b"\0", b"\1"


def meet(client: Client, group: Group, job: str, tiers: Sequence[Tier]) -> None:
    """Collective.  A rank that cannot ask its own daemon is an error on all ranks: the others would
    wait for it in the next collective, which it never reaches."""
    if group.world_size == 1:
        return
    failure: HoldfastError | None = None
    try:
        mine = _OK + client.make_card(job)
    except HoldfastError as error:
        failure = error
        mine = _FAILED + str(error).encode()[:_CARD_BYTES]
    everybodys = group.gather(mine.ljust(1 + _CARD_BYTES, b"\0"))
    if failure is not None:
        raise failure
    for rank, theirs in enumerate(everybodys):
        if theirs[:1] != _OK:
            why = theirs[1:].rstrip(b"\0").decode("utf-8", "ignore")
            raise UnavailableError(f"rank {rank} cannot start: {why}")
    client.set_nodes([theirs[1:] for theirs in everybodys], tiers)


__all__ = ["meet"]
