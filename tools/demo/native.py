"""Where this checkout's build has put libholdfast.so, holdfastd and holdfast."""

from __future__ import annotations

import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIBRARY = "client/libholdfast.so"
PROGRAMS = {"holdfastd": "daemon/holdfastd", "holdfast": "cli/holdfast"}
TARGETS = ["//client:libholdfast.so", "//daemon:holdfastd", "//cli:holdfast"]


def _bazel(*arguments: str) -> str:
    """Standard output of Bazel in this checkout; its messages only where it fails."""
    result = subprocess.run(
        [*os.environ.get("BAZEL", "bazel").split(), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    if result.returncode != 0:
        raise RuntimeError(f"bazel {' '.join(arguments)} failed:\n{result.stderr[-4000:]}")
    return result.stdout.strip()


def output_of(target: str, place: str) -> pathlib.Path:
    """Builds a further target of the plain build; where it is."""
    _bazel("build", target)
    return pathlib.Path(_bazel("info", "bazel-bin")) / place


def environment(
    folder: pathlib.Path, build: bool = False, config: str = "opt"
) -> dict[str, str]:
    """HOLDFAST_LIBRARY and HOLDFAST_BIN for a build of this checkout; "folder" gets links to the
    two programs.  "config" is Bazel's, empty for the plain build.  What is set already in this
    process's environment stays."""
    flags = [f"--config={config}"] if config else []
    if "HOLDFAST_LIBRARY" in os.environ and "HOLDFAST_BIN" in os.environ:
        return {name: os.environ[name] for name in ("HOLDFAST_LIBRARY", "HOLDFAST_BIN")}
    if build:
        _bazel("build", *flags, *TARGETS)
    output = pathlib.Path(_bazel("info", *flags, "bazel-bin"))
    programs = folder / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    for path in (output / LIBRARY, *(output / place for place in PROGRAMS.values())):
        if not path.is_file():
            raise RuntimeError(f"{path} is not built: run make build")
    for name, place in PROGRAMS.items():
        link = programs / name
        link.unlink(missing_ok=True)
        link.symlink_to(output / place)
    return {"HOLDFAST_LIBRARY": str(output / LIBRARY), "HOLDFAST_BIN": str(programs)}
