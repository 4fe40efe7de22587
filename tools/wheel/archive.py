"""Writes a wheel: metadata, hashes, and a zip file that is the same for the same content."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import pathlib
import re
import stat
import tomllib
import zipfile

TAG = "py3-none-linux_x86_64"
# The earliest that a zip file can say: nothing in it is a time of the build.
TIME = (1980, 1, 1, 0, 0, 0)


@dataclasses.dataclass(frozen=True)
class File:
    name: str
    data: bytes
    executable: bool = False


def version(package: pathlib.Path) -> str:
    text = (package / "_version.py").read_text()
    match = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    assert match is not None, "_version.py states no version"
    return match[1]


def metadata(project: pathlib.Path, number: str, readme: str, licenses: list[str]) -> str:
    """METADATA from the [project] table of a pyproject.toml."""
    stated = tomllib.loads(project.read_text())["project"]
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {stated['name']}",
        f"Version: {number}",
        f"Summary: {stated['description']}",
        f"License-Expression: {stated['license']['text']}",
        *(f"License-File: {name}" for name in licenses),
        f"Requires-Python: {stated['requires-python']}",
    ]
    for requirement in stated["dependencies"]:
        lines.append(f"Requires-Dist: {requirement}")
    for extra, requirements in stated["optional-dependencies"].items():
        lines.append(f"Provides-Extra: {extra}")
        for requirement in requirements:
            lines.append(f'Requires-Dist: {requirement}; extra == "{extra}"')
    lines += ["Description-Content-Type: text/markdown", "", readme]
    return "\n".join(lines)


WHEEL = f"Wheel-Version: 1.0\nGenerator: holdfast\nRoot-Is-Purelib: false\nTag: {TAG}\n"


def record(files: list[File], name: str) -> File:
    lines = []
    for file in files:
        digest = base64.urlsafe_b64encode(hashlib.sha256(file.data).digest()).rstrip(b"=").decode()
        lines.append(f"{file.name},sha256={digest},{len(file.data)}\n")
    return File(name, "".join([*lines, f"{name},,\n"]).encode())


def write(path: pathlib.Path, files: list[File]) -> None:
    """Takes the place of "path" at the end only."""
    unfinished = path.with_name(path.name + ".part")
    with zipfile.ZipFile(unfinished, "w") as archive:
        for file in files:
            info = zipfile.ZipInfo(file.name, TIME)
            info.create_system = 3  # Unix, where the mode in external_attr counts
            info.external_attr = (stat.S_IFREG | (0o755 if file.executable else 0o644)) << 16
            archive.writestr(info, file.data, zipfile.ZIP_DEFLATED, 9)
    unfinished.replace(path)
