// Slots on a real arena: headers, digests, quarantine, and clients that cut files.

#include "daemon/slot_store.h"

#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>
#include <unistd.h>

#include "common/crc32c.h"
#include "common/task_group.h"
#include "daemon/digest.h"
#include "layout/image.h"
#include "tests/common/run_coroutine.h"
#include "tests/support/temp_folder.h"

namespace holdfast::daemon {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using std::chrono::seconds;
using storage_tiers::Arena;
using tests::RunCoroutine;

class SlotStoreTest : public testing::Test {
 protected:
  SlotStoreTest() {
    storage_tiers::ArenaOptions options;
    options.folder = folder_;
    options.budget_bytes = 256 * kMiB;
    arena_ = Arena::Open(options).value();
    slots_ = std::make_unique<SlotStore>(*arena_, pool_);
  }

  static SharedLayout MakeLayout() {
    std::vector<layout::TensorSpec> specs(1);
    specs[0].name = "weights";
    specs[0].dtype = proto::U8;
    specs[0].global_shape = {3 * kMiB + 17};
    specs[0].local_shape = specs[0].global_shape;
    specs[0].tensor_class = proto::STABLE;
    return std::make_shared<const proto::Layout>(layout::PlanImage(specs).value());
  }

  SharedSlot Prepare(SlotRef slot) {
    const Status status =
        RunCoroutine(io_, slots_->Prepare(slot, layout_->dynamic_image_bytes(), true, layout_));
    EXPECT_TRUE(status.has_value()) << status.error().ToString();
    return slots_->Find(slot).value();
  }

  [[nodiscard]] bool FileExists(SlotRef slot) const {
    const storage_tiers::SlotName name{slot.slot, slot.generation};
    return std::filesystem::exists(folder_ + "/slots/" + name.ToString());
  }

  TempFolder temp_;
  const std::string folder_ = temp_.path();
  asio::io_context io_{1};
  WorkerPool pool_{"test", 2};
  std::unique_ptr<Arena> arena_;
  std::unique_ptr<SlotStore> slots_;
  const SharedLayout layout_ = MakeLayout();
};

TEST_F(SlotStoreTest, APreparedSlotBeginsWithTheHeaderOfItsLayout) {
  const SharedSlot slot = Prepare({1, 1});
  const std::string header = layout::BuildImageHeader(*layout_, proto::DYNAMIC).value();
  EXPECT_EQ(std::memcmp(slot->view().data(), header.data(), header.size()), 0);
}

TEST_F(SlotStoreTest, ASlotThatCannotBeMadeIsNotThere) {
  const Status status = RunCoroutine(io_, slots_->Prepare({1, 1}, kGiB, true, layout_));
  EXPECT_FALSE(status.has_value());
  EXPECT_FALSE(slots_->Find({1, 1}).has_value());
  EXPECT_FALSE(FileExists({1, 1}));
}

TEST_F(SlotStoreTest, RemovalTakesTheNameAndReadersKeepTheBytes) {
  const SharedSlot slot = Prepare({1, 1});
  EXPECT_TRUE(RunCoroutine(io_, slots_->Remove({1, 1})).has_value());
  EXPECT_FALSE(FileExists({1, 1}));
  EXPECT_FALSE(slots_->Find({1, 1}).has_value());
  EXPECT_EQ(slot->view()[layout_->dynamic_image_bytes() - 1], std::byte{0});
}

TEST_F(SlotStoreTest, DigestsInPiecesAreThoseOfTheWhole) {
  const SharedSlot slot = Prepare({1, 1});
  for (std::size_t i = 8'192; i < slot->capacity(); i += 7) {
    slot->mutable_view()[i] = static_cast<std::byte>(i);
  }
  const ByteCount length = layout_->dynamic_image_bytes();
  const auto digests = RunCoroutine(io_, DigestSlotBytes(pool_, slot, length));
  EXPECT_EQ(digests.value(), ChunkDigests(slot->view().first(length)));
  auto expected = digests.value();
  EXPECT_TRUE(RunCoroutine(io_, VerifySlotBytes(pool_, slot, 0, length, expected)).value().empty());
  slot->mutable_view()[kMiB + 5] ^= std::byte{1};
  const auto bad = RunCoroutine(io_, VerifySlotBytes(pool_, slot, 0, length, expected));
  EXPECT_EQ(bad.value(), std::vector<std::uint64_t>({1}));
  const auto first = RunCoroutine(io_, VerifySlotBytes(pool_, slot, 0, kMiB, {expected[0]}));
  EXPECT_TRUE(first.value().empty());
  const std::vector<std::uint32_t> tail(expected.begin() + 1, expected.end());
  const auto rest = RunCoroutine(io_, VerifySlotBytes(pool_, slot, 1, length - kMiB, tail));
  EXPECT_EQ(rest.value(), std::vector<std::uint64_t>({1})) << "counted from the start of the slot";
  expected.pop_back();
  EXPECT_FALSE(RunCoroutine(io_, VerifySlotBytes(pool_, slot, 0, length, expected)).has_value());
  EXPECT_FALSE(
      RunCoroutine(io_, VerifySlotBytes(pool_, slot, ~0ULL / kMiB, kMiB, {0})).has_value());
}

TEST_F(SlotStoreTest, MoreBytesThanTheSlotHasAreRefused) {
  const SharedSlot slot = Prepare({1, 1});
  EXPECT_FALSE(RunCoroutine(io_, DigestSlotBytes(pool_, slot, slot->capacity() + 1)).has_value());
}

// Design section 11: the daemon lives, the digest fails (I5).
TEST_F(SlotStoreTest, AFileThatAClientCutsIsCorruptionNotADeath) {
  const SharedSlot slot = Prepare({1, 1});
  const auto fd = slot->OpenReadWriteFd().value();
  ASSERT_EQ(::ftruncate(fd.get(), 0), 0);
  const auto digests =
      RunCoroutine(io_, DigestSlotBytes(pool_, slot, layout_->dynamic_image_bytes()));
  ASSERT_FALSE(digests.has_value());
  EXPECT_EQ(digests.error().code, Errc::kCorruption);
}

// I7: the name stays as long as somebody may write, so that a restart finds and counts the file.
TEST_F(SlotStoreTest, AQuarantinedFileGoesWhenItsLastUserDoes) {
  auto fd = std::make_unique<storage_tiers::Descriptor>(Prepare({1, 1})->OpenReadWriteFd().value());
  std::vector<SlotRef> released;
  TaskGroup tasks(io_.get_executor(), "watch", 1);
  slots_->Quarantine({1, 1});
  ASSERT_TRUE(tasks.Spawn(
      slots_->WatchQuarantine(milliseconds(1), [&](SlotRef slot) { released.push_back(slot); })));
  EXPECT_FALSE(RunCoroutine(io_, tasks.Join(milliseconds(100))));
  EXPECT_TRUE(released.empty());
  EXPECT_TRUE(FileExists({1, 1}));
  EXPECT_FALSE(slots_->Find({1, 1}).has_value());
  fd.reset();
  const auto deadline = std::chrono::steady_clock::now() + seconds(20);
  while (released.empty() && std::chrono::steady_clock::now() < deadline) {
    (void)RunCoroutine(io_, tasks.Join(milliseconds(5)));
  }
  EXPECT_EQ(released, std::vector<SlotRef>({SlotRef{1, 1}}));
  EXPECT_FALSE(FileExists({1, 1}));
  tasks.Stop();
  EXPECT_TRUE(RunCoroutine(io_, tasks.Join(seconds(10))));
}

}  // namespace
}  // namespace holdfast::daemon
