#include "tests/support/golden_file.h"

#include <cstdlib>
#include <fstream>
#include <iterator>

#include <gtest/gtest.h>

namespace holdfast {

namespace {

std::string Read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path << " cannot be read";
  return {std::istreambuf_iterator<char>(file), {}};
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
