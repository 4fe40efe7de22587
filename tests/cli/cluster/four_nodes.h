// Four nodes that protect one snapshot of a job with 2+2, as they answer an operator.
#pragma once

#include <string>
#include <vector>

#include "common/units.h"
#include "proto/client.pb.h"

namespace holdfast::cli {

inline constexpr std::uint32_t kTestNodes = 4;
inline constexpr std::uint32_t kTestParity = 2;

// By rising number; the first digits tell them apart.
[[nodiscard]] std::string TestNode(std::uint32_t number);

// By uuid.  Node i serves rank i; node 0 decides.
[[nodiscard]] std::vector<proto::NodeAnswer> FourNodes();

// Takes the view away.
void Silence(proto::NodeAnswer* answer);

// The one snapshot that a node lists.
[[nodiscard]] proto::SnapshotInfo* Snapshot(proto::NodeAnswer* answer);

}  // namespace holdfast::cli
