"""Lays the native half of the package out: holdfast/_bin, holdfast/_lib and holdfast/_fabric.

_lib  libholdfast.so and every library beside glibc and the C++ runtime that it or a program needs.
      Each gets a name of its own (libz-holdfast.so.1): the loader takes two files of one name for
      the same, and in a trainer ours must neither stand in for another's nor another's for ours.
_bin  holdfastd, holdfast, and the C++ runtime (libstdc++, libgcc_s) for these two only. In a
      trainer libholdfast takes the runtime that is there, since torch cannot be without one: an
      own, loaded first, would be too old for an extension that was compiled later than ours.
_fabric  libfabric and what it needs, for a machine that has none (transport/fabric_version.h). They
      keep their names, since a host's drivers of its cards ask for libibverbs by name: only the
      programs load them.

All are found by RPATH, which goes before LD_LIBRARY_PATH: the daemon inherits a trainer's
environment.
"""

from __future__ import annotations

import pathlib
import shutil

import elf
from elf import CXX_RUNTIME, GLIBC, WheelError

LIBRARY = "client/libholdfast.so"
FABRIC = "libfabric.so.1"
PROGRAMS = {"holdfastd": "daemon/holdfastd", "holdfast": "cli/holdfast"}


def own_name(library: str) -> str:
    return library.replace(".so", "-holdfast.so", 1)


def lay_out(bazel_bin: pathlib.Path, package: pathlib.Path) -> set[pathlib.Path]:
    """Fills package/_bin and package/_lib; gives the libraries of this machine that went in."""
    programs, libraries, fabric = package / "_bin", package / "_lib", package / "_fabric"
    for folder in (programs, libraries, fabric):
        folder.mkdir()
    sources = {programs / name: bazel_bin / place for name, place in PROGRAMS.items()}
    sources[libraries / "libholdfast.so"] = bazel_bin / LIBRARY
    found: dict[str, pathlib.Path] = {}
    for source in sources.values():
        if not source.is_file():
            raise WheelError(f"{source} is not built")
        found |= elf.resolve(source)
    for name, path in found.items():
        target = programs / name if name in CXX_RUNTIME else libraries / own_name(name)
        sources[target] = path
    for target, source in sources.items():
        _adopt(source, target, set(found) - CXX_RUNTIME)
    installed = elf.installed(FABRIC)
    brought = {FABRIC: installed} | elf.resolve(installed)
    for name, path in brought.items():
        _adopt(path, fabric / name, set())
    check(package)
    return set(found.values()) | set(brought.values())


def _adopt(source: pathlib.Path, target: pathlib.Path, renamed: set[str]) -> None:
    """A stripped copy that finds its libraries in the package.  Stripping comes first: it does not
    know the segments that patchelf adds."""
    shutil.copyfile(source, target)
    program = target.name in PROGRAMS
    target.chmod(0o755)
    elf.run("strip", "--strip-unneeded", target)
    # One kind of change a call: patchelf 0.14 mixes up the strings of several.
    needed = renamed.intersection(elf.run("patchelf", "--print-needed", target).split())
    renames = [word for n in sorted(needed) for word in ("--replace-needed", n, own_name(n))]
    if renames:
        elf.run("patchelf", *renames, target)
    if not program:
        elf.run("patchelf", "--set-soname", target.name, target)
    where = "$ORIGIN:$ORIGIN/../_lib" if program else "$ORIGIN"
    elf.run("patchelf", "--force-rpath", "--set-rpath", where, target)
    target.chmod(0o755 if program else 0o644)


def check(package: pathlib.Path) -> None:
    """That what was laid out runs on a machine with a glibc and nothing else, and in a trainer."""
    wrong: list[str] = []
    for name in PROGRAMS:
        wrong += elf.findings(package / "_bin" / name, GLIBC)
    wrong += elf.findings(package / "_lib" / "libholdfast.so", GLIBC | CXX_RUNTIME)
    wrong += elf.findings(package / "_fabric" / FABRIC, GLIBC)
    if wrong:
        raise WheelError("\n".join(wrong))
