// Real transfers on the file system of the tests: every tail, both queues, with and without
// O_DIRECT.
#include "storage_tiers/uring_io.h"

#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/bandwidth_budget.h"
#include "common/crc32c.h"
#include "storage_tiers/file_system_verify.h"
#include "storage_tiers/posix_file_system.h"
#include "storage_tiers/uring_queue.h"
#include "tests/support/temp_folder.h"
#include "tests/support/unique_name.h"

namespace holdfast::storage_tiers {
namespace {

// A page-aligned mapping, as a slot is.
class Mapping {
 public:
  explicit Mapping(std::size_t size) : size_(size), length_(AlignUp(size + 1, kDirectAlignment)) {
    memory_ = ::mmap(nullptr, length_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT_NE(memory_, MAP_FAILED);
  }

  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  ~Mapping() { ::munmap(memory_, length_); }

  MutableByteView view() { return {static_cast<std::byte*>(memory_), size_}; }

  void FillWithPattern() {
    std::uint32_t x = 12345;
    for (std::byte& b : view()) {
      x = x * 1664525 + 1013904223;
      b = static_cast<std::byte>(x >> 24);
    }
  }

 private:
  const std::size_t size_;
  const std::size_t length_;
  void* memory_;
};

constexpr std::size_t kSizes[] = {
    0, 1, 4095, 4096, 4097, kMiB - 1, kMiB, kMiB + 1, 4 * kMiB + 4096 + 7, 9 * kMiB + 5};

class UringIoTest : public ::testing::TestWithParam<std::tuple<std::size_t, bool, bool>> {};

TEST_P(UringIoTest, WhatWasWrittenIsReadBackWithItsExactLength) {
  const auto [size, uring, direct] = GetParam();
  PosixFileSystem fs({.allow_direct = direct, .allow_uring = uring});
  const TempFolder temp(TempFolder::Where::kTestTmpdir);
  const std::string& folder = temp.path();
  const std::string path = JoinPath(folder, "image");
  Mapping source(size);
  source.FillWithPattern();
  const auto digests = ChunkDigests(source.view());

  const Status written = VerifyingWrite(fs, path, source.view(), digests, {});
  ASSERT_TRUE(written) << written.error().ToString();

  EXPECT_EQ(fs.Stat(path).value().size_bytes, size);
  const std::string plain = ReadSmallFile(fs, path, 100 * kMiB).value();
  EXPECT_TRUE(plain == AsText(source.view()));
  Mapping destination(size);
  std::vector<std::uint64_t> bad;
  const Status read = VerifyingRead(fs, path, destination.view(), digests, {}, &bad);
  ASSERT_TRUE(read) << read.error().ToString();
  EXPECT_TRUE(AsText(destination.view()) == AsText(source.view()));
  // A test of a way that was not gone is no test.
  if (fs.uring_refused()) {
    GTEST_SKIP() << "no io_uring here: only pread and pwrite were tried";
  }
  if (fs.direct_refused()) {
    GTEST_SKIP() << "no O_DIRECT on this file system: only the page cache was tried";
  }
}

TEST(UringFallbackTest, AFileSystemSaysThatItMovedAnImageTheSlowWay) {
  const TempFolder temp(TempFolder::Where::kTestTmpdir);
  const std::string& folder = temp.path();
  PosixFileSystem by_choice({.allow_direct = false, .allow_uring = false});
  Mapping source(kMiB);
  ASSERT_TRUE(by_choice.WriteImage(JoinPath(folder, "a"), source.view(), {}));
  EXPECT_FALSE(by_choice.uring_refused());
  EXPECT_FALSE(by_choice.direct_refused());

  PosixFileSystem fs;
  const std::string in_memory = tests::UniqueName("/dev/shm/holdfast-test");
  ASSERT_TRUE(fs.WriteImage(in_memory, source.view(), {}));
  ASSERT_TRUE(fs.Unlink(in_memory));
  const int probe = ::open("/dev/shm", O_TMPFILE | O_RDWR | O_DIRECT, 0600);
  EXPECT_EQ(fs.direct_refused(), probe < 0) << "tmpfs takes no O_DIRECT before Linux 6.6";
  if (probe >= 0) {
    ::close(probe);
  }
}

INSTANTIATE_TEST_SUITE_P(Tails,
                         UringIoTest,
                         ::testing::Combine(::testing::ValuesIn(kSizes),
                                            ::testing::Bool(),
                                            ::testing::Bool()),
                         [](const auto& info) {
                           return std::to_string(std::get<0>(info.param)) +
                                  (std::get<1>(info.param) ? "Uring" : "Calls") +
                                  (std::get<2>(info.param) ? "Direct" : "Cached");
                         });

class UringVerifyTest : public ::testing::Test {
 protected:
  std::string Path() const { return JoinPath(folder_, "image"); }

  PosixFileSystem fs_;
  const TempFolder temp_{TempFolder::Where::kTestTmpdir};
  const std::string& folder_ = temp_.path();
};

TEST_F(UringVerifyTest, FlippedBytesOnDiskAreFoundByChunk) {
  // I5: nothing with a wrong digest is handed out, and the good chunks stay usable.
  const std::size_t size = 9 * kMiB + 5;
  Mapping source(size);
  source.FillWithPattern();
  const auto digests = ChunkDigests(source.view());
  for (const std::size_t at : {std::size_t{0}, 3 * kMiB + 17, size - 1}) {
    source.view()[at] ^= std::byte{1};
  }
  ASSERT_TRUE(fs_.WriteImage(Path(), source.view(), {}));
  Mapping destination(size);
  std::vector<std::uint64_t> bad;

  const Status read = VerifyingRead(fs_, Path(), destination.view(), digests, {}, &bad);

  EXPECT_EQ(read.error().code, Errc::kCorruption);
  EXPECT_EQ(bad, (std::vector<std::uint64_t>{0, 3, 9}));
}

TEST_F(UringVerifyTest, ASourceThatDoesNotMatchIsNotWritten) {
  // I5: the mismatch is found before the block is submitted.
  Mapping source(2 * kMiB + 100);
  source.FillWithPattern();
  auto digests = ChunkDigests(source.view());
  digests[2] ^= 1;

  const Status written = VerifyingWrite(fs_, Path(), source.view(), digests, {});

  EXPECT_EQ(written.error().code, Errc::kCorruption);
  EXPECT_NE(written.error().message.find("chunks 2"), std::string::npos);
}

TEST_F(UringVerifyTest, AFileOfAnotherLengthIsCorruption) {
  Mapping source(kMiB);
  ASSERT_TRUE(fs_.WriteImage(Path(), source.view(), {}));
  for (const std::size_t size : {kMiB - 1, kMiB + 1}) {
    Mapping destination(size);
    const std::vector<std::uint32_t> digests(ChunkCount(size));
    std::vector<std::uint64_t> bad;
    EXPECT_EQ(VerifyingRead(fs_, Path(), destination.view(), digests, {}, &bad).error().code,
              Errc::kCorruption);
  }
}

TEST_F(UringVerifyTest, TheNumberOfDigestsMustFitTheLength) {
  Mapping source(kMiB + 1);
  const std::vector<std::uint32_t> one(1);
  std::vector<std::uint64_t> bad;

  EXPECT_EQ(VerifyingWrite(fs_, Path(), source.view(), one, {}).error().code,
            Errc::kInvalidArgument);
  EXPECT_EQ(VerifyingRead(fs_, Path(), source.view(), one, {}, &bad).error().code,
            Errc::kInvalidArgument);
}

TEST_F(UringVerifyTest, MemoryThatIsNotAlignedGoesThroughThePageCache) {
  Mapping source(3 * kMiB);
  source.FillWithPattern();
  const ByteView odd = ByteView(source.view()).subspan(1);

  ASSERT_TRUE(fs_.WriteImage(Path(), odd, {}));

  EXPECT_TRUE(ReadSmallFile(fs_, Path(), 3 * kMiB).value() == AsText(odd));
  Mapping destination(3 * kMiB);
  const MutableByteView odd_destination = destination.view().subspan(1);
  ASSERT_TRUE(fs_.ReadImage(Path(), odd_destination, {}));
  EXPECT_TRUE(AsText(odd_destination) == AsText(odd));
}

TEST_F(UringVerifyTest, AnExistingFileIsNotWrittenOver) {
  Mapping source(100);
  source.FillWithPattern();
  ASSERT_TRUE(fs_.WriteImage(Path(), source.view(), {}));

  EXPECT_EQ(fs_.WriteImage(Path(), source.view(), {}).error().code, Errc::kAlreadyExists);
}

TEST_F(UringVerifyTest, OptionsOutOfRangeAreRefused) {
  Mapping source(100);
  ImageIoOptions options;
  options.block_bytes = kMiB + 1;
  EXPECT_EQ(fs_.WriteImage(Path(), source.view(), options).error().code, Errc::kInvalidArgument);
  options = {};
  options.blocks_in_flight = 0;
  EXPECT_EQ(fs_.WriteImage(Path(), source.view(), options).error().code, Errc::kInvalidArgument);
  options = {};
  options.progress_timeout = std::chrono::milliseconds(0);
  EXPECT_EQ(fs_.ReadImage(Path(), source.view(), options).error().code, Errc::kInvalidArgument);
}

TEST_F(UringVerifyTest, ACancelledTransferEndsAndNothingIsInFlight) {
  // I12: the flag rises in the middle; the call returns with all requests answered.
  Mapping source(16 * kMiB);
  std::atomic<bool> cancel = false;
  ImageIoOptions options;
  options.block_bytes = kMiB;
  options.cancel = &cancel;
  int blocks = 0;
  options.inspect = [&](ByteCount, ByteView) -> Status {
    cancel = ++blocks == 5;
    return Ok();
  };

  const Status written = fs_.WriteImage(Path(), source.view(), options);

  EXPECT_EQ(written.error().code, Errc::kCancelled);
  EXPECT_EQ(blocks, 5);
}

// --- The bandwidth budget ---

class HandClock final : public Clock {
 public:
  MonotonicTime Now() const override { return now; }

  WallTime WallNow() const override { return {}; }

  MonotonicTime now{};
};

double Seconds(std::chrono::nanoseconds time) {
  return std::chrono::duration<double>(time).count();
}

TEST(UringBandwidthTest, TheLongRunRateHolds) {
  HandClock clock;
  BandwidthBudget budget(100 * kMiB, clock);

  EXPECT_EQ(budget.Take(25 * kMiB).count(), 0);  // the bucket
  EXPECT_NEAR(Seconds(budget.Take(100 * kMiB)), 1.0, 1e-6);
  EXPECT_NEAR(Seconds(budget.Take(50 * kMiB)), 1.5, 1e-6) << "debts add up over all takers";
  clock.now += std::chrono::seconds(1);
  EXPECT_NEAR(Seconds(budget.Take(50 * kMiB)), 1.0, 1e-6);
}

TEST(UringBandwidthTest, IdleTimeIsNotSavedUp) {
  HandClock clock;
  BandwidthBudget budget(100 * kMiB, clock);
  clock.now += std::chrono::hours(1);

  EXPECT_EQ(budget.Take(25 * kMiB).count(), 0);
  EXPECT_NEAR(Seconds(budget.Take(10 * kMiB)), 0.1, 1e-6);
}

TEST(UringBandwidthTest, ZeroIsUnlimitedAndTheRateCanChange) {
  HandClock clock;
  BandwidthBudget budget(0, clock);
  EXPECT_EQ(budget.Take(~std::uint64_t{0}).count(), 0);

  budget.SetRate(kMiB);

  EXPECT_GT(budget.Take(10 * kMiB).count(), 0);
}

TEST(UringBandwidthTest, WaitingEndsWithTheCancelFlag) {
  BandwidthBudget budget(1);
  const std::atomic<bool> cancel = true;

  EXPECT_EQ(budget.Acquire(kMiB, &cancel).error().code, Errc::kCancelled);
}

}  // namespace
}  // namespace holdfast::storage_tiers
