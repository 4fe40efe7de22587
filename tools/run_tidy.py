#!/usr/bin/env python3
"""Runs clang-tidy over C++ files and remembers the clean ones.

A file's key is the content of the file, of all our headers it includes (transitively; .proto files for
generated ones), of .clang-tidy and the tool's version. Clean keys are empty files in the cache, shared
between clones; a file with findings is always run again, so that they are printed.

Files that the last commit or the working tree changed come first.

Exit codes: 0 all clean; 1 findings; 75 no findings, but the budget did not reach all files.
"""

import argparse
import concurrent.futures
import functools
import hashlib
import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "holdfast/tidy"
TIDY = "clang-tidy-14"
SKIPPED = 75
# What the targets of bazel/third_party/sys.BUILD define; clang-tidy needs the same view of headers.
FLAGS = [
    "-std=c++20",
    "-iquote.",
    "-Iclient/include",
    "-DBOOST_ASIO_SEPARATE_COMPILATION",
    "-DBOOST_ASIO_NO_DEPRECATED",
    "-DBOOST_ASIO_DISABLE_BOOST_DATE_TIME",
    "-DBOOST_ASIO_DISABLE_BOOST_REGEX",
    "-DSPDLOG_COMPILED_LIB",
    "-DSPDLOG_SHARED_LIB",
    "-DSPDLOG_FMT_EXTERNAL",
    "-DTOML_HEADER_ONLY=1",
    "-DTOML_EXCEPTIONS=0",
    # client/BUILD.bazel says them of the build at hand.
    '-DHOLDFAST_CUDA_VERSION="12.0"',
    "-DHOLDFAST_DEVICE_CODE=1",
]
# And what one file is built with.
OWN_FLAGS = {"tests/client/copy_cuda/engine_mutation_test.cc": ["-DHOLDFAST_CUDA_MUTATIONS"]}

# The folders that tools/lint_rules.py lets include CUDA.
NEEDS_CUDA = re.compile(r"(tests/)?client/copy_cuda/|tests/support/cuda_|bench/gpu/")


@functools.cache
def _read(path: str) -> tuple[bytes, tuple[str, ...]]:
    """A file's digest and its quoted includes; an unknown file (a generated header) has none."""
    proto = re.sub(r"\.pb\.h$", ".proto", path)
    for candidate in (path, proto, f"client/include/{path}"):
        if (ROOT / candidate).is_file():
            text = (ROOT / candidate).read_bytes()
            includes = re.findall(rb'^\s*(?:#\s*include|import)\s*[<"]([^">]+)[">]', text, re.M)
            return hashlib.sha256(text).digest(), tuple(i.decode() for i in includes)
    return b"", ()


def key(path: str, base: bytes) -> str:
    """The digest of everything of ours that the result depends on."""
    digest = hashlib.sha256(base + path.encode())
    seen = {path}
    todo = [path]
    while todo:
        content, includes = _read(todo.pop())
        digest.update(content)
        for include in includes:
            if include not in seen:
                seen.add(include)
                todo.append(include)
    return digest.hexdigest()


def tidy(path: str, flags: list[str]) -> tuple[bool, str]:
    language = ["-xc++"] if path.endswith(".h") else []
    done = subprocess.run(
        [TIDY, "--quiet", path, "--", *flags, *language],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    errors = "".join(line + "\n" for line in done.stderr.splitlines() if "error" in line)
    return done.returncode == 0, done.stdout + (errors if done.returncode else "")


def changed() -> set[str]:
    """Files of ours that differ from the commit before the last; empty where git cannot say."""
    names = subprocess.run(
        ["git", "diff", "--name-only", "HEAD~1"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    return set(names.stdout.split())


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bazel-bin", default="bazel-bin", help="where generated headers lie")
    parser.add_argument("--cuda-include", default="", help="the folder of CUDA's headers, if any")
    parser.add_argument("--budget", type=float, default=0, help="seconds; 0 is no limit")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("files", nargs="*")
    return parser.parse_args()


def main() -> int:
    options = parse_arguments()
    CACHE.mkdir(parents=True, exist_ok=True)
    version = subprocess.run([TIDY, "--version"], check=True, stdout=subprocess.PIPE).stdout
    flags = [*FLAGS, f"-iquote{options.bazel_bin}"]
    if pathlib.Path(options.cuda_include, "cuda_runtime_api.h").is_file():
        flags.append(f"-isystem{options.cuda_include}")
    else:
        options.files = [f for f in options.files if not NEEDS_CUDA.match(f)]
    base = version + (ROOT / ".clang-tidy").read_bytes() + " ".join(FLAGS).encode()
    files = [f for f in options.files if f.endswith((".cc", ".cpp"))]
    keys = {path: key(path, base) for path in files}
    todo = [path for path in files if not (CACHE / keys[path]).exists()]
    first = changed()
    todo.sort(key=lambda path: path not in first)
    deadline = time.monotonic() + (options.budget or float("inf"))
    failed, skipped = [], []

    def one(path: str) -> None:
        if time.monotonic() > deadline:
            skipped.append(path)
            return
        clean, output = tidy(path, [*flags, *OWN_FLAGS.get(path, [])])
        if clean:
            (CACHE / keys[path]).touch()
        else:
            failed.append(path)
            print(output, end="", flush=True)

    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(one, todo))
    print(
        f"clang-tidy: {len(files)} files, {len(files) - len(todo)} known clean,"
        f" {len(failed)} with findings"
        + (f", {len(skipped)} not reached in {options.budget:.0f} s" if skipped else "")
        + (": make lint looks at all" if skipped else "")
    )
    return 1 if failed else SKIPPED if skipped else 0


if __name__ == "__main__":
    sys.exit(main())
