// Which libfabric, provider and card are taken, and what hostile descriptors get.
#include <csignal>

#include <gmock/gmock.h>

#include "tests/transport/fabric_fixture.h"
#include "transport/fabric_version.h"

namespace holdfast::transport {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class FabricProviderTest : public FabricTest {
 protected:
  [[nodiscard]] Result<std::unique_ptr<FabricEndpoint>> TryOpen(const FabricOptions& options) {
    return FabricEndpoint::OpenBlocking(io_.get_executor(), options);
  }
};

// First: a library that is loaded stays.
TEST_F(FabricProviderTest, AMachineWithoutLibfabricIsToldSoAndHasNoFabric) {
  FabricOptions options = OptionsOf("tcp;ofi_rxm");
  options.libraries = {"libfabric-that-is-not.so.1"};
  const auto opened = TryOpen(options);
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().code, Errc::kUnavailable);
  EXPECT_THAT(opened.error().message, HasSubstr("libfabric-that-is-not.so.1"));
  options.libraries = {"libcrypto.so.3"};
  const auto other = TryOpen(options);
  ASSERT_FALSE(other.has_value());
  EXPECT_EQ(other.error().code, Errc::kVersionMismatch);
  EXPECT_THAT(FabricVersion(options.libraries), StartsWith("no libfabric: "));
  options.libraries = {"libfabric-that-is-not.so.1", kFabricLibrary};
  EXPECT_TRUE(TryOpen(options).has_value());
  EXPECT_THAT(FabricVersion(), StartsWith("libfabric 1."));
}

TEST_F(FabricProviderTest, TheFirstOfTheListThatHasTheAddressIsTaken) {
  FabricOptions options = OptionsOf("tcp;ofi_rxm");
  options.providers = {"verbs;ofi_rxm", "no-such-provider", "tcp;ofi_rxm", "sockets"};
  options.bind_address = "127.0.1.9";
  const auto opened = TryOpen(options);
  ASSERT_TRUE(opened.has_value()) << opened.error().ToString();
  EXPECT_EQ(opened.value()->provider(), "tcp;ofi_rxm");
  EXPECT_THAT(opened.value()->Describe(), HasSubstr("127.0.1.9:"));
}

TEST_F(FabricProviderTest, AnAddressThatNoCardHasIsRefusedWithTheReasonOfEach) {
  FabricOptions options = OptionsOf("tcp;ofi_rxm");
  options.providers = {"verbs;ofi_rxm", "tcp;ofi_rxm"};
  options.bind_address = "203.0.113.77";
  const auto opened = TryOpen(options);
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().code, Errc::kUnavailable);
  EXPECT_THAT(opened.error().message, HasSubstr("203.0.113.77"));
  EXPECT_THAT(opened.error().message, HasSubstr("verbs;ofi_rxm: "));
  EXPECT_THAT(opened.error().message, HasSubstr("; tcp;ofi_rxm: "));
}

TEST_F(FabricProviderTest, AnAddressThatIsNoneIsTheCallersMistake) {
  FabricOptions options = OptionsOf("tcp;ofi_rxm");
  options.bind_address = "eth0";
  const auto opened = TryOpen(options);
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().code, Errc::kInvalidArgument) << opened.error().ToString();
  options = OptionsOf("tcp;ofi_rxm");
  options.block_bytes = 5 * kMiB;
  EXPECT_EQ(TryOpen(options).error().code, Errc::kInvalidArgument);
}

TEST_F(FabricProviderTest, SignalHandlersOfTheProcessStay) {
  const auto before = std::signal(SIGTERM, SIG_IGN);
  const auto bus = std::signal(SIGBUS, SIG_IGN);
  Open(OptionsOf("shm"));
  EXPECT_EQ(std::signal(SIGTERM, before), SIG_IGN);
  EXPECT_EQ(std::signal(SIGBUS, bus), SIG_IGN);
}

TEST_F(FabricProviderTest, ADescriptorOfAnotherProviderOrKindOfAddressIsRefused) {
  Open(OptionsOf("tcp;ofi_rxm"));
  FabricRegion region;
  region.provider = "verbs;ofi_rxm";
  region.address = endpoint_->address();
  region.length = 1;
  const auto other = endpoint_->Reader(region, "node 0123");
  ASSERT_FALSE(other.has_value());
  EXPECT_EQ(other.error().code, Errc::kInvalidArgument);
  EXPECT_THAT(other.error().message, HasSubstr("tcp;ofi_rxm"));
  region.provider = "tcp;ofi_rxm";
  const std::string sound = region.address;
  std::string family = sound;
  family[0] = 10;  // AF_INET6: libfabric would read 28 bytes of these 16
  for (const std::string& address : {std::string(), sound.substr(1), sound + "x", family}) {
    region.address = address;
    const auto refused = endpoint_->Reader(region, "node 0123");
    ASSERT_FALSE(refused.has_value()) << address.size();
    EXPECT_EQ(refused.error().code, Errc::kInvalidArgument);
  }
}

TEST_F(FabricProviderTest, PeersAreBounded) {
  FabricOptions options = OptionsOf("tcp;ofi_rxm");
  options.max_peers = 2;
  Open(options);
  FabricRegion region;
  region.provider = "tcp;ofi_rxm";
  region.length = 1;
  std::vector<std::unique_ptr<RangeReader>> readers;
  for (char last = 1; last <= 3; ++last) {
    region.address = endpoint_->address();
    region.address[7] = last;  // of the IP address
    auto reader = endpoint_->Reader(region, "node");
    ASSERT_EQ(reader.has_value(), last <= 2);
    if (reader.has_value()) {
      readers.push_back(std::move(reader).value());
    } else {
      EXPECT_EQ(reader.error().code, Errc::kUnavailable);
    }
  }
  readers.clear();
  EXPECT_TRUE(endpoint_->Reader(region, "node").has_value());
}

TEST_F(FabricProviderTest, NothingListensThereIsAnErrorWithinTheConnectLimit) {
  FabricOptions options = OptionsOf("tcp;ofi_rxm");
  options.connect_limit = std::chrono::milliseconds(300);
  Open(options);
  FabricRegion region;
  region.provider = "tcp;ofi_rxm";
  region.address = endpoint_->address();
  region.address[2] = 0;  // port 1
  region.address[3] = 1;
  region.length = kMiB;
  const auto reader = ReaderOf(region);
  std::vector<std::byte> into(kMiB);
  const auto began = std::chrono::steady_clock::now();
  const Status done = ReadAll(reader.get(), 0, into);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code, Errc::kUnavailable) << done.error().ToString();
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(5));
}

}  // namespace
}  // namespace holdfast::transport
