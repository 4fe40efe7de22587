#include "tests/support/golden_file.h"

#include <cstdlib>
#include <fstream>

#include <gtest/gtest.h>

#include "tests/support/whole_file.h"

namespace holdfast {

namespace {

std::string Read(const std::string& path) {
  std::string text = WholeFile(path);
  EXPECT_FALSE(text.empty()) << path << " cannot be read";
  return text;
}

}  // namespace

std::string GoldenFile(const std::string& name) {
  return Read("tests/golden/" + name);
}

std::string GoldenFile(const std::string& name, const std::string& now) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): tests read the environment from one thread
  const char* const root = std::getenv("HOLDFAST_REWRITE_GOLDEN");
  if (root == nullptr) {
    return GoldenFile(name);
  }
  const std::string path = std::string(root) + "/tests/golden/" + name;
  std::ofstream(path, std::ios::binary) << now;
  return Read(path);
}

}  // namespace holdfast
