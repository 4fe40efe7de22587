#include "client/slot_table.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

namespace holdfast::client {
namespace {

std::shared_ptr<SlotMapping> Memory() {
  transport::OwnedFd fd(::memfd_create("slot", MFD_CLOEXEC));
  EXPECT_EQ(::ftruncate(fd.Get(), 4096), 0);
  return SlotMapping::Map(std::move(fd), 4096).value();
}

class SlotTableTest : public testing::Test {
 protected:
  void Grant(SlotRef ref, std::uint32_t layout = 1) {
    ASSERT_FALSE(table_.AddGranted(ref, layout, Memory(), &dropped_).has_error());
    table_.MarkReady(ref);
  }

  google::protobuf::RepeatedPtrField<proto::HeldSlot> Kept(std::vector<SlotRef> refs) {
    google::protobuf::RepeatedPtrField<proto::HeldSlot> kept;
    for (const SlotRef& ref : refs) {
      kept.Add()->set_slot(ref.slot);
      kept.rbegin()->set_generation(ref.generation);
    }
    return kept;
  }

  SlotTable table_;
  SlotTable::Mappings dropped_;
};

TEST_F(SlotTableTest, OnlyAReadySlotOfTheLayoutIsTaken) {
  ASSERT_FALSE(table_.AddGranted({1, 1}, 1, Memory(), &dropped_).has_error());
  EXPECT_FALSE(table_.Take(1, 4096, 5).has_value()) << "page tables are not made yet";
  table_.MarkReady({1, 1});
  EXPECT_FALSE(table_.Take(2, 4096, 5).has_value()) << "another layout's header stands in it";
  EXPECT_FALSE(table_.Take(1, 4097, 5).has_value()) << "the image does not fit";
  EXPECT_EQ(table_.Take(1, 4096, 5), (SlotRef{1, 1}));
  EXPECT_FALSE(table_.Take(1, 4096, 6).has_value()) << "taken already";
}

TEST_F(SlotTableTest, GrantWithoutDescriptorNeedsAMapping) {
  EXPECT_EQ(table_.GrantAgain({1, 1}, 1).error().code, Errc::kCorruption);
  Grant({1, 1});
  (void)table_.Take(1, 4096, 5);
  ASSERT_NE(table_.MarkLent({1, 1}, 5), nullptr);
  ASSERT_NE(table_.GrantAgain({1, 1}, 2).value(), nullptr);
  table_.MarkReady({1, 1});
  EXPECT_TRUE(table_.Take(2, 4096, 6).has_value());
}

TEST_F(SlotTableTest, GrantOfASlotInUseIsRefusedOrIgnored) {
  Grant({1, 1});
  (void)table_.Take(1, 4096, 5);
  EXPECT_EQ(table_.AddGranted({1, 1}, 1, Memory(), &dropped_).error().code, Errc::kCorruption);
  EXPECT_EQ(table_.GrantAgain({1, 1}, 1).value(), nullptr);
  EXPECT_FALSE(table_.Take(1, 4096, 6).has_value()) << "it still belongs to step 5";
}

TEST_F(SlotTableTest, ReplacedFileDropsTheOldMapping) {
  Grant({1, 1});
  (void)table_.Take(1, 4096, 5);
  (void)table_.MarkLent({1, 1}, 5);
  Grant({1, 2});
  EXPECT_EQ(dropped_.size(), 1U);
  EXPECT_EQ(table_.MappingOf({1, 1}), nullptr);
  EXPECT_EQ(table_.Take(1, 4096, 6), (SlotRef{1, 2}));
}

TEST_F(SlotTableTest, LateAnswerOfAnOldStepDoesNotLendTheSlotOfANewOne) {
  Grant({1, 1});
  (void)table_.Take(1, 4096, 5);
  (void)table_.MarkLent({1, 1}, 5);
  (void)table_.GrantAgain({1, 1}, 1);
  table_.MarkReady({1, 1});
  EXPECT_EQ(table_.MarkLent({1, 1}, 5), nullptr);
  EXPECT_TRUE(table_.Take(1, 4096, 6).has_value());
  EXPECT_EQ(table_.MarkLent({1, 1}, 5), nullptr);
}

TEST_F(SlotTableTest, ClientVouchesForAllThatItMayWrite) {
  Grant({1, 1});
  Grant({2, 1});
  Grant({3, 1});
  Grant({4, 1});
  (void)table_.Take(1, 4096, 5);
  (void)table_.Take(1, 4096, 6);
  (void)table_.Take(1, 4096, 7);
  table_.MarkDraining({2, 1}, 6);
  (void)table_.MarkLent({3, 1}, 7);
  const auto held = table_.Held(1);
  ASSERT_EQ(held.size(), 3U);
  EXPECT_EQ(held[0].use(), proto::HeldSlot::FILLING);
  EXPECT_EQ(held[0].step(), 5);
  EXPECT_EQ(held[1].use(), proto::HeldSlot::DRAINING);
  EXPECT_EQ(held[1].step(), 6);
  EXPECT_EQ(held[2].slot(), 4U);
  EXPECT_EQ(held[2].use(), proto::HeldSlot::IDLE);
}

// L: or the daemon takes it for one of the new layout, and the client waits for a grant of that.
TEST_F(SlotTableTest, AnIdleSlotOfAnotherLayoutIsNotVouchedFor) {
  Grant({1, 1});
  Grant({2, 1});
  (void)table_.Take(1, 4096, 5);
  const auto held = table_.Held(2);
  ASSERT_EQ(held.size(), 1U);
  EXPECT_EQ(held[0].use(), proto::HeldSlot::FILLING);
}

TEST_F(SlotTableTest, OnlyWhatTheDaemonKeptStays) {
  Grant({1, 1});
  Grant({2, 1});
  Grant({3, 1});
  (void)table_.Take(1, 4096, 5);
  table_.KeepOnly(Kept({{1, 1}, {2, 1}, {9, 9}}), 1, 4, &dropped_);
  EXPECT_EQ(table_.Size(), 2U);
  EXPECT_EQ(dropped_.size(), 1U);
  EXPECT_EQ(table_.Take(4, 4096, 6), (SlotRef{2, 1})) << "the layout has a new generation";
}

TEST_F(SlotTableTest, DaemonThatGrantsWithoutEndIsNotFollowed) {
  for (std::uint32_t i = 0; i < SlotTable::kMaxSlots; ++i) {
    Grant({i, 1});
  }
  EXPECT_EQ(table_.AddGranted({999, 1}, 1, Memory(), &dropped_).error().code, Errc::kCorruption);
}

}  // namespace
}  // namespace holdfast::client
