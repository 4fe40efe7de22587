"""Rules for code that uses CUDA; what there is of it on this machine says @cuda//:defs.bzl."""

load("@cuda//:defs.bzl", "HAVE_CUDA", "HAVE_NVCC")
load("//bazel:cc.bzl", "holdfast_cc_library")

# For target_compatible_with: without CUDA the target and all that need it are skipped.
CUDA_ONLY = [] if HAVE_CUDA else ["@platforms//:incompatible"]

# clang-14 is older than the compilers that nvcc was tried with by its makers, and works.
_NVCC = " ".join([
    "$(execpath @cuda//:bin/nvcc)",
    "-ccbin clang++-14 -allow-unsupported-compiler -std=c++20 -O3 -Xcompiler -fPIC --threads 2",
    "-gencode arch=compute_80,code=sm_80",
    "-gencode arch=compute_90,code=sm_90",
    # Newer devices translate it when they load it.
    "-gencode arch=compute_80,code=compute_80",
])

def holdfast_cuda_object(name, src, fallback, hdrs = [], deps = [], copts = [], **kwargs):
    """A library from one .cu file, the same object in every compilation mode, sanitizers included.

    It does not say which runtime serves its launches: who makes a program or a shared library adds
    @cuda//:cudart_static. "<name>_fallback" is the same library from the fallback, always: for tests on
    the simulated runtime, which launches no device code.

    Args:
      name: the target's name; includes come from the workspace root.
      src: the .cu file.
      fallback: a C++ file with the same functions, taken where there is no nvcc.
      hdrs: headers of the library. The .cu file may include these and CUDA's only.
      deps: libraries that hdrs or the fallback need.
      copts: further options of nvcc.
      **kwargs: handed to both libraries (testonly, visibility, ...).
    """
    testonly = kwargs.get("testonly", False)
    holdfast_cc_library(
        name = name + "_fallback",
        srcs = [fallback],
        hdrs = hdrs,
        deps = deps + ["@cuda//:runtime_headers"],
        target_compatible_with = CUDA_ONLY,
        **kwargs
    )
    if not HAVE_NVCC:
        holdfast_cc_library(name = name, deps = [":%s_fallback" % name], target_compatible_with = CUDA_ONLY, **kwargs)
        return
    native.genrule(
        name = name + "_nvcc",
        testonly = testonly,
        srcs = [src] + hdrs,
        outs = [name + ".pic.o"],
        cmd = "%s -I. %s -c $(execpath %s) -o $@" % (_NVCC, " ".join(copts), src),
        tools = ["@cuda//:bin/nvcc", "@cuda//:nvcc_files", "@cuda//:headers"],
        message = "Compiling with nvcc",
    )
    holdfast_cc_library(
        name = name,
        srcs = [name + ".pic.o"],
        hdrs = hdrs,
        deps = deps + ["@cuda//:runtime_headers"],
        **kwargs
    )
