// Rebuild: what a replacement does to have the shard and the rows of a lost member, and what the
// survivors do for it.
//
//   lost shard     each of its k segments is decoded by a survivor (FeedShare: k - 1 vectors come
//                  to it, its own is there), the replacement pulls S in all (RebuildShard); what no
//                  survivor gives is decoded at the replacement itself; one that hangs or is much
//                  slower than the others is left for the next
//   lost row       the replacement decodes it from k vectors (RebuildRow), in the background
//
// A rebuilt shard counts when RebuildShard has returned Ok: every chunk of it was compared with the
// sidecar in its place, after the last write to it (I5).
//
// Threads:   the io thread only; decoding and digests on the cpu pool.
// Ownership: share readers, groups and feeds; borrow pools, "priority" and "into", to which nothing
//            is written any more when they have returned.
// Errors:    kUnavailable where too few sources are left; names each and what was wrong with it.
//            kTimeout, kCancelled.  "into" is then worth nothing.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "daemon/pipeline/helper_pace.h"
#include "daemon/pipeline/pull_vector.h"
#include "daemon/pipeline/rebuild_reader.h"
#include "daemon/pipeline/shard_reader.h"
#include "daemon/pipeline/traffic_priority.h"
#include "daemon/pipeline/window_feed.h"

namespace holdfast::daemon {

// A survivor's part: decodes [offset, offset + length) of "shard", a RebuildReader as a rule, into
// a feed of one lane and that length.  Urgent traffic while it runs.
struct ShareToFeed {
  ShareToFeed(std::shared_ptr<ShardReader> s, ByteCount o, std::shared_ptr<WindowFeed> f)
      : shard(std::move(s)), offset(o), feed(std::move(f)) {}

  std::shared_ptr<ShardReader> shard;
  ByteCount offset;  // a multiple of kChunkBytes
  std::shared_ptr<WindowFeed> feed;
};

struct ShareOptions {
  std::chrono::milliseconds window_limit{60'000};  // for reading and decoding one window
  std::chrono::milliseconds taker_limit{30'000};   // the replacement does not move for so long
  std::size_t windows_in_flight = 2;
  TrafficPriority* priority = nullptr;  // borrowed; may be null
};

// Ok: the replacement has it, or was dropped.
[[nodiscard]] boost::asio::awaitable<Status> FeedShare(ShareToFeed work, ShareOptions options);

struct ShardToRebuild {
  ShardToRebuild(SharedGroup g, std::uint32_t p, std::shared_ptr<ShardReader> s, MutableByteView i)
      : group(std::move(g)), position(p), shard(std::move(s)), into(i) {}

  SharedGroup group;
  std::uint32_t position;
  // The lost shard: its digests, and what decodes the segments that no helper gave.
  std::shared_ptr<ShardReader> shard;
  MutableByteView into;  // of the shard's length
  // By segment: survivors that decode it, asked one after the other.  When the first two fail, it
  // is decoded here; the others are for when that fails too, as where they reach whom this node
  // cannot.
  std::vector<std::vector<FeedSource>> helpers;
};

struct RebuildShardOptions {
  PullOptions pull;  // urgent: its pacing is as a rule empty
  HelperPatience patience;
  // What no helper gives: decoded at a time, its windows side by side, and of so many segments.
  ByteCount step_bytes = 16 * kMiB;  // a multiple of kChunkBytes
  std::size_t segments_at_once = 2;
  std::chrono::milliseconds step_limit{60'000};  // of such a step
  TrafficPriority* priority = nullptr;           // borrowed; may be null
};

// "on_verified" is told how many bytes of the shard are there, for the status; fewer again after a
// helper that failed.
[[nodiscard]] boost::asio::awaitable<Status> RebuildShard(WorkerPool* cpu,
                                                          ShardToRebuild work,
                                                          RebuildShardOptions options,
                                                          VerifiedBytes on_verified = {});

struct RebuildRowOptions {
  RebuildOptions rebuild;
  std::chrono::milliseconds window_limit{60'000};
  Pacing pacing;
};

// Makes row "row" of "stripe" anew from any k vectors of it.  "into" has the row's length.  Gives
// the digests of its chunks, to be recorded.
[[nodiscard]] boost::asio::awaitable<Result<std::vector<std::uint32_t>>> RebuildRow(
    WorkerPool* cpu,
    SharedGroup group,
    SharedSources sources,
    std::uint32_t stripe,
    std::uint32_t row,
    MutableByteView into,
    RebuildRowOptions options);

}  // namespace holdfast::daemon
