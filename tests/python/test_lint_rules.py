"""Each rule of tools/lint_rules.py fails on bad input and passes its nearest good neighbour."""

import pathlib
import re
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))

import lint_rules  # noqa: E402


def rules_found(path: str, text: str) -> list[str]:
    return [finding.rule for finding in lint_rules.check(path, text)]


BAD = [
    ("third-party", "daemon/x.cc", "#include <rocksdb/db.h>\n"),
    ("third-party", "daemon/x.cc", "#include <liburing.h>\n"),
    ("third-party", "daemon/x.cc", "#include <nlohmann/json.hpp>\n"),
    ("third-party", "daemon/x.cc", "#include <spdlog/spdlog.h>\n"),
    ("third-party", "daemon/core/x.cc", "#include <toml++/toml.h>\n"),
    ("third-party", "storage_tiers/x.cc", "#include <prometheus/counter.h>\n"),
    ("third-party", "daemon/main.cc", "#include <CLI/CLI.hpp>\n"),
    ("third-party", "layout/x.cc", "#include <isa-l/crc.h>\n"),
    ("third-party", "client/copy_host.cc", "#include <cuda_runtime_api.h>\n"),
    ("third-party", "client/copy_cuda.cc", "#include <cuda_runtime_api.h>\n"),
    ("third-party", "client/session.h", "#include <driver_types.h>\n"),
    ("third-party", "client/checksum.cu", "#include <cuda_runtime.h>\n"),
    ("third-party", "tests/client/session_test.cc", "#include <cuda.h>\n"),
    ("third-party", "bench/copy_bench.cc", "#include <cooperative_groups.h>\n"),
    ("third-party", "transport/frame.cc", "#include <rdma/fabric.h>\n"),
    ("third-party", "daemon/x.cc", "#include <openssl/ssl.h>\n"),
    ("third-party", "cli/x.cc", "#include <boost/asio/ssl/context.hpp>\n"),
    ("asio", "ec/codec.h", "#include <boost/asio/post.hpp>\n"),
    ("asio", "client/session.cc", "#include <boost/asio/io_context.hpp>\n"),
    ("asio", "daemon/core/x.cc", "#include <boost/asio/awaitable.hpp>\n"),
    ("threads", "ec/x.cc", "std::mutex mu;\n"),
    ("threads", "layout/x.cc", "#include <thread>\n"),
    ("threads", "daemon/core/x.cc", "std::jthread t;\n"),
    ("folders", "common/x.cc", '#include "proto/client.pb.h"\n'),
    ("folders", "ec/x.cc", '#include "layout/image.h"\n'),
    ("folders", "transport/x.cc", '#include "storage_tiers/arena.h"\n'),
    ("folders", "daemon/core/x.cc", '#include "daemon/session.h"\n'),
    ("folders", "daemon/core/x.cc", '#include "storage_tiers/arena.h"\n'),
    ("folders", "client/x.cc", '#include "daemon/core/action.h"\n'),
    ("folders", "cli/x.cc", '#include "daemon/config_keys.h"\n'),
    ("folders", "client/x.cc", '#include "daemon/config.h"\n'),
    ("folders", "common/x.cc", '#include "tests/support/clock.h"\n'),
    ("folders", "common/x.cc", '#include "units.h"\n'),
    ("file-length", "common/x.cc", "int a;\n" * 401),
    ("function-length", "common/x.cc", "void F(int a) {\n" + "  G();\n" * 60 + "}\n"),
    ("function-length", "common/x.h", "class A {\n public:\n  int F() const {\n" + "G();\n" * 60 + "}\n};\n"),
    ("post", "daemon/x.cc", "co_await asio::post(pool, asio::use_awaitable);\n"),
    ("post", "daemon/x.cc", "using namespace asio;\npost(pool, work);\n"),
    ("detached", "daemon/x.cc", "asio::co_spawn(io, Run(), asio::detached);\n"),
    ("detached", "daemon/x.cc", "thread.detach();\n"),
    ("file-length", "tools/x.py", "a\n" * 401),
    ("file-length", "proto/x.proto", "// a\n" * 401),
    ("file-length", "cli/BUILD.bazel", "# a\n" * 401),
    ("proto-field", "proto/x.proto", "message A {\n  repeated Box boxes = 1;\n}\n"),
    ("getenv", "common/failpoint.cc", 'std::getenv("HOLDFAST_FAILPOINTS");\n'),
    ("getenv", "daemon/x.cc", 'auto* v = std::getenv("HOME");\n'),
    ("co-await", "daemon/x.cc", "co_await F([x] { return x; });\n"),
    ("co-await", "daemon/x.cc", "auto v = co_await F([&a, b = std::move(b)](int i) { return i; });\n"),
    ("co-await", "daemon/x.cc", "CO_TRY(auto v, co_await f([x]{ return x; }));\n"),
    ("co-await", "daemon/x.cc", "co_await F(Options{.a = 1});\n"),
    ("co-await", "daemon/x.cc", "co_await F(1, {a, b});\n"),
    ("co-await", "daemon/x.cc", "Task<int> F() {\n  G();\n  co_return co_await\n      H(ns::Agg{a});\n}\n"),
]

GOOD = [
    ("storage_tiers/catalog.cc", "#include <rocksdb/db.h>\n"),
    ("storage_tiers/uring_writer.cc", "#include <liburing.h>\n"),
    ("common/log.cc", "#include <spdlog/spdlog.h>\n"),
    ("common/crc32c.cc", "#include <isa-l/crc.h>\n"),
    ("transport/tls.cc", "#include <openssl/ssl.h>\n"),
    ("client/copy_cuda/engine.cc", "#include <cuda_runtime_api.h>\n"),
    ("client/copy_cuda/checksum.cu", "#include <cuda_runtime.h>\n"),
    ("tests/client/copy_cuda/engine_test.cc", "#include <cuda_runtime_api.h>\n"),
    ("tests/support/cuda_sim/stream.cc", "#include <driver_types.h>\n"),
    ("bench/gpu/copy.cc", "#include <cuda_runtime_api.h>\n"),
    ("client/session.cc", '#include "client/copy_cuda/copy_cuda.h"\n'),
    ("tests/client/x_test.cc", '#include "tests/support/cuda_sim/cuda_sim.h"\n'),
    ("tests/common/x_test.cc", '#include <nlohmann/json.hpp>\n#include "daemon/session.h"\n'),
    ("daemon/x.cc", "#include <boost/asio/post.hpp>\n"),
    ("daemon/x.cc", "// #include <rocksdb/db.h>\n/* asio::detached */\n"),
    ("daemon/core/x.cc", '#include "daemon/core/action.h"\n#include "ec/params.h"\n'),
    ("daemon/core/x.cc", '#include "storage_tiers/catalog_batch.h"\n'),
    ("cli/x.cc", '#include "daemon/config.h"\n'),
    ("daemon/session.cc", '#include "daemon/core/action.h"\n'),
    ("client/x.cc", '#include "client/include/holdfast/client.h"\n#include "holdfast/holdfast.h"\n'),
    ("ec/x.cc", 'const char* kText = "std::mutex";\n'),
    ("common/x.cc", "int a;\n" * 400),
    ("common/x.cc", "void F(int a) {\n" + "  G();\n" * 58 + "}\n"),
    ("common/x.cc", "namespace a {\n" + "void F() { G(); }\n" * 100 + "}\n"),
    ("common/offload.h", "co_await asio::post(asio::bind_executor(pool, asio::use_awaitable));\n"),
    ("daemon/x.cc", "using asio::awaitable;\nqueue.post(job);\n"),
    ("tools/x.py", "import os\nos.getenv('A')  # std::mutex\n"),
    ("proto/x.proto", "message A {\n  uint32 a = 1;  // from 0\n  oneof body {\n    A b = 2;\n  }\n}\n"),
    ("daemon/config_load.cc", 'std::getenv("HOME");\n'),
    ("daemon/x.cc", "auto f = [x] { return x; };\nco_await F(std::move(f));\n"),
    ("daemon/x.cc", "co_await F([] { return 1; });\n"),
    ("daemon/x.cc", "if (co_await F(a)) {\n  G(Options{1});\n}\n"),
    ("daemon/x.cc", "Task<int> F(int a) {\n  auto v = co_await G(b[i]);\n  H({v});\n}\n"),
    ("daemon/x.cc", "auto v = co_await F(std::vector<int>{});\n"),
    ("daemon/x.cc", "asio::co_spawn(io, Run(), asio::detached);  // lint: allow(detached) a test of it\n"),
]


@pytest.mark.parametrize(("rule", "path", "text"), BAD)
def test_bad_input_is_found(rule: str, path: str, text: str) -> None:
    assert rule in rules_found(path, text)


@pytest.mark.parametrize(("path", "text"), GOOD)
def test_good_input_passes(path: str, text: str) -> None:
    assert rules_found(path, text) == []


def test_every_rule_has_bad_input() -> None:
    # Each rule's name as it is printed; a new rule needs a line in BAD.
    source = pathlib.Path(lint_rules.__file__).read_text()
    names = set(re.findall(r'Finding\(source\.path, .*?, "([a-z-]+)"', source))
    assert len(lint_rules.RULES) == len(names)
    assert names == {rule for rule, _, _ in BAD}
