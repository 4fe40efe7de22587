#include "transport/frame.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace holdfast::transport {
namespace {

std::string Frame(const std::string& payload) {
  std::string frame(kFrameHeaderBytes, '\0');
  EXPECT_FALSE(EncodeFrameHeader(payload.size(), frame.data()).has_error());
  return frame + payload;
}

// Feeds "stream" in pieces of at most "piece" bytes and collects the payloads.
Result<std::vector<std::string>> Decode(FrameDecoder* decoder,
                                        std::string_view stream,
                                        std::size_t piece) {
  std::vector<std::string> payloads;
  while (true) {
    HF_TRY(const auto payload, decoder->Next());
    if (payload.has_value()) {
      payloads.emplace_back(AsText(*payload));
      continue;
    }
    if (stream.empty()) {
      return payloads;
    }
    const MutableByteView space = decoder->Space();
    const std::size_t size = std::min({space.size(), piece, stream.size()});
    std::memcpy(space.data(), stream.data(), size);
    decoder->Commit(size);
    stream.remove_prefix(size);
  }
}

TEST(FrameTest, FramesCutAnywhereComeOutWhole) {
  std::mt19937 random(1);
  std::vector<std::string> payloads = {"", "a", std::string(100'000, 'b'), "", "end"};
  std::string stream;
  for (const auto& payload : payloads) {
    stream += Frame(payload);
  }
  for (const std::size_t piece :
       {std::size_t{1}, std::size_t{7}, std::size_t{4096}, stream.size()}) {
    FrameDecoder decoder;
    const auto decoded = Decode(&decoder, stream, piece);
    ASSERT_TRUE(decoded.has_value());
    EXPECT_EQ(decoded.value(), payloads);
    EXPECT_FALSE(decoder.InsideFrame());
    EXPECT_EQ(decoder.ConsumedBytes(), stream.size());
  }
}

TEST(FrameTest, WrongMagicIsCorruptionForGood) {
  FrameDecoder decoder;
  std::string stream = Frame("x");
  stream[0] = 'X';
  EXPECT_EQ(Decode(&decoder, stream, 64).error().code, Errc::kCorruption);
  EXPECT_EQ(decoder.Next().error().code, Errc::kCorruption);
}

TEST(FrameTest, AnnouncedLengthAboveTheLimitIsCorruption) {
  FrameDecoder decoder;
  char header[kFrameHeaderBytes];
  StoreLe32(header, kFrameMagic);
  StoreLe32(header + 4, static_cast<std::uint32_t>(kMaxFramePayloadBytes + 1));
  EXPECT_EQ(Decode(&decoder, {header, sizeof header}, 64).error().code, Errc::kCorruption);
}

TEST(FrameTest, AnnouncedLengthCostsNothingUntilItArrives) {
  FrameDecoder decoder;
  char header[kFrameHeaderBytes];
  ASSERT_FALSE(EncodeFrameHeader(kMaxFramePayloadBytes, header).has_error());
  ASSERT_TRUE(Decode(&decoder, {header, sizeof header}, 64).has_value());
  EXPECT_LE(decoder.CapacityBytes(), 64 * kKiB);
  EXPECT_TRUE(decoder.InsideFrame());
  const std::string some(100'000, 'x');
  ASSERT_TRUE(Decode(&decoder, some, 1000).has_value());
  EXPECT_LE(decoder.CapacityBytes(), 4 * some.size());
}

TEST(FrameTest, LargeFrameDoesNotKeepItsBuffer) {
  FrameDecoder decoder;
  ASSERT_EQ(Decode(&decoder, Frame(std::string(8 * kMiB, 'x')), 1 * kMiB).value().size(), 1U);
  (void)decoder.Space();
  EXPECT_LE(decoder.CapacityBytes(), 256 * kKiB);
}

TEST(FrameTest, PayloadAboveTheLimitIsNotEncoded) {
  char header[kFrameHeaderBytes];
  EXPECT_EQ(EncodeFrameHeader(kMaxFramePayloadBytes + 1, header).error().code,
            Errc::kInvalidArgument);
}

}  // namespace
}  // namespace holdfast::transport
