// What is left of a code set to decode from: shards and rows that other nodes have, as readers.
//
// All holders are asked side by side.  Once those that answered are enough, the others are waited
// for a moment longer only: a node that hangs must not hold up a rebuild that needs nothing of it.
//
// Threads:   the io thread only.
// Ownership: borrows "remote"; readers borrow it too.
// Errors:    none: who does not answer, or has not what was named, is left out.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "daemon/core/code_set.h"
#include "daemon/core/ids.h"
#include "daemon/parity/remote_bytes.h"
#include "daemon/pipeline/rebuild_reader.h"

namespace holdfast::daemon {

// Of one snapshot.
struct CodedId {
  JobUid job_uid;
  SnapshotKey id;
};

// What is looked for.  Borrowed by the calls below, and by their readers.
struct Wanted {
  CodedId id;
  const CodeSet* set;
  const CodedGroup* group;
  std::set<std::uint32_t> stripes;  // that something is to be decoded of: others are not asked for
};

// Those that the shard at "position" has segments in.
[[nodiscard]] std::set<std::uint32_t> StripesOfShard(const CodeSet& set,
                                                     const CodedGroup& group,
                                                     std::uint32_t position);

// Adds the images of the shards that "holders", by position, have, each with the digests of the
// sidecar beside it, and their rows; the shard of position "lost" is not looked for.  Strikes from
// "holders" what cannot be had now.  Returns who had which missing shard, for people; empty: none
// is missing.
[[nodiscard]] boost::asio::awaitable<std::string> AddShardsAndRows(const RemoteBytes* remote,
                                                                   Wanted wanted,
                                                                   std::uint32_t lost,
                                                                   std::vector<CodeHolder>* holders,
                                                                   GroupSources* sources);

// Adds the rows that "holders" have to shards that are there already.
[[nodiscard]] boost::asio::awaitable<void> AddRows(const RemoteBytes* remote,
                                                   Wanted wanted,
                                                   const std::vector<CodeHolder>* holders,
                                                   GroupSources* sources);

}  // namespace holdfast::daemon
