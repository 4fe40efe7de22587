// What `holdfast --version` says of the build: which CUDA runtime it has, or that it has none.
#include "client/build_info.h"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "client/version.h"

namespace holdfast::client {
namespace {

TEST(BuildInfoTest, NamesTheCudaRuntimeOrSaysCpuOnly) {
  EXPECT_EQ(CopyEnginesOf("13.0", true), "host, cuda 13.0");
  EXPECT_EQ(CopyEnginesOf("12.8", false), "host, cuda 12.8 without device code");
  EXPECT_EQ(CopyEnginesOf("", false), "host (CPU only)");
}

TEST(BuildInfoTest, TheProgramSaysWhatBazelBuilt) {
  const std::unique_ptr<FILE, int (*)(FILE*)> program(::popen("cli/holdfast --version", "r"),
                                                      ::pclose);
  ASSERT_NE(program, nullptr);
  std::array<char, 4096> text{};
  const std::size_t got = std::fread(text.data(), 1, text.size(), program.get());
  const std::string said(text.data(), got);
  EXPECT_EQ(said.find("holdfast " + std::string(kVersion) + "\n"), 0U) << said;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody sets variables
  const std::string cuda = std::getenv("CUDA_OF_THIS_BUILD");
  const std::string engines = cuda.empty() ? "host (CPU only)" : "host, cuda " + cuda;
  EXPECT_NE(said.find("\ncopy engines: " + engines), std::string::npos) << said;
}

}  // namespace
}  // namespace holdfast::client
