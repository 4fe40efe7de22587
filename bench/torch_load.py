"""torch.load of as many bytes in as many tensors as a shard has, from a cold page cache.

    torch_load.py <file> <bytes> <tensors>
    load    answers: seconds, bytes
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

import torch
from serve import serve


def evict(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def main() -> None:
    path, size, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    elements = size // count // 4
    state = {f"tensor.{i}": torch.rand(elements) for i in range(count)}
    torch.save(state, path)
    del state

    def load() -> Sequence[float]:
        evict(path)
        began = time.perf_counter()
        loaded = torch.load(path, weights_only=True)
        seconds = time.perf_counter() - began
        return seconds, 4 * sum(t.numel() for t in loaded.values())

    serve({"load": load})


if __name__ == "__main__":
    main()
