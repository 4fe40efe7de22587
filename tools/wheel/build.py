#!/usr/bin/env python3
"""Makes the wheel from what Bazel built.

Usage: build.py BAZEL_BIN DIST
"""

from __future__ import annotations

import pathlib
import shutil
import sys
import tempfile

import archive
import bundle
import licenses
from archive import File
from elf import WheelError, is_elf

ROOT = pathlib.Path(__file__).resolve().parents[2]
PYTHON = ROOT / "client" / "python"
LAUNCHER = pathlib.Path(__file__).with_name("launcher.py")
MAX_BYTES = 40 << 20


def package_files(folder: pathlib.Path) -> list[File]:
    """All files below "folder", under the names that they get when the wheel is installed."""
    return [
        File(
            str(path.relative_to(folder)),
            path.read_bytes(),
            executable=path.parent.name == "_bin" and is_elf(path),
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]


def assemble(
    staged: pathlib.Path, dist: pathlib.Path, libraries: set[pathlib.Path]
) -> pathlib.Path:
    """The wheel of a folder that holds the complete package."""
    number = archive.version(staged / "holdfast")
    name = f"holdfast-{number}"
    info = f"{name}.dist-info"
    notices = [("LICENSE", (ROOT / "LICENSE").read_bytes()), *licenses.collect(libraries)]
    readme = (ROOT / "README.md").read_text()
    described = archive.metadata(
        PYTHON / "pyproject.toml", number, readme, [notice for notice, _ in notices]
    )
    files = package_files(staged)
    for program in sorted(bundle.PROGRAMS):
        files.append(File(f"{name}.data/scripts/{program}", LAUNCHER.read_bytes(), True))
    files += [
        File(f"{info}/METADATA", described.encode()),
        File(f"{info}/WHEEL", archive.WHEEL.encode()),
        *(File(f"{info}/licenses/{notice}", text) for notice, text in notices),
    ]
    files.append(archive.record(files, f"{info}/RECORD"))
    dist.mkdir(parents=True, exist_ok=True)
    path = dist / f"{name}-{archive.TAG}.whl"
    archive.write(path, files)
    size = path.stat().st_size
    if size > MAX_BYTES:
        path.unlink()
        raise WheelError(f"the wheel has {size} bytes; the limit is {MAX_BYTES}")
    return path


def build(bazel_bin: pathlib.Path, dist: pathlib.Path) -> pathlib.Path:
    with tempfile.TemporaryDirectory() as folder:
        staged = pathlib.Path(folder)
        package = staged / "holdfast"
        package.mkdir()
        for source in [*(PYTHON / "holdfast").glob("*.py"), PYTHON / "holdfast" / "py.typed"]:
            shutil.copyfile(source, package / source.name)
        return assemble(staged, dist, bundle.lay_out(bazel_bin, package))


def main(bazel_bin: str, dist: str) -> int:
    try:
        path = build(pathlib.Path(bazel_bin), pathlib.Path(dist))
    except WheelError as error:
        print(f"wheel: {error}", file=sys.stderr)
        return 1
    print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
