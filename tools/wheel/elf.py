"""What an ELF file asks of the machine that it runs on, and whether a package can give it."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import subprocess
from collections.abc import Iterable, Iterator

# Every machine with a glibc has these; none of them may come from elsewhere than its libc.
GLIBC = frozenset(
    {"ld-linux-x86-64.so.2", "libc.so.6", "libdl.so.2", "libm.so.6", "libpthread.so.0",
     "librt.so.1"}
)  # fmt: skip
CXX_RUNTIME = frozenset({"libstdc++.so.6", "libgcc_s.so.1"})

# What Debian 12 has; Ubuntu 24.04 has more of each.
LIMITS = {"GLIBC": (2, 36), "GLIBCXX": (3, 4, 30), "CXXABI": (1, 3, 13), "GCC": (12, 0, 0)}


class WheelError(Exception):
    """The wheel cannot be made, or would not run where it should."""


@dataclasses.dataclass(frozen=True)
class Elf:
    path: pathlib.Path
    needed: tuple[str, ...]
    folders: tuple[pathlib.Path, ...]  # of the RPATH
    versions: frozenset[str]


def run(*command: str | pathlib.Path) -> str:
    result = subprocess.run(
        [str(c) for c in command], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}
    )
    if result.returncode != 0:
        raise WheelError(f"{' '.join(map(str, command))}: {result.stderr.strip()}")
    return result.stdout


def is_elf(path: pathlib.Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


def read(path: pathlib.Path) -> Elf:
    text = run("objdump", "-p", path)
    folders: list[pathlib.Path] = []
    for kind, value in re.findall(r"^ +(RPATH|RUNPATH) +(.*)$", text, re.MULTILINE):
        parts = value.split(":")
        if kind == "RUNPATH" or not all(re.match(r"\$ORIGIN(/|$)", p) for p in parts):
            raise WheelError(f"{path.name}: {kind} {value}: only an RPATH from $ORIGIN is followed "
                             "on every machine, whatever LD_LIBRARY_PATH says")
        folders += [(path.parent / p.replace("$ORIGIN", ".", 1)).resolve() for p in parts]
    versions = re.findall(r"^ +0x[0-9a-f]+ 0x[0-9a-f]+ \d+ (\S+)$", text, re.MULTILINE)
    return Elf(
        path=path,
        needed=tuple(re.findall(r"^ +NEEDED +(\S+)$", text, re.MULTILINE)),
        folders=tuple(folders),
        versions=frozenset(versions),
    )


def installed(name: str) -> pathlib.Path:
    """The file that this machine's linker takes for a library of that name."""
    found = re.search(rf"^\t{re.escape(name)} \(.*x86-64.*\) => (.*)$", run("/sbin/ldconfig", "-p"), re.M)
    if found is None:
        raise WheelError(f"this machine has no {name}")
    return pathlib.Path(found[1])


def resolve(path: pathlib.Path) -> dict[str, pathlib.Path]:
    """Every library that this machine loads for "path", but those of glibc."""
    found: dict[str, pathlib.Path] = {}
    for line in run("ldd", path).splitlines():
        match = re.match(r"\s+(\S+) => (.*?)(?: \(0x[0-9a-f]+\))?$", line)
        if match is None or match[1] in GLIBC:
            continue
        if match[2] == "not found":
            raise WheelError(f"{path} needs {match[1]}, which this machine does not have")
        found[match[1]] = pathlib.Path(match[2])
    return found


def too_new(versions: Iterable[str]) -> Iterator[str]:
    """The symbol versions that a machine as old as LIMITS lacks."""
    for version in sorted(versions):
        match = re.fullmatch(r"(GLIBC|GLIBCXX|CXXABI|GCC)_([0-9.]+)", version)
        if match and tuple(map(int, match[2].split("."))) > LIMITS[match[1]]:
            yield version
        elif version == "GLIBC_PRIVATE":
            yield version


def findings(start: pathlib.Path, host: frozenset[str]) -> Iterator[str]:
    """What would go wrong when "start" is loaded where only the names in "host" are installed.

    Libraries are looked for as the loader does it: in the RPATH of who needs them, then in that of
    the file that was started.
    """
    first = read(start)
    seen: set[str] = set()
    queue = [first]
    while queue:
        elf = queue.pop(0)
        for version in too_new(elf.versions):
            yield f"{elf.path.name} needs symbols of {version}"
        for name in elf.needed:
            if name in host or name in seen:
                continue
            seen.add(name)
            for folder in (*elf.folders, *first.folders):
                if (folder / name).is_file():
                    queue.append(read(folder / name))
                    break
            else:
                yield f"{elf.path.name} needs {name}, which is not in the wheel"
