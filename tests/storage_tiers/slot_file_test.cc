#include "storage_tiers/slot_file.h"

#include <atomic>
#include <cstring>
#include <limits>
#include <memory>
#include <string>

#include <gtest/gtest.h>
#include <sys/mman.h>

#include "storage_tiers/arena.h"
#include "tests/storage_tiers/arena_test_support.h"
#include "tests/support/temp_folder.h"

namespace holdfast::storage_tiers {
namespace {

constexpr ByteCount kCapacity = kMiB;

class SlotFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Result<std::unique_ptr<Arena>> arena = Arena::Open({folder_.path() + "/arena", 64 * kMiB, 2});
    ASSERT_TRUE(arena) << arena.error().ToString();
    arena_ = std::move(arena).value();
  }

  std::shared_ptr<SlotFile> Create(SlotName name) {
    return arena_->CreateSlot(name, kCapacity, never_).value();
  }

  TempFolder folder_;
  std::unique_ptr<Arena> arena_;
  std::atomic<bool> never_{false};
};

TEST_F(SlotFileTest, NamesAreReadBackAsTheyWereWritten) {
  for (const SlotName name : {SlotName{0, 0},
                              SlotName{7, 12},
                              SlotName{std::numeric_limits<std::uint32_t>::max(),
                                       std::numeric_limits<std::uint64_t>::max()}}) {
    EXPECT_EQ(SlotName::Parse(name.ToString()).value(), name);
  }
}

TEST_F(SlotFileTest, AnythingButOurNamesIsRefused) {
  for (const char* text : {"",
                           ".",
                           "..",
                           "1",
                           "1.",
                           ".1",
                           "01.1",
                           "1.01",
                           "-1.1",
                           "+1.1",
                           "1.1 ",
                           " 1.1",
                           "1.1.1",
                           "1.0x1",
                           "4294967296.1",
                           "1.18446744073709551616"}) {
    EXPECT_FALSE(SlotName::Parse(text)) << text;
  }
}

TEST_F(SlotFileTest, BytesWrittenThroughAClientsDescriptorAreSeenInTheView) {
  const auto slot = Create({1, 1});
  const Descriptor fd = slot->OpenReadWriteFd().value();

  ASSERT_EQ(::pwrite(fd.get(), "hello", 5, 4096), 5);

  EXPECT_EQ(AsText(slot->view().subspan(4096, 5)), "hello");
}

// I2: nobody but the live client that filled a slot can change it.
TEST_F(SlotFileTest, AReadOnlyDescriptorCannotChangeTheSlot) {
  const auto slot = Create({1, 1});
  const Descriptor fd = slot->OpenReadOnlyFd().value();

  EXPECT_EQ(::pwrite(fd.get(), "x", 1, 0), -1);
  EXPECT_EQ(::ftruncate(fd.get(), 0), -1);
  EXPECT_EQ(::fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
  EXPECT_EQ(::mmap(nullptr, kCapacity, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0),
            MAP_FAILED);
  void* const readable = ::mmap(nullptr, kCapacity, PROT_READ, MAP_SHARED, fd.get(), 0);
  ASSERT_NE(readable, MAP_FAILED);
  EXPECT_EQ(::mprotect(readable, kCapacity, PROT_READ | PROT_WRITE), -1);
  ::munmap(readable, kCapacity);
}

TEST_F(SlotFileTest, DescriptorsAreOpenedAlsoWhenTheNameIsGone) {
  const auto slot = Create({1, 1});
  ASSERT_TRUE(arena_->Remove({1, 1}));

  const Descriptor fd = slot->OpenReadOnlyFd().value();

  struct stat status = {};
  ASSERT_EQ(::fstat(fd.get(), &status), 0);
  EXPECT_EQ(status.st_ino, slot->identity().inode);
}

TEST_F(SlotFileTest, AClientThatTruncatesItsSlotPoisonsItOnly) {
  const auto victim = Create({1, 1});
  const auto other = Create({2, 1});
  const Descriptor fd = victim->OpenReadWriteFd().value();

  ASSERT_EQ(::ftruncate(fd.get(), 0), 0);
  EXPECT_EQ(victim->view()[0], std::byte{0});

  EXPECT_TRUE(victim->poisoned());
  EXPECT_FALSE(other->poisoned());
}

TEST_F(SlotFileTest, AMappingIsNotInheritedByForkedChildren) {
  const auto slot = Create({1, 1});
  const auto* const bytes = reinterpret_cast<const volatile char*>(slot->view().data());

  const pid_t pid = ::fork();
  if (pid == 0) {
    // What a sanitizer would print is not wanted.
    ::signal(SIGSEGV, SIG_DFL);
    (void)*bytes;
    ::_exit(0);
  }

  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV) << status;
}

// --- Quarantine
// -----------------------------------------------------------------------------------

struct Holding {
  bool descriptor;
  bool mapping;
  bool read_only;
  const char* name;
};

class QuarantineTest : public SlotFileTest, public ::testing::WithParamInterface<Holding> {};

// I7: what a dead client may still write to is never reused; it counts until nobody holds it.
TEST_P(QuarantineTest, AFileIsInUseExactlyWhileAnotherProcessHoldsIt) {
  const Holding holding = GetParam();
  auto slot = Create({1, 1});
  Descriptor handed_out =
      (holding.read_only ? slot->OpenReadOnlyFd() : slot->OpenReadWriteFd()).value();
  const int fd = handed_out.get();
  Child child(fd, [&] {
    if (holding.mapping) {
      const int protection = holding.read_only ? PROT_READ : PROT_READ | PROT_WRITE;
      if (::mmap(nullptr, kCapacity, protection, MAP_SHARED, fd, 0) == MAP_FAILED) {
        ::_exit(1);
      }
    }
    if (!holding.descriptor) {
      ::close(fd);
    }
  });
  handed_out = Descriptor();
  slot.reset();

  const QuarantinedFile file = arena_->Unlink({1, 1}).value();
  const bool held = holding.descriptor || holding.mapping;

  EXPECT_EQ(file.StillInUse().value(), held);
  EXPECT_EQ(file.StillInUse().value(), held) << "asking changes nothing";
  child.Kill();
  EXPECT_FALSE(file.StillInUse().value());
}

INSTANTIATE_TEST_SUITE_P(Holders,
                         QuarantineTest,
                         ::testing::Values(Holding{false, false, false, "Nothing"},
                                           Holding{true, false, false, "Descriptor"},
                                           Holding{false, true, false, "Mapping"},
                                           Holding{true, true, false, "Both"},
                                           Holding{true, false, true, "ReadOnlyDescriptor"},
                                           Holding{false, true, true, "ReadOnlyMapping"}),
                         [](const auto& info) { return info.param.name; });

TEST_F(SlotFileTest, AFileIsInUseWhileADescriptorTravelsInASocket) {
  auto slot = Create({1, 1});
  Descriptor handed_out = slot->OpenReadWriteFd().value();
  slot.reset();
  const QuarantinedFile file = arena_->Unlink({1, 1}).value();
  EXPECT_TRUE(file.StillInUse().value());

  handed_out = Descriptor();

  EXPECT_FALSE(file.StillInUse().value());
}

TEST_F(SlotFileTest, TheDaemonsOwnReaderKeepsAQuarantinedFileInUse) {
  auto reader = Create({1, 1});
  const QuarantinedFile file = arena_->Unlink({1, 1}).value();

  EXPECT_TRUE(file.StillInUse().value());
  reader.reset();
  EXPECT_FALSE(file.StillInUse().value());
}

TEST_F(SlotFileTest, AQuarantineKeepsTheNameUntilItIsRemoved) {
  (void)Create({1, 1});
  const QuarantinedFile file = arena_->Quarantine({1, 1}).value();

  EXPECT_EQ(arena_->ListFiles().value().files.size(), 1u);
  EXPECT_EQ(file.size(), kCapacity);
  EXPECT_FALSE(file.StillInUse().value());
  EXPECT_TRUE(arena_->Remove({1, 1}));
  EXPECT_TRUE(arena_->ListFiles().value().files.empty());
}

}  // namespace
}  // namespace holdfast::storage_tiers
