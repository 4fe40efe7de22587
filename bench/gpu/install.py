"""The package that is measured: a wheel unpacked into a folder, or a build of this checkout."""

from __future__ import annotations

import os
import pathlib
import stat
import subprocess
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
BENCH = ROOT / "bench"
SIMULATED = "tests/support/cuda_sim/libholdfast_sim.so"


class InstallError(Exception):
    pass


class Package:
    """What a process needs to import it, and where its programs are."""

    def __init__(self, python: pathlib.Path, programs: dict[str, pathlib.Path],
                 environment: dict[str, str]) -> None:  # fmt: skip
        self.programs = programs
        paths = [str(python), str(BENCH), str(BENCH / "gpu")]
        self.environment = {**environment, "PYTHONPATH": os.pathsep.join(paths)}

    def version(self) -> str:
        result = subprocess.run(
            [str(self.programs["holdfast"]), "--version"],
            env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        return ", ".join(result.stdout.split("\n")[:2]).strip(", ") or result.stderr.strip()[:300]


def of_wheel(wheel: pathlib.Path, folder: pathlib.Path) -> Package:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    programs = {name: folder / "holdfast/_bin" / name for name in ("holdfastd", "holdfast")}
    for path in (folder / "holdfast/_bin").iterdir():
        path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    for name, path in programs.items():
        if not path.is_file():
            raise InstallError(f"{wheel} has no program {name}")
    return Package(folder, programs, {})


def of_build(folder: pathlib.Path, simulated: bool = False) -> Package:
    """Of an output folder of Bazel; "simulated": with the library on the simulated runtime."""
    programs = {"holdfastd": folder / "daemon/holdfastd", "holdfast": folder / "cli/holdfast"}
    library = folder / (SIMULATED if simulated else "client/libholdfast.so")
    return _checked(programs, library)


def of_environment() -> Package:
    """Of $HOLDFAST_LIBRARY and $HOLDFAST_BIN."""
    try:
        folder = pathlib.Path(os.environ["HOLDFAST_BIN"])
        library = pathlib.Path(os.environ["HOLDFAST_LIBRARY"])
    except KeyError as error:
        raise InstallError(f"give --wheel or --native, or set ${error.args[0]}") from None
    return _checked({name: folder / name for name in ("holdfastd", "holdfast")}, library)


def _checked(programs: dict[str, pathlib.Path], library: pathlib.Path) -> Package:
    for path in (library, *programs.values()):
        if not path.is_file():
            raise InstallError(f"{path} is not built")
    library = library.resolve()
    return Package(ROOT / "client/python", programs, {"HOLDFAST_LIBRARY": str(library)})
