"""What the machine is, and room in its /dev/shm."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess

SHM = pathlib.Path("/dev/shm")


def shm_free() -> int:
    usage = os.statvfs(SHM)
    return usage.f_bavail * usage.f_frsize


def shm_bytes() -> int:
    usage = os.statvfs(SHM)
    return usage.f_blocks * usage.f_frsize


def make_room(needed: int) -> str:
    """Enlarges /dev/shm where it is too small for so much; what was done, in words.  Whether the
    memory is there is found out by using it: a virtual machine may be given it only then."""
    free = shm_free()
    if free >= needed:
        return f"/dev/shm has {shm_bytes() / 1e9:.1f} GB"
    size = shm_bytes() + needed - free
    result = subprocess.run(
        ["mount", "-o", f"remount,size={size}", str(SHM)], capture_output=True, text=True
    )
    if result.returncode != 0:
        return (f"/dev/shm has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} are wanted, and it "
                f"cannot be enlarged: {result.stderr.strip()}")  # fmt: skip
    return f"/dev/shm was enlarged to {size / 1e9:.1f} GB"


def nvidia_smi(*fields: str) -> list[str]:
    """One line for each GPU."""
    if shutil.which("nvidia-smi") is None:
        return []
    result = subprocess.run(
        ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return result.stdout.strip().splitlines() if result.returncode == 0 else []


def processor() -> str:
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown processor"


def memory_bytes() -> int:
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0


def numa() -> str:
    nodes = sorted(p.name for p in pathlib.Path("/sys/devices/system/node").glob("node[0-9]*"))
    found = [f"{len(nodes)} NUMA nodes"]
    for line in nvidia_smi("pci.bus_id"):
        # nvidia-smi writes eight digits of domain, sysfs four.
        device = pathlib.Path("/sys/bus/pci/devices") / line.strip().lower()[4:]
        place = device / "numa_node"
        if place.exists():
            found.append(f"GPU {device.name} on node {place.read_text().strip()}")
    return ", ".join(found)
