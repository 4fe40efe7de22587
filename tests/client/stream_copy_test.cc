#include "client/stream_copy.h"

#include <cstring>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "common/crc32c.h"

namespace holdfast::client {
namespace {

TEST(StreamCopyTest, EveryAlignmentAndLengthCopiesAndDigestsExactlyItsRange) {
  std::mt19937 random(3);
  std::vector<std::byte> source(20'000);
  for (auto& byte : source) {
    byte = static_cast<std::byte>(random());
  }
  for (int round = 0; round < 6000; ++round) {
    const std::size_t from = random() % 130;
    const std::size_t to = 1 + random() % 130;
    const std::size_t bytes = round < 600 ? static_cast<std::size_t>(round / 2) : random() % 19'000;
    std::vector<std::byte> target(20'000, std::byte{0x5a});
    const auto copy = round % 2 == 0 ? CopyAndDigest : CopyNearAndDigest;
    const std::uint32_t crc = copy(17, target.data() + to, source.data() + from, bytes);
    EndStreaming();
    ASSERT_EQ(crc, Crc32c(17, ByteView(source).subspan(from, bytes)));
    ASSERT_EQ(bytes == 0 ? 0 : std::memcmp(target.data() + to, source.data() + from, bytes), 0);
    ASSERT_EQ(target[to - 1], std::byte{0x5a}) << "written before the range";
    ASSERT_EQ(target[to + bytes], std::byte{0x5a}) << "written behind the range";
  }
}

}  // namespace
}  // namespace holdfast::client
