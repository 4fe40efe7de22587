// The NUMA node that the kernel gives for a GPU, read from a folder in place of sysfs.
#include "client/copy_cuda/numa_node.h"

#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "client/copy_engine.h"
#include "tests/support/cuda_sim/cuda_sim.h"

namespace holdfast::client {
namespace {

class NumaNodeTest : public testing::Test {
 protected:
  void SetUp() override {
    cuda_sim::Options options;
    options.devices = 11;
    cuda_sim::Reset(options);
  }

  // What the kernel says of a device.
  void Say(const std::string& bus_id, const std::string& text) const {
    const std::string folder = sysfs_ + "/bus/pci/devices/" + bus_id;
    std::filesystem::create_directories(folder);
    std::ofstream(folder + "/numa_node") << text;
  }

  const std::string sysfs_ = testing::TempDir() + "/sysfs";
};

TEST_F(NumaNodeTest, IsThatOfTheDevicesPciAddress) {
  Say("0000:10:00.0", "1\n");
  Say("0000:1a:00.0", "3\n");  // the runtime says 1A
  EXPECT_EQ(NumaNodeOf(0, sysfs_), 1);
  EXPECT_EQ(NumaNodeOf(10, sysfs_), 3);
}

TEST_F(NumaNodeTest, IsAnyWhereTheKernelDoesNotKnow) {
  Say("0000:11:00.0", "-1\n");
  Say("0000:12:00.0", "");
  Say("0000:13:00.0", "-7\n");
  Say("0000:14:00.0", "99999999999999\n");
  for (const std::int32_t device : {1, 2, 3, 4, 5}) {
    EXPECT_EQ(NumaNodeOf(device, sysfs_), kAnyNumaNode) << device;
  }
}

TEST_F(NumaNodeTest, ADeviceThatIsNotThereLeavesNoErrorBehind) {
  EXPECT_EQ(NumaNodeOf(77, sysfs_), kAnyNumaNode);
  EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);
}

}  // namespace
}  // namespace holdfast::client
