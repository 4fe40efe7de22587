"""Objects of the user's with a state of their own: what they must have, and how it is read."""

from __future__ import annotations

from typing import Any

import torch

from holdfast.errors import StateError


def check_extra(key: str, value: Any) -> None:
    if not isinstance(key, str) or "." in key:
        raise StateError(f"extra: the name {key!r} must be a string without dots")
    has_methods = hasattr(value, "state_dict") and hasattr(value, "load_state_dict")
    if not (has_methods or isinstance(value, torch.Generator)):
        raise StateError(
            f"extra {key!r} is a {type(value).__name__} without state_dict() and load_state_dict()"
        )


def extra_state(value: Any) -> Any:
    return value.get_state() if isinstance(value, torch.Generator) else value.state_dict()


def load_extra_state(value: Any, state: Any) -> None:
    if isinstance(value, torch.Generator):
        value.set_state(state)
    else:
        value.load_state_dict(state)


__all__ = ["check_extra", "extra_state", "load_extra_state"]
