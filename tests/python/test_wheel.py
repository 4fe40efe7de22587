"""The wheel: what is in it, and a training where nothing of Holdfast is but the installed wheel.

HOLDFAST_WHEEL names one that is tested in place of one made from the tests' build.
"""

from __future__ import annotations

import base64
import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "wheel"))

import archive  # noqa: E402
import build  # noqa: E402
import bundle  # noqa: E402
import elf  # noqa: E402
from node import alive, wait_for  # noqa: E402

TRAINER = ROOT / "tests" / "python" / "wheel_trainer.py"


@pytest.fixture(scope="module")
def bazel_bin(built: dict[str, str]) -> pathlib.Path:
    folder = pathlib.Path(built["HOLDFAST_LIBRARY"]).resolve().parents[1]
    for place in (bundle.LIBRARY, *bundle.PROGRAMS.values()):
        if not (folder / place).is_file():
            pytest.skip(f"HOLDFAST_LIBRARY is no output of Bazel: there is no {folder / place}")
    return folder


@pytest.fixture(scope="module")
def wheel(bazel_bin: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    named = os.environ.get("HOLDFAST_WHEEL")
    if named:
        return pathlib.Path(named).resolve()
    # One for all workers, whose folders are beside each other: it takes a minute.
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "wheel"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = list(folder.glob("*.whl"))
        return made[0] if made else build.build(bazel_bin, folder)


@pytest.fixture
def package(wheel: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(tmp_path / "unpacked")
    return tmp_path / "unpacked" / "holdfast"


# ---- what is in it ----


def test_a_wheel_says_what_it_is_and_every_file_has_its_digest(wheel: pathlib.Path) -> None:
    version = archive.version(ROOT / "client/python/holdfast")
    assert wheel.name == f"holdfast-{version}-py3-none-linux_x86_64.whl"
    assert wheel.stat().st_size < 40 << 20
    info = f"holdfast-{version}.dist-info"
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
        lines = opened.read(f"{info}/RECORD").decode().splitlines()
        stated = {name: (digest, size) for name, digest, size in (x.split(",") for x in lines)}
        assert sorted(stated) == sorted(names)
        assert stated.pop(f"{info}/RECORD") == ("", "")
        for name, (digest, size) in stated.items():
            data = opened.read(name)
            found = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
            assert (digest, size) == (f"sha256={found}", str(len(data))), name
        for name in ("holdfast/_bin/holdfastd", f"holdfast-{version}.data/scripts/holdfast"):
            assert opened.getinfo(name).external_attr >> 16 == stat.S_IFREG | 0o755
        metadata = opened.read(f"{info}/METADATA").decode()
    assert not re.search(r"(?m)^Requires-Dist: (?!.*; extra ==)", metadata), "nothing is required"
    assert "\nRequires-Dist: torch>=2.4; extra == \"torch\"\n" in metadata
    for notice in re.findall(r"(?m)^License-File: (.*)$", metadata):
        assert f"{info}/licenses/{notice}" in names


def test_the_same_build_gives_the_same_wheel(
    bazel_bin: pathlib.Path, wheel: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    if "HOLDFAST_WHEEL" in os.environ:
        pytest.skip("HOLDFAST_WHEEL may be of another build")
    again = build.build(bazel_bin, tmp_path)
    assert again.read_bytes() == wheel.read_bytes()


def test_a_wheel_without_one_of_its_libraries_is_refused(package: pathlib.Path) -> None:
    bundle.check(package)
    libraries = [
        *(package / "_lib").iterdir(),
        *(package / "_bin").glob("lib*"),
        *(package / "_fabric").iterdir(),
    ]
    assert len(libraries) > 10
    for library in libraries:
        if library.name in ("libholdfast.so", bundle.FABRIC):
            continue
        away = library.rename(package / "away")
        with pytest.raises(elf.WheelError, match=re.escape(library.name)):
            bundle.check(package)
        away.rename(library)


def test_symbols_newer_than_debian_12_has_are_refused(
    package: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(elf.too_new({"GLIBC_2.36", "GLIBC_2.4", "GLIBCXX_3.4.30", "ZLIB_1.9"})) == []
    newer = ["GLIBC_2.37", "GLIBC_2.100", "GLIBCXX_3.4.31", "CXXABI_1.3.14", "GLIBC_PRIVATE"]
    for version in newer:
        assert list(elf.too_new({version})) == [version]
    monkeypatch.setitem(elf.LIMITS, "GLIBC", (2, 30))
    with pytest.raises(elf.WheelError, match="GLIBC_2.34"):
        bundle.check(package)


# ---- installed, with everything else out of sight ----


@dataclasses.dataclass
class Installed:
    """An environment of Python with the wheel and torch in it, and the folders of a user."""

    venv: pathlib.Path
    home: pathlib.Path
    arena: pathlib.Path
    hidden: list[pathlib.Path] = dataclasses.field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.venv}/bin:/usr/bin:/bin",
            "HOME": str(self.home),
            "XDG_STATE_HOME": str(self.home),
            "HOLDFAST_DAEMON_FLAGS": f"--arena {self.arena} --budget 128MiB --metrics off",
        }

    def run(self, *command: str, unshare: bool = True) -> subprocess.CompletedProcess[str]:
        """In a mount namespace where empty folders and files lie over what is hidden."""
        words = list(command)
        if unshare and self.hidden:
            lines = ["set -e"]
            for path in self.hidden:
                name = shlex.quote(str(path))
                lines.append(
                    f"mount -t tmpfs none {name}" if path.is_dir()
                    else f"mount --bind /dev/null {name}"
                )  # fmt: skip
            lines.append(shlex.join(["exec", *command]))
            words = [*UNSHARE, "sh", "-c", "\n".join(lines)]
        return subprocess.run(
            words, env=self.environment, cwd="/", capture_output=True, text=True, timeout=120
        )

    def train(self, kind: str, steps: int) -> Any:
        result = self.run(
            str(self.venv / "bin/python"), str(self.home / TRAINER.name), kind, str(steps)
        )
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    def daemons(self) -> list[int]:
        found = []
        program = bytes(self.package / "_bin/holdfastd")
        for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0] == program and str(self.arena).encode() in words:
                found.append(int(path.parent.name))
        return [pid for pid in found if alive(pid)]

    @property
    def package(self) -> pathlib.Path:
        return next(self.venv.glob("lib/python3.*/site-packages")) / "holdfast"


UNSHARE = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]


def can_hide(folder: pathlib.Path) -> bool:
    return subprocess.run(
        [*UNSHARE, "mount", "-t", "tmpfs", "none", str(folder)], capture_output=True
    ).returncode == 0


def shown(installed: Installed) -> None:
    """At the end of a test: one that could hide nothing has not shown what it is for."""
    if not installed.hidden:
        pytest.skip("all is well BESIDE the build tree and this machine's libraries: this user cannot "
                    "hide them, so that the wheel does without them is NOT SHOWN")  # fmt: skip


@pytest.fixture
def installed(
    wheel: pathlib.Path, bazel_bin: pathlib.Path, tmp_path: pathlib.Path, arena: pathlib.Path
) -> Iterator[Installed]:
    made = Installed(tmp_path / "venv", tmp_path / "home", arena)
    made.home.mkdir()
    shutil.copy(TRAINER, made.home)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(made.venv)], check=True)
    pip(made, "install", "--quiet", "--no-index", "--no-deps", str(wheel))
    import torch

    (made.package.parent / "torch.pth").write_text(str(pathlib.Path(torch.__file__).parents[1]))
    yield made
    for pid in made.daemons():
        os.kill(pid, signal.SIGTERM)
        wait_for("the daemon's end", lambda: None if alive(pid) else True, 20)


def pip(installed: Installed, *words: str) -> str:
    python = str(installed.venv / "bin/python")
    command = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    result = subprocess.run([*command, *words], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def hide(installed: Installed, bazel_bin: pathlib.Path, mapped_anyway: set[str]) -> None:
    """This checkout, Bazel's outputs, and the libraries of this machine that the wheel brings, but
    those that an interpreter maps by itself."""
    outputs = next(p for p in bazel_bin.parents if p.name == "execroot").parent
    libraries: set[pathlib.Path] = set()
    for place in (bundle.LIBRARY, *bundle.PROGRAMS.values()):
        libraries |= {path.resolve() for path in elf.resolve(bazel_bin / place).values()}
    fabric = elf.installed(bundle.FABRIC)
    libraries |= {path.resolve() for path in (fabric, *elf.resolve(fabric).values())}
    left = {path for path in libraries if str(path) not in mapped_anyway}
    assert len(left) > 10
    installed.hidden = [ROOT, outputs, *sorted(left)]


def test_a_training_survives_its_daemon_with_nothing_but_the_wheel(
    installed: Installed, bazel_bin: pathlib.Path
) -> None:
    whole = installed.train("plain", 6)
    if can_hide(installed.home):
        hide(installed, bazel_bin, set(whole["mapped"]))
        gone = installed.run("ls", "-A", str(ROOT))
        assert (gone.returncode, gone.stdout) == (0, "")
        unusable = installed.run(str(bazel_bin / bundle.PROGRAMS["holdfast"]), "--version")
        assert unusable.returncode != 0

    first = installed.train("snapshots", 3)
    assert first["start"] == 0
    assert first["package"] == str(installed.package / "__init__.py")
    (daemon,) = installed.daemons()
    status = installed.run("holdfast", "status", "--json")
    assert status.returncode == 0, status.stderr
    assert json.loads(status.stdout)["daemon"]["pid"] == daemon
    ours = f"{installed.package}/"
    for files in (mapped(daemon), set(first["mapped"])):
        assert f"{ours}_lib/libprotobuf-holdfast.so.32" in files
    foreign = {f for f in mapped(daemon) if ".so" in f and not f.startswith(ours)}
    assert {os.path.basename(f) for f in foreign} <= elf.GLIBC
    foreign = {f for f in first["mapped"] if ".so" in f and not f.startswith(ours)}
    assert not {f for f in foreign if re.search(r"/lib(protobuf|isal)\W", f)}

    os.kill(daemon, signal.SIGKILL)
    wait_for("the daemon's death", lambda: None if alive(daemon) else True, 20)
    second = installed.train("snapshots", 6)
    assert second["start"] == 3
    assert second["found"] == first["digest"]
    assert second["digest"] == whole["digest"]
    (again,) = installed.daemons()
    assert again != daemon
    shown(installed)


def mapped(pid: int) -> set[str]:
    lines = pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {line.split(maxsplit=5)[5] for line in lines if "/" in line}


def test_the_command_of_an_installed_wheel_is_the_program_itself(
    installed: Installed, bazel_bin: pathlib.Path
) -> None:
    """Without torch, with its exit codes, ended by the signals that end the program."""
    assert pip(installed, "check").strip() == "No broken requirements found."
    (installed.package.parent / "torch.pth").unlink()
    if can_hide(installed.home):
        hide(installed, bazel_bin, set())
        # The interpreter's own.
        installed.hidden = [p for p in installed.hidden if not p.name.startswith("libz.so")]
    version = archive.version(installed.package)
    told = installed.run("holdfast", "--version")
    assert told.stdout.startswith(f"holdfast {version}\ncopy engines: host"), told.stderr
    if installed.hidden:
        own = installed.package / "_bin/../_fabric" / bundle.FABRIC
        assert re.search(rf"^fabric: libfabric 1\.\d+ \({re.escape(str(own))}\)$", told.stdout, re.M)
    assert installed.run("holdfastd", "--version").stdout == f"holdfastd {version}\n"
    assert installed.run("holdfast", "no-such-command").returncode == 2
    assert installed.run("holdfast", "status").returncode == 4
    through, direct = (
        into_closed_pipe(installed, installed.venv / "bin/holdfast"),
        into_closed_pipe(installed, installed.package / "_bin/holdfast"),
    )
    assert through == direct
    flags = installed.environment["HOLDFAST_DAEMON_FLAGS"].split()
    daemon = subprocess.Popen(
        [str(installed.venv / "bin/holdfastd"), "--user", *flags],
        env=installed.environment,
        stderr=subprocess.DEVNULL,
    )
    wait_for("an answer", lambda: installed.run("holdfast", "status").returncode == 0 or None, 20)
    assert installed.daemons() == [daemon.pid]
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(20) == 0
    shown(installed)


def test_the_hosts_libfabric_goes_before_the_one_in_the_wheel(installed: Installed) -> None:
    hosts = elf.installed(bundle.FABRIC)
    told = installed.run("holdfast", "--version").stdout
    assert re.search(rf"^fabric: libfabric 1\.\d+ \(.*/{re.escape(hosts.name)}\)$", told, re.M), told
    assert "_fabric" not in told
    if can_hide(installed.home):
        # The host's libfabric is gone, its libibverbs is there: the drivers that it loads are its own.
        installed.hidden = [hosts.resolve()]
        trace = ["env", "LD_DEBUG=files", str(installed.package / "_bin/holdfast"), "--version"]
        result = installed.run(*trace)
        assert str(installed.package / "_bin/../_fabric" / bundle.FABRIC) in result.stdout
        loaded = set(re.findall(r"calling init: (\S+)", result.stderr))
        assert {p for p in loaded if "libibverbs" in p} == {str(elf.installed("libibverbs.so.1"))}
    shown(installed)


def into_closed_pipe(installed: Installed, program: pathlib.Path) -> int:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return subprocess.run(
            [str(program), "--help"], stdout=writing, env=installed.environment, timeout=60
        ).returncode
    finally:
        os.close(writing)
