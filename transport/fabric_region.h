// The remote descriptor: where another node reads bytes that this one lends over a fabric.
//
// It travels over the peers' connection only (the key is what opens the bytes), as FabricRegion of
// proto/peer.proto.  A peer may be broken or hostile: what came is checked here before libfabric
// sees any of it.
//
// Threads:   any; values and pure functions.
// Errors:    kVersionMismatch for a descriptor of a newer form; kInvalidArgument for one that says
//            what it may not.
#pragma once

#include <cstdint>
#include <string>

#include "common/result.h"
#include "common/units.h"
#include "proto/peer.pb.h"

namespace holdfast::transport {

inline constexpr std::uint32_t kFabricRegionVersion = 1;
inline constexpr std::size_t kMaxFabricNameBytes = 64;
inline constexpr std::size_t kMaxFabricAddressBytes = 256;

struct FabricRegion {
  std::string provider;    // "tcp;ofi_rxm": both sides must have the same
  std::string address;     // raw bytes, as the provider gives them
  std::uint64_t key = 0;   // opens this memory and no other
  std::uint64_t base = 0;  // the first byte's address there: 0 where the provider counts from 0
  ByteCount length = 0;    // bytes, from 1
};

[[nodiscard]] proto::FabricRegion ToProto(const FabricRegion& region);
[[nodiscard]] Result<FabricRegion> FromProto(const proto::FabricRegion& message);

}  // namespace holdfast::transport
