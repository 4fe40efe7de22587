"""First stage: what the machine is, and how fast plain copies are on it."""

from __future__ import annotations

import os
import platform
import statistics

import torch
from report import Row

import machine
from device import Bare, Device
from settings import Stage


def lines(stage: Stage) -> list[str]:
    found = [
        f"{os.cpu_count()} cores, {machine.processor()}, {machine.memory_bytes() / 1e9:.0f} GB, "
        f"{machine.numa()}",
        f"Linux {platform.release()}, Python {platform.python_version()}, torch "
        f"{torch.__version__}, CUDA {torch.version.cuda}",
        f"/dev/shm {machine.shm_bytes() / 1e9:.1f} GB, {machine.shm_free() / 1e9:.1f} free",
    ]
    found += [
        f"GPU {line}"
        for line in machine.nvidia_smi(
            "name", "driver_version", "memory.total", "pcie.link.gen.max", "pcie.link.width.max"
        )
    ]
    if stage.settings.cuda:
        found.append(f"{torch.cuda.device_count()} GPUs seen by torch")
    return found


def copies(stage: Stage) -> None:
    device = Device(stage.settings.device)
    host = device.host_buffer(stage.sizes.bare_bytes)
    bare = Bare(device, host)
    size = f"{host.numel() / 1e9:.3g} GB"
    rates: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(3):
        for to_host in (True, False):
            rates[to_host].append(bare.rate(to_host))
    note = f"one pinned buffer of {size}" + ("" if bare.whole else ", the device's is smaller")
    for to_host, name in ((True, "bare copy to the host"), (False, "bare copy to the device")):
        stage.add(Row(name, "GB/s", statistics.median(rates[to_host]), note=note))


def main() -> None:
    stage = Stage.of_arguments()
    stage.add(*(Row("machine", "", note=line) for line in lines(stage)))
    stage.run({"environment": lambda: copies(stage)})


if __name__ == "__main__":
    main()
