"""Protobuf to C++ by Debian's protoc."""

def _protos_label(dep):
    """The label of the .proto files behind a holdfast_proto_library."""
    if ":" in dep:
        return dep + "_protos"
    return dep + ":" + dep.split("/")[-1] + "_protos"

def holdfast_proto_library(name, srcs, deps = [], visibility = ["//:__subpackages__"]):
    """A cc library of the messages in srcs.

    Files include it as "<package>/<file>.pb.h"; .proto files import each other by the full path from
    the workspace root.

    Args:
      name: the cc library's name.
      srcs: .proto files of this package.
      deps: other holdfast_proto_library targets whose files srcs import.
      visibility: as ever.
    """
    headers = [s.replace(".proto", ".pb.h") for s in srcs]
    sources = [s.replace(".proto", ".pb.cc") for s in srcs]

    native.filegroup(
        name = name + "_protos",
        srcs = srcs + [_protos_label(d) for d in deps],
        visibility = visibility,
    )

    # The pragma makes the header a system header, so that our warnings do not reach into it.
    native.genrule(
        name = name + "_gen",
        srcs = srcs + [_protos_label(d) for d in deps],
        outs = headers + sources,
        cmd = "/usr/bin/protoc -I. --cpp_out=$(GENDIR) " +
              " ".join(["$(location %s)" % s for s in srcs]) +
              " && sed -i '1i #pragma GCC system_header' " +
              " ".join(["$(location %s)" % h for h in headers]),
        tags = ["proto_gen"],
        visibility = visibility,
    )

    native.cc_library(
        name = name,
        srcs = sources,
        hdrs = headers,
        # A sanitizer makes the optimiser's work on generated code three times as long.
        copts = ["-std=c++20", "-w"] + select({
            "//bazel:sanitize_mode": ["-O0"],
            "//conditions:default": [],
        }),
        deps = deps + ["@sys//:protobuf"],
        visibility = visibility,
    )
