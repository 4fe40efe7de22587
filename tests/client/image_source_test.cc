#include "client/image_source.h"

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/temp_folder.h"

namespace holdfast::client {
namespace {

constexpr std::size_t kPage = ImageSource::kReadAlignment;

class ImageSourceTest : public ::testing::Test {
 protected:
  // A file of "bytes" numbers in "where".
  std::string MakeFile(TempFolder::Where where, std::size_t bytes) {
    folder_ = std::make_unique<TempFolder>(where);
    std::string content(bytes, '\0');
    for (std::size_t i = 0; i < bytes; ++i) {
      content[i] = static_cast<char>(i * 31 + i / 256);
    }
    std::string path = folder_->path() + "/image";
    std::ofstream(path, std::ios::binary) << content;
    content_ = content;
    return path;
  }

  static transport::OwnedFd OpenFile(const std::string& path) {
    return transport::OwnedFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  }

  MutableByteView Scratch(std::size_t bytes) {
    const std::size_t rounded = (bytes + kPage - 1) / kPage * kPage;
    scratch_.reset(static_cast<std::byte*>(std::aligned_alloc(kPage, rounded)));
    return {scratch_.get(), bytes};
  }

  void ExpectBytes(const Result<ByteView>& read, std::size_t offset, std::size_t bytes) const {
    ASSERT_TRUE(read.has_value()) << read.error().ToString();
    ASSERT_EQ(read.value().size(), bytes);
    EXPECT_EQ(std::memcmp(read.value().data(), content_.data() + offset, bytes), 0) << offset;
  }

  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };

  std::unique_ptr<TempFolder> folder_;
  std::string content_;
  std::unique_ptr<std::byte, Free> scratch_;
};

TEST_F(ImageSourceTest, ASlotInMemoryIsMappedAndNeedsNoScratch) {
  const std::string path = MakeFile(TempFolder::Where::kMemory, 3 * kPage + 5);
  const auto source = ImageSource::Open(OpenFile(path), content_.size());
  ASSERT_TRUE(source.has_value()) << source.error().ToString();
  EXPECT_TRUE(source.value()->Mapped());
  ExpectBytes(source.value()->Read(kPage + 1, kPage, {}), kPage + 1, kPage);
  ExpectBytes(source.value()->Read(content_.size(), 0, {}), content_.size(), 0);
}

TEST_F(ImageSourceTest, AFileIsReadInPiecesToItsUnevenEnd) {
  const std::string path = MakeFile(TempFolder::Where::kTestTmpdir, 5 * kPage + 123);
  const auto source = ImageSource::Open(OpenFile(path), content_.size());
  ASSERT_TRUE(source.has_value()) << source.error().ToString();
  if (source.value()->Mapped()) {
    GTEST_SKIP() << "the folder for tests is memory";
  }
  for (std::size_t at = 0; at < content_.size(); at += 2 * kPage) {
    const std::size_t bytes = std::min(2 * kPage, content_.size() - at);
    ExpectBytes(source.value()->Read(at, bytes, Scratch(2 * kPage)), at, bytes);
  }
}

// Past the page cache only what is aligned can be read; the rest is slower, never wrong.
TEST_F(ImageSourceTest, UnalignedReadsGiveTheSameBytes) {
  const std::string path = MakeFile(TempFolder::Where::kTestTmpdir, 4 * kPage);
  const auto source = ImageSource::Open(OpenFile(path), content_.size());
  ASSERT_TRUE(source.has_value()) << source.error().ToString();
  ExpectBytes(source.value()->Read(7, 100, Scratch(100)), 7, 100);
  ExpectBytes(source.value()->Read(kPage, kPage + 1, Scratch(kPage + 1)), kPage, kPage + 1);
}

TEST_F(ImageSourceTest, AnImageInALongerFileEndsWhereItSaysAndAShorterFileIsCorruption) {
  const std::string path = MakeFile(TempFolder::Where::kMemory, 2 * kPage);
  const auto source = ImageSource::Open(OpenFile(path), kPage);
  ASSERT_TRUE(source.has_value());
  EXPECT_EQ(source.value()->Size(), kPage);
  EXPECT_EQ(ImageSource::Open(OpenFile(path), 2 * kPage + 1).error().code, Errc::kCorruption);
  EXPECT_EQ(ImageSource::Open(OpenFile(path), 0).error().code, Errc::kCorruption);
  EXPECT_EQ(ImageSource::Open(OpenFile(path), 1ULL << 62).error().code, Errc::kCorruption);
}

// A file that is cut while it is read is an error that leads to another source, not a signal.
TEST_F(ImageSourceTest, AFileThatIsCutWhileItIsReadIsCorruption) {
  const std::string path = MakeFile(TempFolder::Where::kTestTmpdir, 4 * kPage);
  const auto source = ImageSource::Open(OpenFile(path), content_.size());
  ASSERT_TRUE(source.has_value()) << source.error().ToString();
  if (source.value()->Mapped()) {
    GTEST_SKIP() << "the folder for tests is memory";
  }
  std::filesystem::resize_file(path, kPage + 10);
  const auto read = source.value()->Read(kPage, kPage, Scratch(kPage));
  ASSERT_FALSE(read.has_value());
  EXPECT_EQ(read.error().code, Errc::kCorruption);
}

TEST_F(ImageSourceTest, WhatIsNoFileIsRefused) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const transport::OwnedFd writer(ends[1]);
  EXPECT_EQ(ImageSource::Open(transport::OwnedFd(ends[0]), 10).error().code, Errc::kCorruption);
}

}  // namespace
}  // namespace holdfast::client
