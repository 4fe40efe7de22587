// The nodes of a job, from what the daemons of its ranks say of themselves.
//
// Each rank asks its own daemon for a card; the job hands every rank's card to every rank, as it
// hands everything else around (an allgather, a store); from all cards in order of rank each rank
// makes the same list of members.
//
// Threads:   value types and pure functions; any thread.
// Errors:    kInvalidArgument names the rank whose card is none, or the nodes that cannot make a
//            job.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "common/bytes.h"
#include "common/result.h"
#include "proto/catalog.pb.h"
#include "proto/client.pb.h"

namespace holdfast::client {

struct JobNodes {
  // In order of their first rank; none: one node serves all ranks.
  std::vector<proto::MemberNode> members;
  // What any of them knows of the job.
  std::string known_job_uid;
  std::uint64_t known_number = 0;
};

// "out" is filled up with zeros.  kInvalidArgument: it does not fit.
[[nodiscard]] Status WriteCard(const proto::NodeCard& card, MutableByteView out);

// "cards" one after the other, each of "card_bytes".
[[nodiscard]] Result<JobNodes> NodesOfCards(ByteView cards, std::size_t card_bytes);

}  // namespace holdfast::client
