// Parts of reports and commands (peer_messages.h): what is known of other nodes, groups, parity;
// and what requests about them share.
//
// Threads:   any thread; pure functions.
// Errors:    kInvalidArgument names what cannot be.
#pragma once

#include "common/result.h"
#include "daemon/core/messages.h"
#include "proto/peer.pb.h"

namespace holdfast::daemon {

void FillKnown(const Report& report, proto::PeerReport* out);
[[nodiscard]] Status ReadKnown(const proto::PeerReport& message, Report* out);

// What a peer says of a world's size, and words that go into records: what no record may hold would
// make a whole batch unwritable.
[[nodiscard]] Result<std::uint32_t> WorldOf(std::uint32_t size);
[[nodiscard]] std::string ReasonOf(const std::string& words);

void FillOrder(const ShardOrder& order, Rank rank, proto::ShardOrder* out);
[[nodiscard]] Result<ShardOrder> OrderOf(const proto::ShardOrder& order);

void FillGroups(const Report& report, proto::PeerReport* out);
void FillGroups(const Command& command, proto::PeerCommand* out);

[[nodiscard]] Status ReadGroups(const proto::PeerReport& message, Report* out);
[[nodiscard]] Status ReadGroups(const proto::PeerCommand& message, Command* out);

}  // namespace holdfast::daemon
