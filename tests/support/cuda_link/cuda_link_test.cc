// A library with device code and the static runtime loads without a driver, and says so when
// called.
#include <string>

#include <dlfcn.h>
#include <gtest/gtest.h>

#include "tests/support/cuda_link/probe.h"
#include "tests/support/whole_file.h"

namespace holdfast {
namespace {

TEST(CudaLink, LoadsWithoutADriverAndSaysWhatIsMissing) {
  void* library = dlopen("tests/support/cuda_link/libcuda_link_probe.so", RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(library, nullptr);
  const auto device_count =
      reinterpret_cast<decltype(&ProbeDeviceCount)>(dlsym(library, "ProbeDeviceCount"));
  const auto add_one = reinterpret_cast<decltype(&ProbeAddOne)>(dlsym(library, "ProbeAddOne"));
  ASSERT_NE(device_count, nullptr);
  ASSERT_NE(add_one, nullptr);

  int count = -1;
  const int error = device_count(&count);
  if (error == cudaSuccess) {
    GTEST_SKIP() << "this machine has a device";
  }
  EXPECT_TRUE(error == cudaErrorInsufficientDriver || error == cudaErrorNoDevice) << error;
  EXPECT_NE(add_one(nullptr, 1, nullptr), cudaSuccess);
}

TEST(CudaLink, NeedsNoSharedRuntime) {
  const std::string bytes = WholeFile("tests/support/cuda_link/libcuda_link_probe.so");
  ASSERT_FALSE(bytes.empty());
  EXPECT_EQ(bytes.find("libcudart.so"), std::string::npos);
}

}  // namespace
}  // namespace holdfast
