"""What the state of a training process is: models, optimizers, extra objects, random numbers.

Names.  Tensors of the model are named as in its state_dict (DDP's and torch.compile's wrappers do
not count), optimizer state by the name of its parameter:

  transformer.h.0.weight                      model={"gen": g}: gen.transformer.h.0.weight
  optimizer.state.transformer.h.0.weight.exp_avg          optimizer={"a": o}: optimizer.a.state...
  extra.loader.cursor, rng.torch              tensors inside non-tensor state

Parameters and optimizer tensors are written by the optimizer's update only (STABLE); what forward
or the user's code may write at any time is STAGED, copied inside snapshot().  What nobody writes is
frozen (CONSTANT), copied once: parameters that need no gradient and that no optimizer has.  Casts of
other tensors that the user named as such have no entry at all (_derived.py).
"""

from __future__ import annotations

import array
import functools
import hashlib
import json
import operator
import random
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from holdfast._derived import Derived, DerivedTensors
from holdfast._encoding import Encoder
from holdfast._extra import check_extra, extra_state
from holdfast._frozen import Frozen, FrozenTensors
from holdfast._sharded import ShardedModules
from holdfast._tensors import STABLE, STAGED, Entry, LayoutChanged, check_tensor, entry
from holdfast._values import StateItem
from holdfast.errors import StateError

FORMAT = 1
#: One item of more than this many bytes of JSON travels as a tensor...
MAX_ITEM_BYTES = 1 << 20
#: ... and so do smaller ones where all have more than this; a sidecar holds 16 MiB.
MAX_STATE_BYTES = 8 << 20


def _named(given: Any, kind: type, what: str) -> dict[str, Any]:
    """{"": the one} or the dict given, checked."""
    if given is None:
        return {}
    if not isinstance(given, Mapping) or isinstance(given, kind):
        given = {"": given}
    for key, value in given.items():
        if not isinstance(value, kind):
            raise StateError(f"{what} {key!r} is a {type(value).__name__}, not a {kind.__name__}")
        if not isinstance(key, str) or "." in key:
            raise StateError(f"{what}: the name {key!r} must be a string without dots")
    return dict(given)


def dotted(*parts: str) -> str:
    return ".".join(part for part in parts if part)


def unwrap(module: torch.nn.Module) -> tuple[torch.nn.Module, bool]:
    """The user's own module inside DDP and torch.compile, and whether DDP replicates it."""
    replicated = False
    while True:
        name = type(module).__name__
        if isinstance(module, torch.nn.parallel.DistributedDataParallel):
            module, replicated = module.module, True
        elif name == "OptimizedModule" and isinstance(
            getattr(module, "_orig_mod", None), torch.nn.Module
        ):
            module = module._orig_mod  # type: ignore[assignment]
        elif name == "FullyShardedDataParallel":
            raise StateError(
                "the model is wrapped in FullyShardedDataParallel, whose flat parameters cannot be "
                "saved: use fully_shard (FSDP2) or DDP with this version"
            )
        else:
            return module, replicated


class TrainingState:
    """The objects that make up the state, and how to read them.

    entries() is the slow, full look; values() is for each snapshot.  unchanged() tells cheaply
    whether entries() would still find the same places.
    """

    def __init__(
        self,
        model: Any,
        optimizer: Any,
        extra: Any,
        save_rng: bool,
        allow_pickle: bool,
        rank: int,
        frozen: Frozen = "auto",
        derived: Derived = (),
    ) -> None:
        self.modules: dict[str, torch.nn.Module] = {}
        self._replicated: dict[str, bool] = {}
        for key, module in _named(model, torch.nn.Module, "model").items():
            self.modules[key], self._replicated[key] = unwrap(module)
        self.optimizers: dict[str, torch.optim.Optimizer] = _named(
            optimizer, torch.optim.Optimizer, "optimizer"
        )
        for optimizer in self.optimizers.values():
            if type(optimizer).__name__ == "ZeroRedundancyOptimizer":
                raise StateError(
                    "ZeroRedundancyOptimizer shards its state, which this version cannot save"
                )
        single = extra is not None and not isinstance(extra, Mapping)
        self.extra: dict[str, Any] = {"": extra} if single else dict(extra or {})
        for key, value in self.extra.items():
            check_extra(key, value)
        self.save_rng = save_rng
        self.allow_pickle = allow_pickle
        self._rank = rank
        self._frozen = FrozenTensors(frozen)
        self.derived = DerivedTensors(derived)
        self.sharded = ShardedModules()
        # What unchanged() compares; filled by entries().
        self._lengths: tuple[list[Any], list[int]] = ([], [])
        self._places: tuple[list[tuple[Any, Any]], list[Any]] = ([], [])
        self._groups: list[tuple[list[Any], list[Any]]] = []
        self._odd: dict[str, list[tuple[str, Any, Any]]] = {}
        self._extra_modules: list[tuple[str, torch.nn.Module]] = []
        self._parameter_names: dict[int, str] = {}
        self._group_digests: dict[str, list[str]] = {}

    def thaw(self, names: list[str]) -> None:
        """These were found written: they are saved like all others from the next look on."""
        self._frozen.thawed.update(names)

    # ---- full look ----

    def entries(self) -> list[Entry]:
        """Every tensor that has a fixed place, in a fixed order."""
        self._lengths, self._places = ([], []), ([], [])
        self._groups, self._odd, self._extra_modules = [], {}, []
        self._frozen.look_anew(self.optimizers.values())
        self.derived.look_anew()
        self.sharded.look_anew(self.modules.values())
        found: list[Entry] = []
        for key in self.modules:
            found.extend(self._module_entries(key))
        self._parameter_names = self.parameter_names()
        for key, optimizer in self.optimizers.items():
            found.extend(self._optimizer_entries(dotted("optimizer", key), optimizer))
        seen: set[str] = set()
        for each in found:
            if each.name in seen:
                raise StateError(
                    f'two tensors are called "{each.name}": give the models names that differ '
                    '(model={"name": module})'
                )
            seen.add(each.name)
            check_tensor(each.name, each.tensor)
        self._frozen.check_names(seen)
        self.derived.bind(found)
        return found

    def parameter_names(self) -> dict[int, str]:
        """id of a parameter -> its name; parameters that only an optimizer knows get one too."""
        names: dict[int, str] = {}
        for key, module in self.modules.items():
            for name, parameter in module.named_parameters():
                names.setdefault(id(parameter), dotted(key, name))
        for key, optimizer in self.optimizers.items():
            for g, group in enumerate(optimizer.param_groups):
                for p, parameter in enumerate(group["params"]):
                    names.setdefault(id(parameter), dotted("optimizer", key, f"param_{g}_{p}"))
        return names

    def known_names(self) -> dict[int, str]:
        """parameter_names() as of the last entries()."""
        return self._parameter_names

    def extra_modules(self) -> list[tuple[str, torch.nn.Module]]:
        """Modules with get_extra_state, as of the last entries()."""
        return self._extra_modules

    def _replica(self, key: str) -> int:
        return self._rank if self._replicated.get(key) else 0

    def _watch_length(self, container: Any) -> None:
        self._lengths[0].append(container)
        self._lengths[1].append(len(container))

    def _watch_place(self, container: Any, key: Any) -> None:
        self._places[0].append((container, key))
        self._places[1].append(container[key])

    def _module_entries(self, key: str) -> Iterator[Entry]:
        replica = self._replica(key)
        for path, module in self.modules[key].named_modules(remove_duplicate=False):
            for container in (module._parameters, module._buffers, module._modules):
                self._watch_length(container)
            for name in module._modules:
                self._watch_place(module._modules, name)
            for name, parameter in module._parameters.items():
                if parameter is None:
                    self._watch_place(module._parameters, name)
                else:
                    full = dotted(key, path, name)
                    if self.derived.takes(full, parameter):
                        self._watch_place(module._parameters, name)  # as an entry's place is
                        continue
                    kind = self._frozen.class_of(full, parameter, STABLE)
                    yield entry(full, module._parameters, name, parameter, kind, replica)
            for name, buffer in module._buffers.items():
                # As in state_dict: what is not persistent is computed anew by its owner.
                if buffer is None:
                    self._watch_place(module._buffers, name)
                elif name not in module._non_persistent_buffers_set:
                    full = dotted(key, path, name)
                    kind = self._frozen.class_of(full, buffer, STAGED)
                    yield entry(full, module._buffers, name, buffer, kind, replica)
            if type(module).get_extra_state is not torch.nn.Module.get_extra_state:
                self._extra_modules.append((dotted(key, path), module))

    def _optimizer_entries(self, prefix: str, optimizer: torch.optim.Optimizer) -> Iterator[Entry]:
        names = self._parameter_names
        self._watch_place(optimizer.__dict__, "state")
        self._watch_place(optimizer.__dict__, "param_groups")
        self._watch_length(optimizer.param_groups)
        self._watch_length(optimizer.state)
        replica = self._rank if all(self._replicated.values()) and self._replicated else 0
        odd = self._odd.setdefault(prefix, [])
        known: set[int] = set()
        self._group_digests[prefix] = group_digests(optimizer, names)
        for group in optimizer.param_groups:
            params = group["params"]
            self._groups.append((params, list(params)))
            for i, parameter in enumerate(params):
                known.add(id(parameter))
                name = names[id(parameter)]
                if name.startswith(f"{prefix}.param_"):
                    yield entry(name, params, i, parameter, STABLE, replica)
        for parameter, state in optimizer.state.items():
            if id(parameter) not in known or not isinstance(state, dict):
                raise StateError(
                    f"{prefix}.state has an entry that belongs to none of its parameters (or is no "
                    "dict), which cannot be saved"
                )
            name = names[id(parameter)]
            self._watch_length(state)
            for field, value in state.items():
                plain = isinstance(field, str) and field and "." not in field
                if plain and isinstance(value, torch.Tensor):
                    full = f"{prefix}.state.{name}.{field}"
                    yield entry(full, state, field, value, STABLE, replica, name)
                else:
                    odd.append((name, state, field))

    # ---- each snapshot ----

    def unchanged(self) -> bool:
        """Whether the places found by entries() are still all there are."""
        containers, lengths = self._lengths
        if self._frozen.thaws():
            return False
        if list(map(len, containers)) != lengths:
            return False
        try:
            now = [container[key] for container, key in self._places[0]]
        except (KeyError, IndexError):
            return False
        return all(map(operator.is_, now, self._places[1])) and all(
            len(params) == len(seen) and all(map(operator.is_, params, seen))
            for params, seen in self._groups
        )

    def values(self) -> tuple[list[StateItem], dict[str, torch.Tensor]]:
        """Non-tensor state as it is now, and the tensors in it."""
        encoder = Encoder(self.allow_pickle)
        documents: dict[str, Any] = {"holdfast": {"format": FORMAT, "torch": torch.__version__}}
        if self.save_rng:
            documents["rng"] = encoder.encode(rng_state(), "rng")
        for key, optimizer in self.optimizers.items():
            prefix = dotted("optimizer", key)
            documents[prefix] = self._optimizer_document(encoder, prefix, optimizer)
        if self._extra_modules:
            documents["module_extra_state"] = {
                path: encoder.encode(m.get_extra_state(), dotted("module_extra_state", path))
                for path, m in self._extra_modules
            }
        for key, value in self.extra.items():
            name = dotted("extra", key)
            documents[name] = encoder.encode(extra_state(value), name)
        if self.derived.casts:
            documents["derived"] = self.derived.document()
            encoder.tensors.update(self.derived.flags())
        for name, tensor in encoder.tensors.items():
            check_tensor(name, tensor)
        items = _state_items(documents, encoder.tensors)
        items += [StateItem(name, raw) for name, raw in encoder.pickles.items()]
        return items, encoder.tensors

    def _optimizer_document(
        self, encoder: Encoder, prefix: str, optimizer: torch.optim.Optimizer
    ) -> dict[str, Any]:
        groups = []
        for g, group in enumerate(optimizer.param_groups):
            path = f"{prefix}.param_groups.{g}"
            document = {
                key: encoder.encode(value, f"{path}.{key}")
                for key, value in group.items()
                if key != "params"
            }
            groups.append(document)
        state: dict[str, list[Any]] = {}
        for name, container, field in self._odd.get(prefix, ()):
            value = container.get(field)
            if isinstance(value, torch.Tensor) and isinstance(field, str) and "." not in field:
                raise LayoutChanged  # a scalar became a tensor: it gets a place of its own
            path = f"{prefix}.state.{name}.{field}"
            pair = [encoder.encode(field, path), encoder.encode(value, path)]
            state.setdefault(name, []).append(pair)
        return {"param_groups": groups, "params": self._group_digests[prefix], "state": state}


def group_digests(optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> list[str]:
    """For each parameter group its size and a digest of its parameters' names: the names of
    100,000 parameters would weigh too much in every snapshot."""
    result = []
    for group in optimizer.param_groups:
        text = "\n".join(names[id(p)] for p in group["params"])
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        result.append(f"{len(group['params'])}:{digest[:32]}")
    return result


def _state_items(
    documents: Mapping[str, Any], tensors: dict[str, torch.Tensor]
) -> list[StateItem]:
    """The documents as text; large ones as tensors, and smaller ones too where many add up."""
    texts = {
        name: json.dumps(document, allow_nan=False, separators=(",", ":"))
        for name, document in documents.items()
    }
    limit = MAX_ITEM_BYTES
    while sum(len(t) for t in texts.values() if len(t) <= limit) > MAX_STATE_BYTES:
        limit //= 2
    items = []
    for name, text in texts.items():
        if len(text) > limit:
            # Spaces up to a power of two: not a new layout whenever the text grows a little.
            padded = bytearray(text.encode().ljust(1 << (len(text) - 1).bit_length()))
            tensors[f"json.{name}"] = torch.frombuffer(padded, dtype=torch.uint8)
            text = json.dumps({"$json": f"json.{name}"})
        items.append(StateItem(name, text))
    return items


# ---- random numbers ---------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def _words(words: tuple[int, ...]) -> torch.Tensor:
    """Python's generator as a tensor; most trainings never draw from it between two snapshots."""
    return torch.frombuffer(array.array("I", words), dtype=torch.uint32)


def rng_state() -> dict[str, Any]:
    """States of all generators that training draws from without naming one."""
    version, words, gauss = random.getstate()
    state: dict[str, Any] = {
        "python": (version, _words(words), gauss),
        "torch": torch.get_rng_state(),
    }
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        state["numpy"] = numpy.random.get_state(legacy=False)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def load_rng_state(state: Mapping[str, Any]) -> None:
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    torch.set_rng_state(state["torch"])
    if "numpy" in state:
        import numpy

        numpy.random.set_state(state["numpy"])
    if "cuda" in state and torch.cuda.is_available():
        for device, value in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(value, device)
