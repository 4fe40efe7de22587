"""How each package is compiled for editing and testing: what is optimised, and what is precompiled.

Where the compiler takes longer than what it makes would run, nothing is optimised; a sanitizer makes
the optimiser's work twice as long.  --config=opt, which is shipped and measured, knows none of this,
so that every file is also compiled with its own includes alone.
"""

_COMPILED_LONGER_THAN_RUN = ["cli", "daemon", "tests", "transport"]
_SO_UNDER_SANITIZERS = ["bench", "client", "common", "storage_tiers"]

# Its own load on the processor is what takes the time.
_HOT = [
    "client/copy_cuda",
    "daemon/core",
    "tests/client/copy_cuda",
    "tests/daemon/core",
    "tests/sim",
    "tests/support",
]
_HOT_TARGETS = [
    "client:chunk_copy",
    "client:copy_host",
    "client:source_sample",
    "client:stream_copy",
    "tests/client:random_state",
    "tests/ec:reference",
]

# What most files include, by way of our headers. A file still names all that it uses: --config=opt
# and clang-tidy compile it without these.
PRECOMPILED = [
    "algorithm",
    "chrono",
    "cstdint",
    "cstring",
    "deque",
    "fstream",
    "functional",
    "map",
    "memory",
    "optional",
    "set",
    "span",
    "sstream",
    "string",
    "thread",
    "unordered_map",
    "utility",
    "variant",
    "vector",
    "boost/outcome/basic_result.hpp",
    "boost/outcome/try.hpp",
    "google/protobuf/extension_set.h",
    "google/protobuf/generated_enum_reflection.h",
    "google/protobuf/generated_message_util.h",
    "google/protobuf/map_entry.h",
    "google/protobuf/map_field_inl.h",
    "google/protobuf/message.h",
    "google/protobuf/repeated_field.h",
]

PRECOMPILED_FOR_TESTS = ["gmock/gmock.h"]

# Whoever includes these links Asio, so they are for packages of coroutines alone.
PRECOMPILED_FOR_COROUTINES = [
    "boost/asio/any_io_executor.hpp",
    "boost/asio/as_tuple.hpp",
    "boost/asio/awaitable.hpp",
    "boost/asio/io_context.hpp",
    "boost/asio/post.hpp",
    "boost/asio/steady_timer.hpp",
    "boost/asio/this_coro.hpp",
    "boost/asio/use_awaitable.hpp",
]
_COROUTINES = ["daemon", "tests/daemon"]
_PURE = ["daemon/core", "tests/daemon/core"]

def _in(folders):
    package = native.package_name()
    return any([package == f or package.startswith(f + "/") for f in folders])

def _level(name, sanitized):
    folders = _COMPILED_LONGER_THAN_RUN + (_SO_UNDER_SANITIZERS if sanitized else [])
    hot = _in(_HOT) or native.package_name() + ":" + name in _HOT_TARGETS
    return "-O0" if _in(folders) and not hot else "-O1"

def precompiled(test, coroutines):
    """The headers, in their order."""
    return (PRECOMPILED +
            (PRECOMPILED_FOR_COROUTINES if coroutines else []) +
            (PRECOMPILED_FOR_TESTS if test else []))

def pch_name(level, test, coroutines):
    # With the list in it: Bazel does not see which files have used which headers of which list.
    return "pch%s-%d" % (level, hash(",".join(precompiled(test, coroutines))))

def _uses(level, test):
    coroutines = _in(_COROUTINES) and not _in(_PURE)
    name = pch_name(level, test, coroutines)
    deps = ["//bazel:" + name] + (["//bazel:coroutines"] if coroutines else [])
    return [level, "-include-pch", "$(BINDIR)/bazel/%s.pch" % name], deps

def compile_options(name, test = False):
    """The options and deps of a target of this package.

    Args:
      name: of the target.
      test: whether it uses GoogleTest.

    Returns:
      copts and deps, both made by select().
    """
    usual, sanitized = _uses(_level(name, False), test), _uses(_level(name, True), test)
    return [
        select({
            "//bazel:opt_mode": [],
            "//bazel:sanitize_mode": sanitized[i],
            "//conditions:default": usual[i],
        })
        for i in (0, 1)
    ]
