"""A training that knows nothing but the installed wheel: wheel_trainer.py plain|snapshots STEPS.

"snapshots" goes on from the newest snapshot to STEPS, with a snapshot of each step; "plain" is the
same training without Holdfast.  Prints one JSON object: the step that it went on from, the digests
of the state then and at the end, and the files that are mapped.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import sys

import torch


class Training:
    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(
            torch.nn.Linear(64, 256), torch.nn.Dropout(0.2), torch.nn.Linear(256, 8)
        )
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.model(torch.randn(16, 64)).square().mean().backward()
        self.optimizer.step()

    def digest(self) -> str:
        total = hashlib.sha256(bytes(torch.get_rng_state().tolist()))
        tensors = list(self.model.state_dict().values())
        for state in self.optimizer.state_dict()["state"].values():
            tensors += state.values()
        for tensor in tensors:
            total.update(bytes(tensor.detach().reshape(-1).view(torch.uint8).tolist()))
        return total.hexdigest()


def mapped() -> list[str]:
    lines = pathlib.Path("/proc/self/maps").read_text().splitlines()
    return sorted({line.split(maxsplit=5)[5] for line in lines if "/" in line})


def main(kind: str, steps: int) -> dict[str, object]:
    torch.set_num_threads(1)
    training = Training()
    if kind == "plain":
        for _ in range(steps):
            training.step()
        return {"digest": training.digest(), "mapped": mapped()}
    import holdfast

    checkpointer = holdfast.Checkpointer(
        "wheel", model=training.model, optimizer=training.optimizer
    )
    start = checkpointer.restore()
    found = training.digest()
    for step in range(start + 1, steps + 1):
        training.step()
        checkpointer.prepare()
        result = checkpointer.snapshot(step)
        assert result, result.reason
        checkpointer.wait(step)
    files = mapped()
    checkpointer.close()
    return {"start": start, "found": found, "digest": training.digest(), "mapped": files,
            "package": holdfast.__file__}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
