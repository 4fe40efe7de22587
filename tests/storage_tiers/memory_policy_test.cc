// On which NUMA node slots are made, with system calls of the test's own: machines with several
// nodes are rare where tests run.
#include "storage_tiers/memory_policy.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "storage_tiers/arena.h"
#include "tests/storage_tiers/arena_test_support.h"
#include "tests/support/temp_folder.h"

namespace holdfast::storage_tiers {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr int kPreferred = 1;        // MPOL_PREFERRED
constexpr unsigned kOfAddress = 2U;  // MPOL_F_ADDR

class FakePolicy final : public MemoryPolicy {
 public:
  struct Call {
    std::size_t bytes = 0;
    std::int32_t node = 0;
    bool untouched = false;  // no page of the mapping was there yet
  };

  [[nodiscard]] std::vector<std::int32_t> Nodes() const override { return nodes; }

  [[nodiscard]] Status Prefer(MutableByteView mapping, std::int32_t node) const override {
    std::vector<unsigned char> present(mapping.size() / static_cast<std::size_t>(::getpagesize()));
    EXPECT_EQ(::mincore(mapping.data(), mapping.size(), present.data()), 0);
    const bool untouched = std::none_of(
        present.begin(), present.end(), [](unsigned char page) { return (page & 1U) != 0; });
    calls.push_back({mapping.size(), node, untouched});
    return fails ? Status(ErrnoError(EPERM, "mbind")) : Status(Ok());
  }

  std::vector<std::int32_t> nodes = {0, 1};
  bool fails = false;
  mutable std::vector<Call> calls;
};

class SlotPlacementTest : public ::testing::Test {
 protected:
  // A slot made for a client that named "node".
  void Create(std::int32_t node) {
    ArenaOptions options{folder_.path() + "/arena", 64 * kMiB, 2};
    options.memory_policy = policy_;
    if (arena_ == nullptr) {
      arena_ = Arena::Open(options).value();
    }
    const auto slot = arena_->CreateSlot({++made_, 1}, kMiB, never_, node);
    ASSERT_TRUE(slot) << slot.error().ToString();
    EXPECT_EQ(slot.value()->capacity(), kMiB);
  }

  TempFolder folder_;
  std::shared_ptr<FakePolicy> policy_ = std::make_shared<FakePolicy>();
  std::unique_ptr<Arena> arena_;
  std::uint32_t made_ = 0;
  std::atomic<bool> never_{false};
};

TEST_F(SlotPlacementTest, TheNodeIsPreferredForAllOfASlotBeforeItsFirstPage) {
  Create(1);
  Create(0);
  ASSERT_EQ(policy_->calls.size(), 2U);
  EXPECT_EQ(policy_->calls[0].node, 1);
  EXPECT_EQ(policy_->calls[1].node, 0);
  for (const FakePolicy::Call& call : policy_->calls) {
    EXPECT_EQ(call.bytes, kMiB);
    EXPECT_TRUE(call.untouched);
  }
}

TEST_F(SlotPlacementTest, NothingIsCalledOnAMachineOfOneNodeOrWithoutAWish) {
  Create(kAnyNode);
  policy_->nodes = {0};
  arena_.reset();
  Create(0);
  policy_->nodes = {};
  arena_.reset();
  Create(0);
  EXPECT_THAT(policy_->calls, IsEmpty());
}

// The number is a client's word.
TEST_F(SlotPlacementTest, ANodeThatIsNotThereIsIgnoredAndToldOnce) {
  policy_->nodes = {0, 2};
  ::testing::internal::CaptureStdout();
  for (const std::int32_t node : {-2, 1, 3, 1024, 1 << 30, INT32_MIN, INT32_MAX}) {
    Create(node);
  }
  const std::string log = ::testing::internal::GetCapturedStdout();
  EXPECT_THAT(policy_->calls, IsEmpty());
  const auto first = log.find("arena.numa");
  EXPECT_NE(first, std::string::npos) << log;
  EXPECT_NE(log.find("node -2"), std::string::npos) << log;
  EXPECT_EQ(log.find("arena.numa", first + 1), std::string::npos) << log;
}

TEST_F(SlotPlacementTest, APolicyThatIsRefusedCostsNoSlotAndIsToldOnce) {
  policy_->fails = true;
  ::testing::internal::CaptureStdout();
  Create(1);
  Create(1);
  const std::string log = ::testing::internal::GetCapturedStdout();
  EXPECT_EQ(policy_->calls.size(), 2U);
  const auto first = log.find("mbind");
  EXPECT_NE(first, std::string::npos) << log;
  EXPECT_EQ(log.find("mbind", first + 1), std::string::npos) << log;
}

TEST(ParseNodesTest, ReadsWhatSysfsWrites) {
  EXPECT_THAT(ParseNodes("0"), ElementsAre(0));
  EXPECT_THAT(ParseNodes("0-2,8"), ElementsAre(0, 1, 2, 8));
  for (const char* const text : {"", "x", "-1", "0-", "0,,1", "1024", "0-99999999999", "0 1"}) {
    EXPECT_THAT(ParseNodes(text), IsEmpty()) << text;
  }
}

// The call itself, as far as one node allows: the file has the policy afterwards, seen through
// another mapping of it.
TEST(SystemMemoryPolicyTest, ThePolicyIsTheFilesOwn) {
  const TempFolder folder;
  const Descriptor file(
      ::open((folder.path() + "/file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_EQ(::ftruncate(file.get(), kMiB), 0);
  const auto map = [&] {
    void* const address = ::mmap(nullptr, kMiB, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    EXPECT_NE(address, MAP_FAILED);
    return MutableByteView(static_cast<std::byte*>(address), kMiB);
  };
  const MutableByteView view = map();
  const std::vector<std::int32_t> nodes = SystemMemoryPolicy()->Nodes();
  if (nodes.empty()) {
    GTEST_SKIP() << "this kernel shows no NUMA nodes";
  }
  const Status placed = SystemMemoryPolicy()->Prefer(view, nodes.back());
  if (placed.has_error()) {
    GTEST_SKIP() << "not allowed here: " << placed.error().ToString();
  }
  const MutableByteView other = map();
  int mode = -1;
  unsigned long mask[16] = {};
  const long got = ::syscall(SYS_get_mempolicy, &mode, mask, 16 * 64 + 1, other.data(), kOfAddress);
  if (got != 0) {
    GTEST_SKIP() << "get_mempolicy is not allowed here";
  }
  EXPECT_EQ(mode, kPreferred);
  EXPECT_EQ(mask[0], 1UL << nodes.back());
  ::munmap(view.data(), view.size());
  ::munmap(other.data(), other.size());
}

}  // namespace
}  // namespace holdfast::storage_tiers
