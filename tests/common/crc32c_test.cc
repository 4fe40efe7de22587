#include "common/crc32c.h"

#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace holdfast {
namespace {

std::uint32_t DigestOf(const std::string& bytes) {
  return Crc32c(0, AsBytes(bytes));
}

std::string Rising() {
  std::string bytes;
  for (int i = 0; i < 32; ++i) {
    bytes += static_cast<char>(i);
  }
  return bytes;
}

// RFC 3720 (iSCSI), appendix B.4, and the check value of the catalogue of CRCs: what is on disk
// must be readable by any other implementation (I5).
TEST(Crc32cTest, KnownVectorsAreMet) {
  EXPECT_EQ(DigestOf("123456789"), 0xE3069283U);
  EXPECT_EQ(DigestOf(std::string(32, '\0')), 0x8A9136AAU);
  EXPECT_EQ(DigestOf(std::string(32, '\xff')), 0x62A8AB43U);
  const std::string rising = Rising();
  EXPECT_EQ(DigestOf(rising), 0x46DD794EU);
  EXPECT_EQ(DigestOf(std::string(rising.rbegin(), rising.rend())), 0x113FDB5CU);
  EXPECT_EQ(DigestOf(""), 0U);
}

TEST(Crc32cTest, PiecesGiveTheDigestOfTheWholeWhereverTheCutIs) {
  const std::string whole = Rising() + "123456789" + Rising();
  for (std::size_t cut = 0; cut <= whole.size(); ++cut) {
    const ByteView bytes = AsBytes(whole);
    EXPECT_EQ(Crc32c(Crc32c(0, bytes.first(cut)), bytes.subspan(cut)), DigestOf(whole)) << cut;
  }
}

TEST(Crc32cTest, OneFlippedBitAnywhereShows) {
  std::string bytes(257, 'h');
  const std::uint32_t good = DigestOf(bytes);
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    const auto flipped = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8)));
    const char was = std::exchange(bytes[bit / 8], flipped);
    EXPECT_NE(DigestOf(bytes), good) << bit;
    bytes[bit / 8] = was;
  }
}

// What protect says of row 0, which is the XOR of segments, without reading it.
TEST(Crc32cTest, TheDigestOfAnXorOfChunksFollowsFromTheirs) {
  std::vector<std::byte> sum(kChunkBytes);
  std::vector<std::uint32_t> digests;
  std::uint32_t state = 12345;
  for (int chunks = 0; chunks < 6; ++chunks) {
    EXPECT_EQ(DigestOfXor(digests), Crc32c(0, sum)) << chunks;
    std::vector<std::byte> chunk(kChunkBytes);
    for (std::size_t i = 0; i < chunk.size(); ++i) {
      state = state * 1664525U + 1013904223U;
      chunk[i] = static_cast<std::byte>(state >> 24);
      sum[i] ^= chunk[i];
    }
    digests.push_back(Crc32c(0, chunk));
  }
}

TEST(Crc32cTest, TheLastChunkMayBeShorterAndAnEmptyImageHasNone) {
  EXPECT_EQ(ChunkCount(0), 0U);
  EXPECT_EQ(ChunkCount(1), 1U);
  EXPECT_EQ(ChunkCount(kChunkBytes), 1U);
  EXPECT_EQ(ChunkCount(kChunkBytes + 1), 2U);
  EXPECT_TRUE(ChunkDigests(ByteView()).empty());
  const std::string image(kChunkBytes + 3, 'x');
  const std::vector<std::uint32_t> expected = {DigestOf(std::string(kChunkBytes, 'x')),
                                               DigestOf("xxx")};
  EXPECT_EQ(ChunkDigests(AsBytes(image)), expected);
}

}  // namespace
}  // namespace holdfast
