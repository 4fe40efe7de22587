// A trainer of one tensor that speaks the protocol itself, so that it can break its rules.
#pragma once

#include <cstdint>
#include <string>

#include "proto/client.pb.h"
#include "tests/daemon/raw_client.h"

namespace holdfast::tests {

proto::Layout LayoutOf(std::uint64_t elements);

proto::OpenIncarnationReply OpenJob(RawClient* client, const std::string& job = "job");

proto::ClientMessage RegisterOf(const proto::OpenIncarnationReply& opened,
                                const proto::Layout& layout,
                                const std::string& job = "job");

// Opens, registers, restores (nothing), and waits for a slot; its descriptor is in client->fds.
proto::GrantEvent JoinAndAwaitGrant(RawClient* client,
                                    const std::string& job,
                                    std::uint64_t elements);

// The next grant, among the events or yet to come; an empty one at the end of the connection.
proto::GrantEvent AwaitGrant(RawClient* client);

proto::ClientMessage BeginOf(const proto::GrantEvent& grant, std::int64_t step);

// Without digests: the daemon makes them.
proto::ClientMessage SealOf(const proto::GrantEvent& grant, std::int64_t step);

}  // namespace holdfast::tests
