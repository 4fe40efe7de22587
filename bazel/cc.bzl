"""C++ rules of this repository: the native rules with our warnings, visibility and test habits."""

load("//bazel:optimize.bzl", "compile_options")

# The language standard is in .bazelrc (--cxxopt): here it would also reach .c files.
_COPTS = [
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wshadow",
    "-Wnon-virtual-dtor",
    "-Wthread-safety",
]

_VISIBILITY = ["//:__subpackages__"]

def holdfast_cc_library(name, srcs = [], hdrs = [], deps = [], copts = [], visibility = _VISIBILITY, **kwargs):
    """A library: one target for each unit. Includes are full paths from the workspace root."""
    more_copts, more_deps = compile_options(name, kwargs.get("testonly", False)) if srcs else ([], [])
    native.cc_library(
        name = name,
        srcs = srcs,
        hdrs = hdrs,
        deps = deps + more_deps,
        copts = _COPTS + more_copts + copts,
        visibility = visibility,
        **kwargs
    )

def holdfast_cc_binary(name, srcs, deps = [], copts = [], visibility = _VISIBILITY, **kwargs):
    """A program."""
    more_copts, more_deps = compile_options(name, kwargs.get("testonly", False))
    native.cc_binary(
        name = name,
        srcs = srcs,
        deps = deps + more_deps,
        copts = _COPTS + more_copts + copts,
        visibility = visibility,
        **kwargs
    )

def holdfast_cc_shared_library(
        name,
        srcs = [],
        deps = [],
        copts = [],
        linkopts = [],
        version_script = None,
        soname = None,
        visibility = _VISIBILITY,
        **kwargs):
    """A shared library that can be loaded on its own: its deps are linked in statically.

    Args:
      name: the file's name, ending in .so.
      srcs: sources; symbols that nobody references survive only in srcs or in deps with alwayslink = True.
      deps: libraries to link in.
      copts: further compiler options for srcs.
      linkopts: further linker options.
      version_script: a linker map file that says which symbols are visible.
      soname: DT_SONAME; the name itself if not given.
      visibility: as ever.
      **kwargs: handed to cc_binary.
    """
    if not name.endswith(".so"):
        fail("holdfast_cc_shared_library: %s must end in .so" % name)
    inputs = []
    options = ["-Wl,-soname," + (soname or name), "-Wl,-z,defs"]

    # Sanitizer runtimes leave undefined symbols in a shared library by design.
    sanitized = ["-Wl,-soname," + (soname or name)]
    if version_script:
        inputs = [version_script]
        script = ["-Wl,--version-script=$(location %s)" % version_script]
        options = options + script
        sanitized = sanitized + script
    more_copts, more_deps = compile_options(name, kwargs.get("testonly", False))
    native.cc_binary(
        name = name,
        srcs = srcs,
        deps = deps + more_deps,
        copts = _COPTS + more_copts + copts,
        additional_linker_inputs = inputs,
        linkopts = select({
            "//bazel:sanitize_mode": sanitized,
            "//conditions:default": options,
        }) + linkopts,
        linkshared = True,
        visibility = visibility,
        **kwargs
    )

def holdfast_cc_test(name, srcs, deps = [], copts = [], size = "small", tags = [], main = True, **kwargs):
    """A GoogleTest program; gtest, gmock and their main come by themselves.

    Args:
      name: the target's name.
      srcs: sources.
      deps: libraries under test.
      copts: further compiler options.
      size: Bazel's test size.
      tags: Bazel's tags; "tsan" adds the test to the ThreadSanitizer run of `make test`, "plain" to
        the run without a sanitizer, "once" leaves it there alone, "manual" keeps it out of //... .
      main: False if srcs hold a main function of their own.
      **kwargs: handed to cc_test (data, args, env, flaky, timeout, ...).
    """
    more_copts, more_deps = compile_options(name, test = True)
    native.cc_test(
        name = name,
        srcs = srcs,
        deps = deps + ["@sys//:gtest_main" if main else "@sys//:gmock"] + more_deps,
        copts = _COPTS + more_copts + copts,
        size = size,
        tags = tags,
        **kwargs
    )

def holdfast_cc_fuzz(name, srcs, deps = [], copts = [], corpus = [], size = "small", tags = [], data = [], **kwargs):
    """A program around LLVMFuzzerTestOneInput.

    Under --config=asan and fuzz it is a libFuzzer program (run it with tools/run_fuzz.sh). Else it is a test
    that feeds each corpus file, the empty input, and cuts of each file to the function once.

    Args:
      name: the target's name.
      srcs: sources that define LLVMFuzzerTestOneInput.
      deps: libraries under test.
      copts: further compiler options.
      corpus: files, say glob(["corpus/" + name + "/**"]).
      size: Bazel's test size.
      tags: Bazel's tags; "fuzz" is added.
      data: further run-time files.
      **kwargs: handed to cc_test.
    """
    more_copts, more_deps = compile_options(name)
    native.cc_test(
        name = name,
        srcs = srcs + select({
            "//bazel:fuzz_mode": [],
            "//conditions:default": ["//bazel:fuzz_replay_main.cc"],
        }),
        deps = deps + more_deps,
        copts = _COPTS + more_copts + copts,
        linkopts = select({
            "//bazel:fuzz_mode": ["-fsanitize=fuzzer"],
            "//conditions:default": [],
        }),
        # In both modes: files as arguments, each run once. A search is started by run_fuzz.sh.
        args = ["$(locations %s)" % c for c in corpus],
        data = data + corpus,
        size = size,
        tags = tags + ["fuzz"],
        **kwargs
    )

def holdfast_cc_bench(name, srcs, deps = [], copts = [], tags = [], main = True, **kwargs):
    """A Google Benchmark program; run all by `make bench`."""
    more_copts, more_deps = compile_options(name)
    native.cc_binary(
        name = name,
        srcs = srcs,
        deps = deps + ["@sys//:benchmark_main" if main else "@sys//:benchmark"] + more_deps,
        copts = _COPTS + more_copts + copts,
        tags = tags + ["bench"],
        visibility = _VISIBILITY,
        testonly = True,
        **kwargs
    )
