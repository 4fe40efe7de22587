// I10: parity that one version wrote is decoded by every later one: matrix, parity bytes and places
// are what they were (docs/format/erasure_code.md). A deliberate change takes a new matrix id.
#include <string>

#include <gtest/gtest.h>

#include "ec/codec.h"
#include "ec/matrix.h"
#include "tests/ec/groups.h"
#include "tests/support/golden_file.h"

namespace holdfast::ec {
namespace {

// Segments of 61, 60, 59, ... bytes by a rule that nothing else uses.
std::vector<Bytes> GoldenSegments(std::uint32_t k) {
  std::vector<Bytes> segments;
  for (std::uint32_t j = 0; j < k; ++j) {
    Bytes& segment = segments.emplace_back(61 - j);
    for (std::uint32_t p = 0; p < segment.size(); ++p) {
      segment[p] = static_cast<std::byte>(p * p * 7 + p * 31 + j * 101 + 13);
    }
  }
  return segments;
}

TEST(GoldenTest, TheMatrixIsAsEver) {
  const Matrix matrix =
      ParityMatrix({.data = kMaxMembers - kMaxParity, .parity = kMaxParity}).value();
  const std::string now(matrix.begin(), matrix.end());
  EXPECT_EQ(GoldenFile("ec/matrix_1.bin", now), now);
}

TEST(GoldenTest, ParityIsAsEverAndOldParityDecodes) {
  const CodeParams code{.data = 8, .parity = 3};
  const Codec codec = Codec::Make(code).value();
  const auto segments = GoldenSegments(code.data);
  std::vector<Bytes> rows(code.parity, Bytes(61));
  ASSERT_TRUE(codec.Encode(Views(segments), MutableViews(rows)).has_value());
  std::string now;
  for (const Bytes& row : rows) {
    now += AsText(row);
  }
  const std::string golden = GoldenFile("ec/parity_8+3_matrix_1.bin", now);
  EXPECT_EQ(golden, now);
  ASSERT_EQ(golden.size(), 3u * 61);
  // Segments 0 to 2 from the others and the bytes of the file.
  std::vector<ByteView> sources = Views(segments);
  sources.erase(sources.begin(), sources.begin() + 3);
  for (std::size_t r = 0; r < 3; ++r) {
    sources.push_back(AsBytes(golden).subspan(r * 61, 61));
  }
  std::vector<Bytes> lost = {Bytes(61), Bytes(60), Bytes(59)};
  const auto decoder = codec.MakeDecoder(std::vector<std::uint32_t>{3, 4, 5, 6, 7, 8, 9, 10},
                                         std::vector<std::uint32_t>{0, 1, 2});
  ASSERT_TRUE(decoder.has_value());
  ASSERT_TRUE(decoder.value().Decode(sources, MutableViews(lost)).has_value());
  for (std::size_t j = 0; j < lost.size(); ++j) {
    EXPECT_EQ(lost[j], segments[j]);
  }
}

// Rows as letters, segments as "segment/column".
std::string Places(const CodeParams& code) {
  const std::uint32_t n = code.Members();
  const Stripes stripes = StripesOf(code, std::vector<ByteCount>(n, 1));
  std::string text = std::to_string(code.data) + "+" + std::to_string(code.parity) + "\n";
  for (std::uint32_t s = 0; s < n; ++s) {
    for (std::uint32_t position = 0; position < n; ++position) {
      const std::uint32_t index = stripes.IndexAt(s, position);
      text += position > 0 ? " " : "";
      text += index < code.data
                  ? std::to_string(stripes.SegmentOf(s, position)) + "/" + std::to_string(index)
                  : std::string(1, static_cast<char>('P' + index - code.data));
    }
    text += "\n";
  }
  return text;
}

TEST(GoldenTest, SegmentsAndRowsLieWhereTheyEverDid) {
  const std::string now = Places({.data = 1, .parity = 1}) + Places({.data = 1, .parity = 2}) +
                          Places({.data = 4, .parity = 1}) + Places({.data = 3, .parity = 2}) +
                          Places({.data = 8, .parity = 3});
  EXPECT_EQ(GoldenFile("ec/places.txt", now), now);
}

}  // namespace
}  // namespace holdfast::ec
