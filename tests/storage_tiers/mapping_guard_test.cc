#include "storage_tiers/mapping_guard.h"

#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include "common/crc32c.h"
#include "storage_tiers/uring_descriptor.h"
#include "tests/storage_tiers/arena_test_support.h"
#include "tests/support/sanitized.h"
#include "tests/support/temp_folder.h"

namespace holdfast::storage_tiers {
namespace {

constexpr std::size_t kBytes = 4 * kMiB;
constexpr auto kDeadline = std::chrono::seconds(60);

// A shared mapping of a file full of ones.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path)
      : file_(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)) {
    EXPECT_EQ(::ftruncate(file_.get(), kBytes), 0);
    void* const address =
        ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
    EXPECT_NE(address, MAP_FAILED);
    view_ = {static_cast<std::byte*>(address), kBytes};
    std::memset(view_.data(), 1, view_.size());
  }

  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  ~MappedFile() { ::munmap(view_.data(), view_.size()); }

  void Truncate(off_t bytes) { EXPECT_EQ(::ftruncate(file_.get(), bytes), 0); }

  [[nodiscard]] MutableByteView view() const { return view_; }

  [[nodiscard]] int fd() const { return file_.get(); }

 private:
  Descriptor file_;
  MutableByteView view_;
};

class MappingGuardTest : public ::testing::Test {
 protected:
  // Death tests run in a program of their own: no handler of an earlier test is in them.
  void SetUp() override { ::testing::GTEST_FLAG(death_test_style) = "threadsafe"; }

  [[nodiscard]] std::string Path(const std::string& name) const {
    return folder_.path() + "/" + name;
  }

  TempFolder folder_{TempFolder::Where::kTestTmpdir};
};

TEST_F(MappingGuardTest, AnIntactRangeIsNotPoisoned) {
  const MappedFile file(Path("a"));
  const GuardedRange guard = GuardedRange::Register(file.view()).value();

  EXPECT_EQ(file.view()[kBytes - 1], std::byte{1});
  EXPECT_FALSE(guard.poisoned());
}

// I5: the zeros that stand in for lost bytes cannot pass for the image.
TEST_F(MappingGuardTest, ATruncatedFileReadsAsZerosAndIsPoisoned) {
  MappedFile file(Path("a"));
  const std::uint32_t before = Crc32c(0, file.view());
  const GuardedRange guard = GuardedRange::Register(file.view()).value();

  file.Truncate(kMiB);

  EXPECT_NE(Crc32c(0, file.view()), before);
  EXPECT_TRUE(guard.poisoned());
  EXPECT_EQ(file.view()[0], std::byte{0}) << "all of the range, not a mixture";
  file.view()[kBytes - 1] = std::byte{7};
  EXPECT_EQ(file.view()[kBytes - 1], std::byte{7}) << "a writer goes on too";
}

TEST_F(MappingGuardTest, AChildThatTruncatesDuringADigestDoesNotEndUs) {
  const MappedFile file(Path("a"));
  const GuardedRange guard = GuardedRange::Register(file.view()).value();
  int go[2];
  ASSERT_EQ(::pipe(go), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    char byte = 0;
    const bool told = ::read(go[0], &byte, 1) == 1;
    ::_exit(told && ::ftruncate(file.fd(), 0) == 0 ? 0 : 1);
  }
  const std::uint32_t intact = Crc32c(0, file.view());
  std::atomic<bool> running{false};
  std::uint32_t last = intact;

  std::thread digester([&] {
    const auto end = std::chrono::steady_clock::now() + kDeadline;
    while (!guard.poisoned() && std::chrono::steady_clock::now() < end) {
      last = Crc32c(0, file.view());
      running = true;
    }
  });
  const auto end = std::chrono::steady_clock::now() + kDeadline;
  while (!running && std::chrono::steady_clock::now() < end) {
    std::this_thread::yield();
  }
  EXPECT_TRUE(running) << "no pass of the digest before the truncation";
  ASSERT_EQ(::write(go[1], "x", 1), 1);
  digester.join();

  EXPECT_TRUE(guard.poisoned());
  EXPECT_NE(last, intact);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  ::close(go[0]);
  ::close(go[1]);
}

TEST_F(MappingGuardTest, OnlyTheRangeThatWasHitIsPoisoned) {
  MappedFile hit(Path("a"));
  const MappedFile other(Path("b"));
  const GuardedRange hit_guard = GuardedRange::Register(hit.view()).value();
  const GuardedRange other_guard = GuardedRange::Register(other.view()).value();

  hit.Truncate(0);
  (void)Crc32c(0, hit.view());

  EXPECT_TRUE(hit_guard.poisoned());
  EXPECT_FALSE(other_guard.poisoned());
  EXPECT_EQ(other.view()[0], std::byte{1});
}

TEST_F(MappingGuardTest, ANewRangeInAUsedEntryStartsClean) {
  MappedFile first(Path("a"));
  {
    const GuardedRange guard = GuardedRange::Register(first.view()).value();
    first.Truncate(0);
    (void)Crc32c(0, first.view());
    ASSERT_TRUE(guard.poisoned());
  }
  const MappedFile second(Path("b"));

  const GuardedRange guard = GuardedRange::Register(second.view()).value();

  EXPECT_FALSE(guard.poisoned());
}

TEST_F(MappingGuardTest, AMovedGuardStillGuards) {
  MappedFile file(Path("a"));
  GuardedRange target;
  target = GuardedRange::Register(file.view()).value();

  file.Truncate(0);
  (void)Crc32c(0, file.view());

  EXPECT_TRUE(target.poisoned());
  EXPECT_FALSE(GuardedRange().poisoned());
}

TEST_F(MappingGuardTest, ManyThreadsFaultWhileOthersRegister) {
  constexpr int kFiles = 8;
  constexpr int kReaders = 3;
  std::vector<std::unique_ptr<MappedFile>> files;
  std::vector<GuardedRange> guards;
  for (int i = 0; i < kFiles; ++i) {
    files.push_back(std::make_unique<MappedFile>(Path(std::to_string(i))));
    guards.push_back(GuardedRange::Register(files.back()->view()).value());
    files.back()->Truncate(0);
  }
  const MappedFile churned(Path("churned"));
  std::atomic<bool> done{false};

  std::thread registrar([&] {
    while (!done) {
      const GuardedRange guard = GuardedRange::Register(churned.view()).value();
      EXPECT_FALSE(guard.poisoned());
    }
  });
  std::vector<std::thread> readers;
  readers.reserve(kReaders);
  for (int i = 0; i < kReaders; ++i) {
    readers.emplace_back([&] {
      for (const auto& file : files) {
        (void)Crc32c(0, file->view());
      }
    });
  }
  for (std::thread& reader : readers) {
    reader.join();
  }
  done = true;
  registrar.join();

  for (const GuardedRange& guard : guards) {
    EXPECT_TRUE(guard.poisoned());
  }
  EXPECT_EQ(churned.view()[0], std::byte{1});
}

TEST_F(MappingGuardTest, AFullTableIsAnErrorAndRoomComesBack) {
  const MappedFile file(Path("a"));
  std::vector<GuardedRange> guards;
  for (std::size_t i = 0; i < kMaxGuardedRanges; ++i) {
    guards.push_back(GuardedRange::Register(file.view()).value());
  }

  const Result<GuardedRange> refused = GuardedRange::Register(file.view());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kNoSpace);

  guards.pop_back();
  EXPECT_TRUE(GuardedRange::Register(file.view()));
}

void FaultOutsideAnyRange(const std::string& path) {
  MappedFile file(path);
  file.Truncate(0);
  (void)Crc32c(0, file.view());
}

TEST_F(MappingGuardTest, AFaultElsewhereStillEndsTheProcess) {
  EXPECT_DEATH(
      {
        ASSERT_TRUE(InstallMappingGuard());
        FaultOutsideAnyRange(Path("a"));
      },
      "");
}

TEST_F(MappingGuardTest, ARangeIsNoLongerOursAfterItsGuardEnded) {
  EXPECT_DEATH(
      {
        MappedFile file(Path("a"));
        { const GuardedRange guard = GuardedRange::Register(file.view()).value(); }
        file.Truncate(0);
        (void)Crc32c(0, file.view());
      },
      "");
}

TEST_F(MappingGuardTest, AnEarlierHandlerGetsFaultsThatAreNotOurs) {
  EXPECT_EXIT(
      {
        struct sigaction action = {};
        action.sa_sigaction = [](int, siginfo_t* info, void*) {
          ::_exit(info->si_code == BUS_ADRERR ? 42 : 43);
        };
        action.sa_flags = SA_SIGINFO;
        ASSERT_EQ(::sigaction(SIGBUS, &action, nullptr), 0);
        ASSERT_TRUE(InstallMappingGuard());
        FaultOutsideAnyRange(Path("a"));
      },
      ::testing::ExitedWithCode(42),
      "");
}

TEST_F(MappingGuardTest, ASignalThatWasSentIgnoresOurRanges) {
  if (kSanitized) {
    GTEST_SKIP() << "the sanitizer has a handler of its own";
  }
  EXPECT_EXIT(
      {
        ASSERT_TRUE(InstallMappingGuard());
        ::kill(::getpid(), SIGBUS);
        ::_exit(0);
      },
      ::testing::KilledBySignal(SIGBUS),
      "");
}

}  // namespace
}  // namespace holdfast::storage_tiers
