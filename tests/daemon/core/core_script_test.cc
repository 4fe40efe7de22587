// Every file of scripts/ is a test of its name.  To record the output anew:
//   HOLDFAST_REWRITE=1 bazel run //tests/daemon/core:core_script_test

#include "tests/daemon/core/core_script.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <gtest/gtest.h>

namespace holdfast::daemon {
namespace {

namespace fs = std::filesystem;

constexpr char kFolder[] = "tests/daemon/core/scripts";

bool Rewriting() {
  return std::getenv("HOLDFAST_REWRITE") != nullptr;  // NOLINT(concurrency-mt-unsafe): one thread
}

fs::path Folder() {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
  const char* workspace = std::getenv("BUILD_WORKSPACE_DIRECTORY");
  return Rewriting() && workspace != nullptr ? fs::path(workspace) / kFolder : fs::path(kFolder);
}

std::vector<std::string> ScriptNames() {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(Folder(), error)) {
    if (entry.path().extension() == ".txt") {
      names.push_back(entry.path().stem().string());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

class CoreScriptTest : public ::testing::TestWithParam<std::string> {};

TEST_P(CoreScriptTest, DoesWhatItsScriptExpects) {
  const fs::path path = Folder() / (GetParam() + ".txt");
  std::ifstream file(path);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  ASSERT_FALSE(text.empty()) << path;
  const ScriptResult result = RunScriptText(text);
  for (const std::string& failure : result.failures) {
    if (!Rewriting() || failure.find("recorded:") == std::string::npos) {
      ADD_FAILURE() << failure;
    }
  }
  if (Rewriting()) {
    std::ofstream(path) << result.rewritten;
  }
}

INSTANTIATE_TEST_SUITE_P(Scripts,
                         CoreScriptTest,
                         ::testing::ValuesIn(ScriptNames()),
                         [](const auto& script) { return script.param; });

TEST(CoreScriptFolderTest, HasScripts) {
  EXPECT_GE(ScriptNames().size(), 5u);
}

}  // namespace
}  // namespace holdfast::daemon
