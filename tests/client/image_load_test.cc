// I5: no byte is handed to a trainer whose chunk digest does not match.
#include "client/image_load.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <set>
#include <string>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/crc32c.h"
#include "common/failpoint.h"

namespace holdfast::client {
namespace {

std::string RandomImage(std::size_t bytes) {
  std::mt19937_64 random(9);
  std::string image(bytes, '\0');
  for (auto& byte : image) {
    byte = static_cast<char>(random());
  }
  return image;
}

transport::OwnedFd MemoryFile(const std::string& image) {
  transport::OwnedFd fd(::memfd_create("image", MFD_CLOEXEC));
  EXPECT_EQ(::write(fd.Get(), image.data(), image.size()), static_cast<ssize_t>(image.size()));
  return fd;
}

transport::OwnedFd DiskFile(const std::string& image) {
  const std::string path = testing::TempDir() + "/image";
  transport::OwnedFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  EXPECT_EQ(::write(fd.Get(), image.data(), image.size()), static_cast<ssize_t>(image.size()));
  return fd;
}

class ImageLoadTest : public testing::TestWithParam<bool> {
 protected:
  void TearDown() override { ASSERT_FALSE(ArmFailpoints("").has_error()); }

  std::unique_ptr<ImageSource> Open(const std::string& image) {
    return ImageSource::Open(GetParam() ? MemoryFile(image) : DiskFile(image), image.size())
        .value();
  }

  const std::string image_ = RandomImage(5 * kChunkBytes + 12'345);
  const std::vector<std::uint32_t> digests_ = ChunkDigests(AsBytes(image_));
};

std::vector<LoadPiece> RandomPieces(std::mt19937_64* random,
                                    const std::string& image,
                                    std::vector<std::vector<std::byte>>* out) {
  std::vector<LoadPiece> pieces;
  ByteCount at = (*random)() % 5000;
  while (at < image.size()) {
    const ByteCount bytes = std::min<ByteCount>((*random)() % 700'000, image.size() - at);
    out->emplace_back(bytes + 1);
    if ((*random)() % 3 != 0) {
      pieces.push_back(LoadPiece{at, bytes, out->back().data() + 1});
    }
    at += bytes + ((*random)() % 2 == 0 ? 0 : (*random)() % 900'000);
  }
  std::shuffle(pieces.begin(), pieces.end(), *random);
  return pieces;
}

TEST_P(ImageLoadTest, AnyPiecesComeOutRightAndEachChunkIsDigestedOnce) {
  std::mt19937_64 random(4);
  const auto source = Open(image_);
  for (int round = 0; round < 40; ++round) {
    std::vector<std::vector<std::byte>> out;
    const auto pieces = RandomPieces(&random, image_, &out);
    std::set<std::uint64_t> chunks;
    for (const auto& piece : pieces) {
      for (ByteCount at = piece.offset; at < piece.offset + piece.length; ++at) {
        chunks.insert(at / kChunkBytes);
        at = (at / kChunkBytes + 1) * kChunkBytes - 1;
      }
    }
    LoadReport report;
    const Status status = LoadPieces(*source, digests_, pieces, 1 + round % 4, nullptr, &report);
    ASSERT_FALSE(status.has_error()) << status.error().ToString();
    EXPECT_EQ(report.chunks_digested, chunks.size());
    for (const auto& piece : pieces) {
      ASSERT_EQ(piece.length == 0
                    ? 0
                    : std::memcmp(piece.destination, image_.data() + piece.offset, piece.length),
                0);
    }
  }
}

TEST_P(ImageLoadTest, FlippedBitAnywhereInAChunkIsFoundAndNamed) {
  for (const std::size_t at : {std::size_t{0},
                               std::size_t{kChunkBytes} - 1,
                               2 * std::size_t{kChunkBytes} + 77,
                               image_.size() - 1}) {
    std::string damaged = image_;
    damaged[at] ^= 0x10;
    const auto source = Open(damaged);
    // Only one byte of the chunk is wanted, and not the flipped one.
    std::byte wanted{};
    const ByteCount chunk = at / kChunkBytes;
    LoadReport report;
    const Status status = LoadPieces(
        *source, digests_, {LoadPiece{chunk * kChunkBytes + 5, 1, &wanted}}, 2, nullptr, &report);
    ASSERT_TRUE(status.has_error()) << at;
    EXPECT_EQ(status.error().code, Errc::kCorruption);
    EXPECT_EQ(report.bad_chunks, std::vector<std::uint64_t>{chunk});
  }
}

TEST_P(ImageLoadTest, ChunksThatNobodyWantsAreNotRead) {
  std::string damaged = image_;
  damaged[3 * kChunkBytes] ^= 1;
  const auto source = Open(damaged);
  std::vector<std::byte> out(kChunkBytes);
  LoadReport report;
  EXPECT_FALSE(
      LoadPieces(*source, digests_, {LoadPiece{4096, out.size(), out.data()}}, 1, nullptr, &report)
          .has_error());
  EXPECT_EQ(report.chunks_digested, 2U);
}

TEST_P(ImageLoadTest, TiedTensorsAreBothFilled) {
  const auto source = Open(image_);
  std::vector<std::byte> a(100'000);
  std::vector<std::byte> b(100'000);
  LoadReport report;
  ASSERT_FALSE(
      LoadPieces(*source,
                 digests_,
                 {LoadPiece{5000, a.size(), a.data()}, LoadPiece{5000, b.size(), b.data()}},
                 2,
                 nullptr,
                 &report)
          .has_error());
  EXPECT_EQ(a, b);
  EXPECT_EQ(std::memcmp(b.data(), image_.data() + 5000, b.size()), 0);
}

TEST_P(ImageLoadTest, PiecesOutsideTheImageAreRefused) {
  const auto source = Open(image_);
  std::byte byte{};
  LoadReport report;
  for (const LoadPiece& piece : {LoadPiece{image_.size(), 1, &byte},
                                 LoadPiece{UINT64_MAX, 2, &byte},
                                 LoadPiece{1, UINT64_MAX, &byte},
                                 LoadPiece{0, 1, nullptr}}) {
    EXPECT_EQ(LoadPieces(*source, digests_, {piece}, 1, nullptr, &report).error().code,
              Errc::kInvalidArgument);
  }
  EXPECT_EQ(LoadPieces(*source, {}, {LoadPiece{0, 1, &byte}}, 1, nullptr, &report).error().code,
            Errc::kCorruption)
      << "no digests";
}

TEST_P(ImageLoadTest, FailedReadIsAnErrorAndNotCorruption) {
  ASSERT_FALSE(ArmFailpoints("client.restore.chunk=error:5@3").has_error());
  const auto source = Open(image_);
  std::vector<std::byte> out(image_.size());
  LoadReport report;
  EXPECT_EQ(
      LoadPieces(*source, digests_, {LoadPiece{0, out.size(), out.data()}}, 2, nullptr, &report)
          .error()
          .code,
      Errc::kIoError);
}

INSTANTIATE_TEST_SUITE_P(Sources, ImageLoadTest, testing::Bool(), [](const auto& instance) {
  return instance.param ? "Memory" : "Disk";
});

TEST(ImageSourceTest, FileThatIsCutIsCorruptionAndNoCrash) {
  const std::string image = RandomImage(10'000);
  EXPECT_EQ(ImageSource::Open(MemoryFile(image), 10'001).error().code, Errc::kCorruption);
  auto fd = DiskFile(image);
  const int number = fd.Get();
  const auto source = ImageSource::Open(std::move(fd), image.size()).value();
  ASSERT_FALSE(source->Mapped()) << "TEST_TMPDIR is on a disk";
  ASSERT_EQ(::ftruncate(number, 5'000), 0);
  std::vector<std::byte> scratch(10'000);
  EXPECT_EQ(source->Read(0, 10'000, scratch).error().code, Errc::kCorruption);
}

}  // namespace
}  // namespace holdfast::client
