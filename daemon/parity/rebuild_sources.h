// What is left of a code set to decode from: shards and rows that other nodes have, as readers.
//
// All holders are asked side by side: one that does not answer is waited for once, and the others
// meanwhile.
//
// Threads:   the io thread only.
// Ownership: borrows "remote"; readers borrow it too.
// Errors:    none: who does not answer, or has not what was named, is left out.
#pragma once

#include <cstdint>
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

// Adds the images of the shards that "holders", by position, have, each with the digests of the
// sidecar beside it; that of position "lost" is not looked for.  Strikes from "holders" what cannot
// be had now.  Returns who had what is missing, for people; empty: nothing is.
[[nodiscard]] boost::asio::awaitable<std::string> AddShards(const RemoteBytes* remote,
                                                            CodedId what,
                                                            const CodeSet* set,
                                                            std::uint32_t lost,
                                                            std::vector<CodeHolder>* holders,
                                                            GroupSources* sources);

// Adds the rows that "holders" have.
[[nodiscard]] boost::asio::awaitable<void> AddRows(const RemoteBytes* remote,
                                                   CodedId what,
                                                   const CodeSet* set,
                                                   const CodedGroup* group,
                                                   const std::vector<CodeHolder>* holders,
                                                   GroupSources* sources);

}  // namespace holdfast::daemon
