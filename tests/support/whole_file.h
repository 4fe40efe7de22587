// A file's contents at once; iterators over its characters would take a thousand times as long in a
// build that is not optimised.
#pragma once

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>

namespace holdfast {

// Empty where it cannot be read.
[[nodiscard]] inline std::string WholeFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

}  // namespace holdfast
