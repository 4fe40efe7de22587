"""The licenses of what a wheel holds, as Debian's packages state them."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterable, Iterator

from elf import WheelError, run

# Compiled into our files, so that no library shows them.
HEADERS = ["libboost1.81-dev", "libcli11-dev", "libtomlplusplus-dev", "nlohmann-json3-dev"]


def package_of(library: pathlib.Path) -> str:
    """The Debian package of a file; the merged /usr lets it be registered under either name."""
    real = str(library.resolve())
    names = {real, real.removeprefix("/usr"), "/usr" + real.removeprefix("/usr")}
    for name in sorted(names):
        try:
            return run("dpkg-query", "-S", name).split(":")[0]
        except WheelError:
            continue
    raise WheelError(f"{real} belongs to no Debian package: its license is not known")


def collect(libraries: Iterable[pathlib.Path]) -> Iterator[tuple[str, bytes]]:
    """(name below licenses/, text), with the general licenses that the texts refer to."""
    common: set[str] = set()
    for package in sorted({package_of(path) for path in libraries}.union(HEADERS)):
        text = pathlib.Path("/usr/share/doc", package, "copyright").read_bytes()
        common.update(re.findall(r"/usr/share/common-licenses/([\w.+-]*\w)", text.decode()))
        yield f"debian/{package}.txt", text
    for name in sorted(common):
        yield f"common/{name}.txt", pathlib.Path("/usr/share/common-licenses", name).read_bytes()
