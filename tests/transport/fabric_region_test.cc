// What a peer may say about where its bytes are.
#include "transport/fabric_region.h"

#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace holdfast::transport {
namespace {

FabricRegion Sound() {
  FabricRegion region;
  region.provider = "tcp;ofi_rxm";
  region.address = std::string(16, '\x07');
  region.key = 0x0123456789abcdefULL;
  region.base = 0x7f0000000000ULL;
  region.length = 5 * kMiB + 1;
  return region;
}

TEST(FabricRegionTest, ComesBackAsItWent) {
  const std::string bytes = ToProto(Sound()).SerializeAsString();
  proto::FabricRegion message;
  ASSERT_TRUE(message.ParseFromString(bytes));
  const auto back = FromProto(message);
  ASSERT_TRUE(back.has_value()) << back.error().ToString();
  EXPECT_EQ(back.value().provider, Sound().provider);
  EXPECT_EQ(back.value().address, Sound().address);
  EXPECT_EQ(back.value().key, Sound().key);
  EXPECT_EQ(back.value().base, Sound().base);
  EXPECT_EQ(back.value().length, Sound().length);
}

TEST(FabricRegionTest, AnotherVersionIsRefusedByName) {
  for (const std::uint32_t version : {0U, 2U, 0xffffffffU}) {
    proto::FabricRegion message = ToProto(Sound());
    message.set_version(version);
    const auto refused = FromProto(message);
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, Errc::kVersionMismatch);
  }
}

TEST(FabricRegionTest, NamesAndAddressesHaveTheirBounds) {
  for (const std::string& name : std::vector<std::string>{
           "", std::string(65, 'a'), "tcp ofi_rxm", "../lib", "TCP", std::string("tcp\0x", 5)}) {
    proto::FabricRegion message = ToProto(Sound());
    message.set_provider(name);
    EXPECT_FALSE(FromProto(message).has_value()) << name;
  }
  for (const std::size_t size : {std::size_t{0}, std::size_t{257}, std::size_t{1'000'000}}) {
    proto::FabricRegion message = ToProto(Sound());
    message.set_address(std::string(size, 'x'));
    EXPECT_FALSE(FromProto(message).has_value()) << size;
  }
}

TEST(FabricRegionTest, ARangeThatWrapsIsRefused) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
  const std::vector<std::pair<std::uint64_t, std::uint64_t>> bad{
      {0, 0}, {1, kMost}, {kMost, 1}, {kMost - 1, 2}};
  for (const auto& [base, length] : bad) {
    proto::FabricRegion message = ToProto(Sound());
    message.set_base(base);
    message.set_length_bytes(length);
    EXPECT_EQ(FromProto(message).has_value(), base == kMost - 1 && length == 1)
        << base << " " << length;
  }
  proto::FabricRegion message = ToProto(Sound());
  message.set_base(kMost - 1);
  message.set_length_bytes(1);
  EXPECT_TRUE(FromProto(message).has_value());
}

}  // namespace
}  // namespace holdfast::transport
