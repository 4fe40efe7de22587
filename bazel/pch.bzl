"""A precompiled header, made with the flags of the configuration that it is used in."""

load("@bazel_tools//tools/build_defs/cc:action_names.bzl", "ACTION_NAMES")
load("@bazel_tools//tools/cpp:toolchain_utils.bzl", "find_cpp_toolchain")

def _cc_pch_impl(ctx):
    toolchain = find_cpp_toolchain(ctx)
    features = cc_common.configure_features(
        ctx = ctx,
        cc_toolchain = toolchain,
        requested_features = ctx.features,
        unsupported_features = ctx.disabled_features,
    )
    output = ctx.actions.declare_file(ctx.label.name + ".pch")
    defines = []
    for dep in ctx.attr.deps:
        defines += dep[CcInfo].compilation_context.defines.to_list()

    # The source is a header of the system, as all the others: of one of ours the sandbox's path
    # would be recorded, and users of the result would be told that they do not declare it.
    flags = ctx.fragments.cpp.copts + ctx.fragments.cpp.cxxopts + ctx.attr.copts
    for header in ctx.attr.headers:
        flags = flags + ["-include", header]
    variables = cc_common.create_compile_variables(
        feature_configuration = features,
        cc_toolchain = toolchain,
        user_compile_flags = flags + ["-xc++-header", "-Xclang", "-fno-pch-timestamp"],
        source_file = "/usr/include/stdc-predef.h",
        output_file = output.path,
        use_pic = True,
        preprocessor_defines = depset(defines),
    )
    ctx.actions.run(
        executable = cc_common.get_tool_for_action(
            feature_configuration = features,
            action_name = ACTION_NAMES.cpp_compile,
        ),
        arguments = cc_common.get_memory_inefficient_command_line(
            feature_configuration = features,
            action_name = ACTION_NAMES.cpp_compile,
            variables = variables,
        ),
        # The compiler looks at no such variable: it is here for the action's key.
        env = dict(
            cc_common.get_environment_variables(
                feature_configuration = features,
                action_name = ACTION_NAMES.cpp_compile,
                variables = variables,
            ),
            SYSTEM_HEADERS = ctx.var.get("system_headers", ""),
        ),
        inputs = toolchain.all_files,
        outputs = [output],
        mnemonic = "CppPrecompile",
        progress_message = "Compiling %s beforehand" % ctx.label,
    )

    # As a header of its users: it lies where they are compiled.
    context = cc_common.create_compilation_context(headers = depset([output]))
    return [DefaultInfo(files = depset([output])), CcInfo(compilation_context = context)]

cc_pch = rule(
    implementation = _cc_pch_impl,
    attrs = {
        "copts": attr.string_list(doc = "Further options; those of its users must be the same."),
        "deps": attr.label_list(providers = [CcInfo], doc = "Whose defines are set."),
        "headers": attr.string_list(doc = "System headers."),
        "_cc_toolchain": attr.label(default = Label("@bazel_tools//tools/cpp:current_cc_toolchain")),
    },
    fragments = ["cpp"],
    toolchains = ["@bazel_tools//tools/cpp:toolchain_type"],
    doc = "Makes <name>.pch; a target that depends on it says -include-pch $(BINDIR)/<package>/<name>.pch.",
)
