#include <atomic>
#include <string>

#include <gtest/gtest.h>
#include <sys/mman.h>

#include "storage_tiers/prefault.h"
#include "storage_tiers/uring_descriptor.h"
#include "tests/storage_tiers/arena_test_support.h"
#include "tests/support/temp_folder.h"

namespace holdfast::storage_tiers {
namespace {

struct Way {
  bool populate;
  unsigned threads;
  const char* name;
};

class PrefaultTest : public ::testing::TestWithParam<Way> {
 protected:
  // A sparse file of "bytes" in "folder", mapped.
  struct Sparse {
    Sparse(const std::string& folder, std::size_t bytes)
        : file(::open((folder + "/f").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
      EXPECT_EQ(::ftruncate(file.get(), static_cast<off_t>(bytes)), 0);
      void* const address =
          ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
      EXPECT_NE(address, MAP_FAILED);
      view = {static_cast<std::byte*>(address), bytes};
    }

    Sparse(const Sparse&) = delete;
    Sparse& operator=(const Sparse&) = delete;

    ~Sparse() { ::munmap(view.data(), view.size()); }

    [[nodiscard]] ByteCount AllocatedBytes() const {
      struct stat status = {};
      EXPECT_EQ(::fstat(file.get(), &status), 0);
      return static_cast<ByteCount>(status.st_blocks) * 512;
    }

    Descriptor file;
    MutableByteView view;
  };

  [[nodiscard]] static PrefaultOptions Options() {
    PrefaultOptions options;
    options.threads = GetParam().threads;
    options.use_populate = GetParam().populate;
    options.piece_bytes = 64 * kKiB;
    return options;
  }

  TempFolder folder_;
  std::atomic<bool> cancel_{false};
};

TEST_P(PrefaultTest, EveryPageExistsAfterwards) {
  const Sparse sparse(folder_.path(), 3 * kMiB + 4096);
  ASSERT_EQ(sparse.AllocatedBytes(), 0u);

  ASSERT_TRUE(Prefault(sparse.file.get(), sparse.view, Options(), cancel_));

  EXPECT_EQ(sparse.AllocatedBytes(), 3 * kMiB + 4096);
}

TEST_P(PrefaultTest, ACancelEndsItBeforeTheNextPiece) {
  const Sparse sparse(folder_.path(), 3 * kMiB);
  cancel_ = true;

  const Status done = Prefault(sparse.file.get(), sparse.view, Options(), cancel_);

  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Errc::kCancelled);
  EXPECT_EQ(sparse.AllocatedBytes(), 0u);
}

TEST_P(PrefaultTest, AFullFileSystemIsNoSpaceAndNoSignal) {
  const bool ran = RunInSmallTmpfs(2 * kMiB, [&](const std::string& path) {
    const Sparse sparse(path, 8 * kMiB);
    const Status done = Prefault(sparse.file.get(), sparse.view, Options(), cancel_);
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, Errc::kNoSpace) << done.error().ToString();
  });
  if (!ran) {
    GTEST_SKIP() << "mounts are not allowed here";
  }
}

INSTANTIATE_TEST_SUITE_P(Ways,
                         PrefaultTest,
                         ::testing::Values(Way{true, 1, "PopulateAlone"},
                                           Way{true, 4, "PopulateFour"},
                                           Way{false, 1, "TouchAlone"},
                                           Way{false, 4, "TouchFour"}),
                         [](const auto& info) { return info.param.name; });

TEST(PrefaultOptionsTest, SenselessOptionsAreRefused) {
  const std::atomic<bool> cancel{false};
  std::byte page[4096];
  for (const auto& [threads, piece] :
       {std::pair<unsigned, ByteCount>{0, 4096}, {257, 4096}, {1, 0}, {1, 4097}}) {
    PrefaultOptions options;
    options.threads = threads;
    options.piece_bytes = piece;
    EXPECT_EQ(Prefault(-1, page, options, cancel).error().code, Errc::kInvalidArgument);
  }
}

}  // namespace
}  // namespace holdfast::storage_tiers
