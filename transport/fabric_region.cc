#include "transport/fabric_region.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace holdfast::transport {

namespace {

bool IsProviderName(const std::string& name) {
  return !name.empty() && name.size() <= kMaxFabricNameBytes &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == ';' ||
                  c == '-' || c == '.';
         });
}

}  // namespace

proto::FabricRegion ToProto(const FabricRegion& region) {
  proto::FabricRegion message;
  message.set_version(kFabricRegionVersion);
  message.set_provider(region.provider);
  message.set_address(region.address);
  message.set_key(region.key);
  message.set_base(region.base);
  message.set_length_bytes(region.length);
  return message;
}

Result<FabricRegion> FromProto(const proto::FabricRegion& message) {
  if (message.version() != kFabricRegionVersion) {
    return Error(Errc::kVersionMismatch,
                 "a fabric descriptor of version " + std::to_string(message.version()) +
                     "; this build knows version " + std::to_string(kFabricRegionVersion));
  }
  if (!IsProviderName(message.provider())) {
    return Error(Errc::kInvalidArgument, "a fabric descriptor whose provider is no name");
  }
  if (message.address().empty() || message.address().size() > kMaxFabricAddressBytes) {
    return Error(Errc::kInvalidArgument,
                 "a fabric descriptor with an address of " +
                     std::to_string(message.address().size()) + " bytes");
  }
  if (message.length_bytes() == 0 ||
      message.length_bytes() > std::numeric_limits<std::uint64_t>::max() - message.base()) {
    return Error(Errc::kInvalidArgument,
                 "a fabric descriptor of " + std::to_string(message.length_bytes()) +
                     " bytes from " + std::to_string(message.base()) + " on");
  }
  FabricRegion region;
  region.provider = message.provider();
  region.address = message.address();
  region.key = message.key();
  region.base = message.base();
  region.length = message.length_bytes();
  return region;
}

}  // namespace holdfast::transport
