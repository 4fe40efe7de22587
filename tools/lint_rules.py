#!/usr/bin/env python3
"""Rules of this repository that no compiler checks: who may include what, and what may not be written.

Each rule is a function from a Source to findings. They read text, not syntax: a rare false finding is
answered by writing the line differently, or by `// lint: allow(<rule>) <reason>` on it.
"""

import dataclasses
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator

ROOT = pathlib.Path(__file__).resolve().parent.parent
SUFFIXES = (".h", ".cc", ".c", ".cpp", ".hpp", ".cu", ".cuh")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

# Folders that may include which of our folders (design: who may depend on what). A folder may always
# include itself. Longest matching prefix decides; tests/, bench/ and examples/ may include all.
FOLDERS = {
    "common": {"common"},
    "proto": {"proto"},
    "layout": {"layout", "common", "proto"},
    "ec": {"ec", "common"},
    "transport": {"transport", "common", "proto"},
    "storage_tiers": {"storage_tiers", "common", "proto", "layout"},
    "daemon": {"daemon", "common", "proto", "layout", "ec", "transport", "storage_tiers"},
    # Decisions without I/O: no transport, no tiers, nothing of the daemon around them.
    "daemon/core": {"daemon/core", "common", "proto", "layout", "ec"},
    "client": {"client", "common", "proto", "layout", "transport"},
    "cli": {"cli", "client", "common", "proto", "layout", "storage_tiers", "transport"},
}
OUR_TOP_FOLDERS = {f.split("/")[0] for f in FOLDERS} | {"tests", "bench", "examples", "integration"}
FREE_FOLDERS = ("tests/", "bench/", "examples/", "bazel/")

# Third-party includes and the path prefixes in which they may appear.
THIRD_PARTY = [
    ("RocksDB", r"rocksdb/", ("storage_tiers/catalog",)),
    ("liburing", r"liburing", ("storage_tiers/",)),
    ("nlohmann-json", r"nlohmann/", ("layout/", "cli/")),
    ("spdlog", r"spdlog/", ("common/log",)),
    ("toml++", r"toml\+\+/", ("daemon/config",)),
    ("prometheus-cpp", r"prometheus/", ("daemon/metrics",)),
    ("CLI11", r"CLI/", ("cli/",)),
    ("ISA-L", r"isa-l(/|\.h)", ("common/crc32c", "ec/")),
    ("libfabric", r"rdma/", ("transport/fabric_",)),
    ("OpenSSL", r"openssl/|boost/asio/ssl", ("transport/",)),
]
# The same for what not even tests and benchmarks may include elsewhere: a machine may lack it.
OPTIONAL_PARTY = [
    (
        "CUDA",
        r"(cuda|nv)[^/]*(\.h|/)|(crt/|cooperative_groups|driver_types\.h|device_types\.h)",
        ("client/copy_cuda/", "tests/client/copy_cuda/", "tests/support/cuda_", "bench/gpu/"),
    ),
]
# Single headers of folders that may not be included otherwise.
SINGLE_HEADERS = {
    # Without I/O: values that the core fills, pure functions that it calls.
    "daemon/core": {
        "storage_tiers/catalog_batch.h",
        "storage_tiers/catalog_records.h",
        "storage_tiers/retention.h",
    },
    # `config check` asks the daemon's own parser, so that both agree.
    "cli": {"daemon/config.h"},
}
NO_ASIO = ("ec/", "layout/", "daemon/core/", "client/", "storage_tiers/", "cli/")
NO_THREADS = ("layout/", "ec/", "daemon/core/")
OFFLOAD = ("common/offload.h", "common/offload.cc")


@dataclasses.dataclass(frozen=True)
class Finding:
    path: str
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: [{self.rule}] {self.text}"


class Source:
    """A file's text, and the same text with comments and literals blanked (same line and columns)."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.lines = text.splitlines()
        self.code = _blank(text)
        self.code_lines = self.code.splitlines()

    def includes(self) -> Iterator[tuple[int, str, str]]:
        """(line, opening quote or bracket, path) of each include that is no comment."""
        for number, line in enumerate(self.lines, 1):
            match = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
            if match and "#" in self.code_lines[number - 1]:
                yield number, match[1], match[2]

    def grep(self, pattern: str) -> Iterator[int]:
        for number, line in enumerate(self.code_lines, 1):
            if re.search(pattern, line):
                yield number

    def line_of(self, offset: int) -> int:
        return self.code.count("\n", 0, offset) + 1


_TOKEN = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(?P<d>[^()\\\s]{0,16})\(.*?\)(?P=d)"'
    r"|\"(?:\\.|[^\"\\\n])*\"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'",
    re.DOTALL,
)


def _blank(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        found = match[0]
        if found.startswith("/"):
            return re.sub(r"[^\n]", " ", found)
        # The quotes stay, so that an argument is still an argument.
        return found[0] + re.sub(r"[^\n]", " ", found[1:-1]) + found[-1]

    return _TOKEN.sub(replace, text)


def third_party(source: Source) -> Iterator[Finding]:
    free = source.path.startswith(FREE_FOLDERS)
    for line, _, included in source.includes():
        for name, pattern, allowed in OPTIONAL_PARTY + ([] if free else THIRD_PARTY):
            if re.match(pattern, included) and not source.path.startswith(allowed):
                text = f"{name} is included in {', '.join(allowed)} only"
                yield Finding(source.path, line, "third-party", text)


def asio(source: Source) -> Iterator[Finding]:
    if source.path.startswith(NO_ASIO):
        for line, _, included in source.includes():
            if included.startswith("boost/asio"):
                folder = next(f for f in NO_ASIO if source.path.startswith(f))
                yield Finding(source.path, line, "asio", f"no Asio in {folder}")


def threads(source: Source) -> Iterator[Finding]:
    if not source.path.startswith(NO_THREADS):
        return
    for line, _, included in source.includes():
        if included in ("thread", "mutex", "shared_mutex", "condition_variable", "future"):
            yield Finding(source.path, line, "threads", f"<{included}> in a pure folder")
    for line in source.grep(r"std::(j?thread|(\w+_)?mutex|condition_variable\w*|async)\b"):
        yield Finding(source.path, line, "threads", "threads and locks in a pure folder")


def folder_of(path: str) -> str | None:
    fitting = [f for f in FOLDERS if path.startswith(f + "/")]
    return max(fitting, key=len) if fitting else None


def folders(source: Source) -> Iterator[Finding]:
    home = folder_of(source.path)
    if home is None:
        return
    for line, quote, included in source.includes():
        if quote != '"':
            continue
        if included.split("/")[0] not in OUR_TOP_FOLDERS:
            # "holdfast/..." is the public header folder of client/.
            if not (included.startswith("holdfast/") and home in ("client", "cli")):
                text = f'"{included}": our includes are full paths from the root'
                yield Finding(source.path, line, "folders", text)
            continue
        if included in SINGLE_HEADERS.get(home, ()):
            continue
        target = folder_of(included)
        if target is None or not any(
            target == allowed or target.startswith(allowed + "/") for allowed in FOLDERS[home]
        ):
            yield Finding(source.path, line, "folders", f'{home}/ may not include "{included}"')


def file_length(source: Source) -> Iterator[Finding]:
    if len(source.lines) > MAX_FILE_LINES:
        text = f"{len(source.lines)} lines; the limit is {MAX_FILE_LINES}"
        yield Finding(source.path, len(source.lines), "file-length", text)


_NO_FUNCTION = re.compile(r"^\s*(if|for|while|switch|catch|do|else|return|namespace|extern)\b")
_TYPE = re.compile(r"\b(namespace|class|struct|union|enum|extern)\b[^()=;]*$")


def _head(code: str, brace: int) -> str:
    """The declaration before an opening brace."""
    start = max(code.rfind(c, 0, brace) for c in ";{}")
    head = code[start + 1 : brace]
    return re.sub(r"(?m)^\s*#.*$|\b(public|private|protected)\s*:(?!:)", "", head).strip()


def function_length(source: Source) -> Iterator[Finding]:
    """Measures each outermost brace pair that is no namespace, type or initialiser."""
    stack: list[tuple[int, bool]] = []
    inside = 0
    for match in re.finditer(r"[{}]", source.code):
        if match[0] == "{":
            head = _head(source.code, match.start())
            # An initialiser of a constructor's list is a brace too; it is short, so it does no harm.
            function = inside == 0 and "(" in head and not (
                _TYPE.search(head) or _NO_FUNCTION.match(head)
            )
            inside += function
            stack.append((match.start(), bool(function)))
        elif stack:
            start, function = stack.pop()
            if function:
                inside -= 1
                lines = source.code.count("\n", start, match.start()) + 1
                if lines > MAX_FUNCTION_LINES:
                    text = f"{lines} lines; the limit is {MAX_FUNCTION_LINES}"
                    yield Finding(source.path, source.line_of(start), "function-length", text)


def raw_post(source: Source) -> Iterator[Finding]:
    if source.path in OFFLOAD:
        return
    for line in source.grep(r"(?<![\w.>])(?:(?:boost::)?asio::)?(post|defer|dispatch)\s*\((?!\s*\))"):
        if "asio" in source.code and not re.search(
            r"\b(void|auto|bool)\s+(post|defer|dispatch)\s*\(", source.code_lines[line - 1]
        ):
            text = "use Offload of common/offload.h: a plain post does not leave the io thread"
            yield Finding(source.path, line, "post", text)


def detached(source: Source) -> Iterator[Finding]:
    for line in source.grep(r"\basio::detached\b|\bdetached\s*[);,]|[.>]detach\s*\("):
        yield Finding(source.path, line, "detached", "every coroutine and thread is joined: TaskGroup")


def environment(source: Source) -> Iterator[Finding]:
    allowed = re.search(r"config_load[^/]*$", source.path)
    if allowed or source.path.startswith(FREE_FOLDERS):
        return
    for line in source.grep(r"\b(secure_)?getenv\s*\("):
        yield Finding(source.path, line, "getenv", "only config_load reads it: hand the value on")


def _statements(code: str) -> Iterator[tuple[int, str]]:
    """Full expressions that hold co_await: from the last ; { } before it to the ; after it."""
    for match in re.finditer(r"\bco_await\b", code):
        start = match.start()
        depth = 0
        while start > 0:
            char = code[start - 1]
            if char in ")]":
                depth += 1
            elif char in "([":
                depth -= 1
            elif char in ";}" and depth <= 0:
                break
            elif char == "{" and depth <= 0 and not re.search(r"[\w(,=]\s*$", code[: start - 1]):
                break
            elif char == "{" and depth <= 0 and re.search(
                r"(\)|\belse|\bdo|\btry|\bconst|\bnoexcept|\bmutable)\s*$", code[: start - 1]
            ):
                break
            start -= 1
        end = match.end()
        depth = 0
        while end < len(code):
            char = code[end]
            if char in "([{":
                depth += 1
            elif char in ")]}":
                depth -= 1
                # The end of a condition such as `if (co_await x) {`, or of an enclosing block.
                if char == "}" and depth < 0 or char == ")" and depth < 0 and re.match(
                    r"\)\s*\{", code[end:]
                ):
                    break
            elif char == ";" and depth <= 0:
                break
            end += 1
        yield match.start(), code[start:end]


def co_await(source: Source) -> Iterator[Finding]:
    """R1: GCC 12 frees such temporaries twice."""
    seen: set[tuple[int, str]] = set()
    for offset, statement in _statements(source.code):
        line = source.line_of(offset)
        found = []
        if re.search(r"(?<![\w\])])\[\s*[^\]\[\s][^\]\[]*\]\s*(\(|\{|mutable\b)", statement):
            found.append("capturing lambda")
        if re.search(r"[(,]\s*(?:[A-Za-z_][\w:]*(?:<[^;<>]*>)?)?\s*\{\s*[^}\s]", statement):
            found.append("braced temporary")
        for what in found:
            if (line, what) not in seen:
                seen.add((line, what))
                text = f"{what} in a statement with co_await: name it on the line above, then std::move"
                yield Finding(source.path, line, "co-await", text)


def proto_fields(source: Source) -> Iterator[Finding]:
    """A field says unit, range or when it is set; bodies of a oneof say it at their message."""
    if not source.path.endswith(".proto"):
        return
    for number, line in enumerate(source.lines, 1):
        field = re.match(r"\s+(?:repeated\s+)?[\w.]+ \w+ = \d+;\s*(//.*)?$", line)
        above = source.lines[number - 2].strip()
        in_oneof = line.startswith("    ")
        if field and not field[1] and not above.startswith("//") and not in_oneof:
            yield Finding(source.path, number, "proto-field", "a field without a comment")


# Text files of ours that are no C++: only their length, and what is said of fields, is checked.
OTHER_SUFFIXES = (".py", ".proto", ".bazel", ".bzl", ".sh")
TEXT_RULES = [file_length, proto_fields]


RULES: list[Callable[[Source], Iterator[Finding]]] = [
    third_party,
    asio,
    threads,
    folders,
    file_length,
    function_length,
    raw_post,
    detached,
    environment,
    co_await,
    proto_fields,
]


def check(path: str, text: str) -> list[Finding]:
    """All findings in one file, given by its path from the root."""
    source = Source(path, text)
    findings = []
    for rule in TEXT_RULES if path.endswith(OTHER_SUFFIXES) else RULES:
        for finding in rule(source):
            line = source.lines[finding.line - 1] if finding.line <= len(source.lines) else ""
            if f"lint: allow({finding.rule})" not in line:
                findings.append(finding)
    return sorted(findings, key=lambda f: (f.line, f.rule))


def repository_files() -> list[str]:
    """Files with rules that git tracks or would track."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.split("\0")
    return sorted({f for f in listed if f.endswith(SUFFIXES + OTHER_SUFFIXES) and (ROOT / f).is_file()})


def main(arguments: list[str]) -> int:
    files = arguments or repository_files()
    findings = [f for path in files for f in check(path, (ROOT / path).read_text())]
    for finding in findings:
        print(finding)
    print(f"lint rules: {len(files)} files, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
