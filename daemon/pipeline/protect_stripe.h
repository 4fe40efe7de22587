// Protect: the first owner of a stripe makes all its parity rows.
//
// It pulls the k segments window by window, checks every chunk of a window, and only then encodes
// the window (I5: windows are whole chunks of every segment, since segments begin at chunks).  Row
// 0 goes straight to its place; the other rows exist in the feed only, from which their owners pull
// them at the same pace (window_feed.h, pull_vector.h).  Nothing of another node's row stays here.
//
//   memory at the first owner, beside row 0 itself:
//     windows_in_flight * k * window_bytes      segments under way
//     windows_lent * (m - 1) * window_bytes     the ring of the feed
//
// An owner that hangs or is lost is dropped after "owner_limit", and the stripe goes on: its row is
// made later by RebuildRow.  A row counts for nothing before its owner has recorded it: what is in
// "own_row" after an error, or before the record is synced, is nothing.
//
// Threads:   the io thread only; encoding and digests on the cpu pool.
// Ownership: shares code, readers and feed; borrows the pool, what "pacing" names, and "own_row",
//            to which nothing is written any more when it has returned.
// Errors:    kInvalidArgument; kCorruption: a segment's bytes are not what was sealed, and nothing
//            of that window was encoded; "fault" says whose; kTimeout, kCancelled, else a reader's.
//            The feed has failed then, so that the other owners end too.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "daemon/pipeline/rebuild_reader.h"
#include "daemon/pipeline/shard_reader.h"
#include "daemon/pipeline/traffic_priority.h"
#include "daemon/pipeline/window_feed.h"

namespace holdfast::daemon {

struct ProtectOptions {
  ByteCount window_bytes = 2 * kMiB;              // a multiple of kChunkBytes
  std::size_t windows_in_flight = 3;              // being pulled or encoded
  std::size_t windows_lent = 4;                   // of each row that others take
  std::chrono::milliseconds read_limit{30'000};   // of one segment's part of a window
  std::chrono::milliseconds owner_limit{30'000};  // an owner that does not move for so long
  std::size_t depth = 2;                          // blocks of one segment in flight
  Pacing pacing;
};

// Memory of one stripe's protection beside its rows: what the budget of the arena has to count.
[[nodiscard]] ByteCount ProtectMemoryBytes(const ec::CodeParams& code,
                                           const ProtectOptions& options);

// Of the feed that serves the rows 1 to m-1 of "stripe" as its lanes 0 to m-2.
[[nodiscard]] FeedShape RowFeedShape(const CodedGroup& group,
                                     std::uint32_t stripe,
                                     const ProtectOptions& options);

struct StripeToProtect {
  StripeToProtect(SharedGroup g,
                  std::uint32_t s,
                  std::vector<std::shared_ptr<ShardReader>> r,
                  MutableByteView o,
                  std::shared_ptr<WindowFeed> f)
      : group(std::move(g)), stripe(s), shards(std::move(r)), own_row(o), feed(std::move(f)) {}

  SharedGroup group;
  std::uint32_t stripe;
  // Images by position; those of the stripe's row owners, and of empty segments, are not looked at.
  std::vector<std::shared_ptr<ShardReader>> shards;
  MutableByteView own_row;           // exactly the row's length
  std::shared_ptr<WindowFeed> feed;  // of RowFeedShape
};

struct ProtectedStripe {
  std::vector<std::vector<std::uint32_t>> row_crc32c;  // of each row's chunks
  std::vector<bool> taken;  // by row: its owner has said that it has it whole; row 0 always
};

// Whose bytes were bad, after kCorruption.
struct SegmentFault {
  std::uint32_t position = 0;
  std::vector<std::uint64_t> bad_chunks;  // of its image
};

// "fault" (never null) is written after kCorruption.
[[nodiscard]] boost::asio::awaitable<Result<ProtectedStripe>> ProtectStripe(
    WorkerPool* cpu,
    StripeToProtect work,
    ProtectOptions options,
    std::optional<SegmentFault>* fault);

}  // namespace holdfast::daemon
