#include "storage_tiers/arena_checks.h"

#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "storage_tiers/uring_descriptor.h"
#include "tests/storage_tiers/arena_test_support.h"
#include "tests/support/temp_folder.h"

namespace holdfast::storage_tiers {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr ArenaSpace kTmpfs{ArenaFileSystem::kTmpfs, 4096, 8 * kGiB, 8 * kGiB};

class ArenaChecksTest : public ::testing::Test {
 protected:
  void Put(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    WriteFile(root_ + path, text);
  }

  TempFolder folder_;
  const std::string root_ = folder_.path();
};

TEST_F(ArenaChecksTest, ABudgetThatFitsNeedsNoWarning) {
  EXPECT_THAT(CheckArenaSpace("/a", kTmpfs, 8 * kGiB, 0).value(), IsEmpty());
}

// I9: a budget that can never be used is refused at start, with both numbers.
TEST_F(ArenaChecksTest, AFileSystemSmallerThanTheBudgetIsAnErrorWithBothNumbers) {
  const auto refused = CheckArenaSpace("/a", kTmpfs, 8 * kGiB + 1, 0);

  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kNoSpace);
  EXPECT_THAT(refused.error().message,
              AllOf(HasSubstr("8589934592"), HasSubstr("8589934593"), HasSubstr("size=")));
}

TEST_F(ArenaChecksTest, SpaceThatOthersTookIsAWarning) {
  ArenaSpace space = kTmpfs;
  space.free = 2 * kGiB;

  EXPECT_THAT(CheckArenaSpace("/a", space, 8 * kGiB, 6 * kGiB).value(), IsEmpty());
  EXPECT_THAT(CheckArenaSpace("/a", space, 8 * kGiB, 5 * kGiB).value(),
              ElementsAre(HasSubstr("2.00 GiB free")));
}

TEST_F(ArenaChecksTest, OurOwnFilesMayExceedALoweredBudget) {
  EXPECT_THAT(CheckArenaSpace("/a", kTmpfs, kGiB, 4 * kGiB).value(), IsEmpty());
}

TEST_F(ArenaChecksTest, ADiskAndAMountWithoutLimitAreWarnings) {
  ArenaSpace space;
  space.type = ArenaFileSystem::kOther;

  EXPECT_THAT(CheckArenaSpace("/a", space, kGiB, 0).value(),
              ElementsAre(HasSubstr("neither tmpfs"), HasSubstr("no size limit")));
}

TEST_F(ArenaChecksTest, TheFileSystemIsRecognised) {
  const Descriptor memory(::open("/dev/shm", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const Descriptor other(::open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC));

  EXPECT_EQ(ReadArenaSpace(memory.get()).value().type, ArenaFileSystem::kTmpfs);
  EXPECT_EQ(ReadArenaSpace(memory.get()).value().page_bytes, 4096u);
  EXPECT_EQ(ReadArenaSpace(other.get()).value().type, ArenaFileSystem::kOther);
}

TEST_F(ArenaChecksTest, TheLowestLimitOfAllParentGroupsCounts) {
  Put("/proc/self/cgroup", "0::/system.slice/holdfastd.service\n");
  Put("/sys/fs/cgroup/system.slice/holdfastd.service/memory.max", "max\n");
  EXPECT_EQ(CgroupMemoryLimit(root_), std::nullopt);

  Put("/sys/fs/cgroup/system.slice/memory.max", "1073741824\n");
  EXPECT_EQ(CgroupMemoryLimit(root_), kGiB);

  Put("/sys/fs/cgroup/system.slice/holdfastd.service/memory.max", "1048576\n");
  EXPECT_EQ(CgroupMemoryLimit(root_), kMiB);
}

TEST_F(ArenaChecksTest, AContainerSeesItsGroupAsTheRoot) {
  Put("/proc/self/cgroup", "0::/\n");
  Put("/sys/fs/cgroup/memory.max", "2097152\n");

  EXPECT_EQ(CgroupMemoryLimit(root_), 2 * kMiB);
}

TEST_F(ArenaChecksTest, VersionOneLimitsAreReadToo) {
  Put("/proc/self/cgroup", "9:cpu,cpuacct:/\n4:memory:/pod/x\n0::/\n");
  Put("/sys/fs/cgroup/memory/pod/memory.limit_in_bytes", "4194304\n");
  Put("/sys/fs/cgroup/memory/pod/x/memory.limit_in_bytes", "9223372036854771712\n");

  EXPECT_EQ(CgroupMemoryLimit(root_), 4 * kMiB);
}

TEST_F(ArenaChecksTest, MalformedFilesAreNoLimit) {
  Put("/proc/self/cgroup", "\n:\n::\n0:memory\n4:memory:relative\nxx");
  Put("/proc/meminfo", "MemTotal: lots\n");

  EXPECT_EQ(CgroupMemoryLimit(root_), std::nullopt);
  EXPECT_EQ(NodeMemory(root_), std::nullopt);
  EXPECT_THAT(CheckMemory(root_, kGiB), IsEmpty());
}

TEST_F(ArenaChecksTest, LessMemoryThanBudgetIsAWarningThatSaysSo) {
  Put("/proc/self/cgroup", "0::/a\n");
  Put("/sys/fs/cgroup/a/memory.max", "1073741824\n");
  Put("/proc/meminfo", "MemTotal:        2097152 kB\nMemFree: 1 kB\n");

  EXPECT_THAT(CheckMemory(root_, kGiB), IsEmpty());
  EXPECT_THAT(CheckMemory(root_, 2 * kGiB), ElementsAre(HasSubstr("cgroup")));
  EXPECT_THAT(CheckMemory(root_, 3 * kGiB),
              ElementsAre(HasSubstr("cgroup"), HasSubstr("the node")));
}

}  // namespace
}  // namespace holdfast::storage_tiers
