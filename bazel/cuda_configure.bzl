"""Finds CUDA on this machine: the repository @cuda.

Looked at in this order: $CUDA_HOME, /usr/local/cuda, and the folder that `make deps` made (cuda.bazelrc
hands it over as HOLDFAST_CUDA). The first that has headers, the static runtime and nvcc is taken, else
the first that lacks only nvcc, else none: then all targets are there and empty, and the build is CPU
only. HOLDFAST_CUDA=none asks for that.

@cuda//:defs.bzl says what was found:
  HAVE_CUDA      headers and the static runtime
  HAVE_NVCC      the compiler too
  CUDA_VERSION   such as "13.0"; "" without CUDA
  CUDA_REASON    what was found where, or why nothing was
"""

# cudaMemcpyBatchAsync and others have other signatures before.
_OLDEST = 13000

_VARIABLES = ["CUDA_HOME", "HOLDFAST_CUDA"]

_BUILD = """package(default_visibility = ["//visibility:public"])

exports_files(["defs.bzl"] + glob(["bin/nvcc"]))

filegroup(
    name = "headers",
    srcs = glob(["include/*.h", "include/*.hpp", "include/crt/**", "include/cooperative_groups/**", "include/nv/**"]),
)

# Headers only: which runtime is linked is decided where a program or shared library is made.
cc_library(
    name = "runtime_headers",
    hdrs = [":headers"],
    includes = ["include"],
)

# It loads the driver when it is first called, so a program that links it runs without a GPU.
cc_library(
    name = "cudart_static",
    srcs = glob(["lib/libcudart_static.a"]),
    linkopts = ["-ldl", "-lrt", "-lpthread"] if {have_cuda} else [],
)

filegroup(
    name = "nvcc_files",
    srcs = glob(["bin/**", "nvvm/**"]),
)
"""

_DEFS = """\"\"\"What bazel/cuda_configure.bzl found.\"\"\"

HAVE_CUDA = {have_cuda}
HAVE_NVCC = {have_nvcc}
CUDA_VERSION = "{version}"
CUDA_REASON = "{reason}"
"""

def _version(ctx, header):
    for line in ctx.read(header).split("\n"):
        words = [w for w in line.split(" ") if w]
        if words[:2] == ["#define", "CUDART_VERSION"]:
            return int(words[2])
    return 0

def _look_at(ctx, place):
    """Says what a folder has: a struct whose "why" is empty if it will do."""
    root = ctx.path(place)
    header = root.get_child("include").get_child("cuda_runtime_api.h")
    if not header.exists:
        return struct(why = "%s has no include/cuda_runtime_api.h" % place)
    version = _version(ctx, header)
    if version < _OLDEST:
        return struct(why = "%s has version %d, older than %d" % (place, version, _OLDEST))
    archives = [root.get_child(folder).get_child("libcudart_static.a") for folder in ["lib64", "lib"]]
    archives = [archive for archive in archives if archive.exists]
    if not archives:
        return struct(why = "%s has no libcudart_static.a" % place)
    tools = [root.get_child("bin").get_child("nvcc"), root.get_child("nvvm").get_child("bin").get_child("cicc")]
    return struct(
        why = "",
        place = place,
        root = root,
        archive = archives[0],
        version = "%d.%d" % (version // 1000, version % 1000 // 10),
        have_nvcc = all([tool.exists for tool in tools]),
    )

def _find(ctx):
    """Returns the folder to take, or None, and the reasons against the others."""
    places = [ctx.os.environ.get("CUDA_HOME", ""), "/usr/local/cuda", ctx.os.environ.get("HOLDFAST_CUDA", "")]
    if places[2] == "none":
        return None, "HOLDFAST_CUDA is none"
    looked = [_look_at(ctx, place) for place in places if place.startswith("/")]
    usable = [found for found in looked if not found.why]
    whole = [found for found in usable if found.have_nvcc]
    return (whole + usable + [None])[0], "; ".join([found.why for found in looked if found.why])

def _impl(ctx):
    found, why = _find(ctx)
    have_nvcc = bool(found) and found.have_nvcc
    version = ""
    reason = "no CUDA: " + why
    if found:
        ctx.symlink(found.root.get_child("include"), "include")
        ctx.symlink(found.archive, "lib/libcudart_static.a")
        version = found.version
        reason = "CUDA %s of %s" % (version, found.place)
        if have_nvcc:
            ctx.symlink(found.root.get_child("bin"), "bin")
            ctx.symlink(found.root.get_child("nvvm"), "nvvm")
        else:
            reason += ", without nvcc"
    ctx.file("BUILD.bazel", _BUILD.format(have_cuda = bool(found)), executable = False)
    ctx.file("defs.bzl", _DEFS.format(
        have_cuda = bool(found),
        have_nvcc = have_nvcc,
        version = version,
        reason = reason,
    ), executable = False)

cuda_configure = repository_rule(
    implementation = _impl,
    environ = _VARIABLES,
    local = True,
    configure = True,
    doc = "The repository @cuda.",
)
