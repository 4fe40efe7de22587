"""Fixtures: the package from this checkout, a stand-in for the daemon, and real daemons in
temporary folders."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
for folder in ("client/python", "tools/demo", "tests/python"):
    sys.path.insert(0, str(ROOT / folder))
os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:3])  # of the processes that tests start

import torch  # noqa: E402

import cluster  # noqa: E402
import holdfast  # noqa: E402
import native  # noqa: E402
from fake_native import FakeDaemon  # noqa: E402
from node import Node  # noqa: E402

torch.set_num_threads(1)
# Workers of pytest-xdist are called gw0, gw1, ...: daemons of two of them must not meet.
cluster.Cluster.subnet = f"127.0.{1 + int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0')[2:])}"


#: What takes longest comes first, so that no worker is left with it when the others have ended.
_LONGEST = (
    "test_gpu_bench", "test_demo", "test_torn", "test_chaos", "test_wheel", "test_netns_restart",
    "test_parity_kills", "test_parity", "test_netns", "test_nodes", "test_faults", "test_simulated",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        return _LONGEST.index(item.path.stem) if item.path.stem in _LONGEST else len(_LONGEST)

    items.sort(key=place)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeDaemon:
    """A daemon that exists in this process only; every Checkpointer made talks to it."""
    daemon = FakeDaemon()
    monkeypatch.setenv("HOLDFAST_SOCKET", "/nowhere")
    monkeypatch.setattr("holdfast.checkpointer.Client", daemon.client)
    return daemon


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """HOLDFAST_LIBRARY and HOLDFAST_BIN of a build for editing, set here too."""
    values = native.environment(tmp_path_factory.mktemp("built"), build=True, config="")
    os.environ.update(values)
    return values


@pytest.fixture(scope="session")
def simulated(built: dict[str, str]) -> str:
    """libholdfast.so on the simulated CUDA runtime."""
    program = pathlib.Path(built["HOLDFAST_BIN"]) / "holdfast"
    version = subprocess.run([str(program), "--version"], capture_output=True, text=True)
    if "CPU only" in version.stdout:
        pytest.skip("this build has no CUDA: nothing is simulated")
    place = "tests/support/cuda_sim/libholdfast_sim.so"
    return str(native.output_of("//tests/support/cuda_sim:libholdfast_sim.so", place))


@pytest.fixture
def arena() -> Iterator[pathlib.Path]:
    """A folder in memory."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-test-", dir="/dev/shm"))
    yield folder / "arena"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def node(
    built: dict[str, str],
    tmp_path: pathlib.Path,
    arena: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Node]:
    """A daemon that runs, on folders of its own; every Checkpointer made here finds it."""
    made = Node(tmp_path / "node", arena, built)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    made.start()
    yield made
    try:
        holdfast.arm_failpoints("")
    finally:
        made.clean()
