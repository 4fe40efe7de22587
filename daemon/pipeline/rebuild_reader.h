// Shard reader of a shard that is lost: decodes just the range that is asked for, from k others.
//
// Each window of the range is planned by itself (ec/recovery.h), its k sources are read side by
// side, each checked against its own digests, and decoded on the cpu pool.  A source that fails is
// left out: for a bad chunk this window alone (another chunk of the same source may be the only
// good one there), for anything else the rest of the call.  For a slow one another is read as well
// (hedged_reads.h); one that has not answered after "source_limit" counts as failed.
//
// Threads:   the io thread only; decoding on the cpu pool.
// Ownership: shares code and sources; borrows the pool.
// Errors:    kUnavailable: fewer than k sources of a stripe can be read; names the stripe and why
//            each of the others failed.  kTimeout (the deadline), kCancelled, kInvalidArgument.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "daemon/pipeline/hedged_reads.h"
#include "daemon/pipeline/shard_reader.h"
#include "daemon/pipeline/windows.h"
#include "ec/codec.h"
#include "ec/stripe.h"

namespace holdfast::daemon {

// One code set: where its bytes lie and how they are coded.
struct CodedGroup {
  ec::Stripes stripes;
  ec::Codec codec;

  [[nodiscard]] static Result<std::shared_ptr<const CodedGroup>> Make(const ec::Geometry& geometry);
};

using SharedGroup = std::shared_ptr<const CodedGroup>;

// Who can be read from; null: lost.  A member's own reader is there for its own vectors too.
// Readers may be added while it is decoded from, and none is taken away.
struct GroupSources {
  std::vector<std::shared_ptr<ShardReader>> shards;             // by position
  std::vector<std::vector<std::shared_ptr<ShardReader>>> rows;  // by stripe and row
  std::vector<std::uint32_t> preference;  // positions, the nearest first; others after them
  bool open = false;  // more may come: what has too few waits for it until its deadline

  // All lost.
  [[nodiscard]] static GroupSources None(const ec::Stripes& stripes);

  // Positions that anything can be read from.
  [[nodiscard]] std::size_t Nodes(const ec::Stripes& stripes) const;
};

using SharedSources = std::shared_ptr<const GroupSources>;

struct RebuildOptions {
  ByteCount window_bytes = 2 * kMiB;               // a multiple of kChunkBytes
  std::size_t windows_in_flight = 2;               // k * window_bytes of memory for each
  std::chrono::milliseconds source_limit{10'000};  // of one source's part of a window
  HedgeOptions hedge;
};

// Decodes ranges of any vector of the group that is lost.  Members whose sources failed, but for
// bad chunks, or took so long that another was asked too, are asked last from then on, for as long
// as it lives: one that lags or hangs costs one window something, not each.
class VectorDecoder {
 public:
  VectorDecoder(WorkerPool* cpu,
                SharedGroup group,
                SharedSources sources,
                const RebuildOptions& options);

  // Fills "into" with the bytes from "begin" on, a multiple of kChunkBytes, of vector "index" of
  // "stripe".  The sources were checked, the result was not: nothing is known of it here.
  [[nodiscard]] boost::asio::awaitable<Status> Decode(std::uint32_t stripe,
                                                      std::uint32_t index,
                                                      ByteCount begin,
                                                      MutableByteView into,
                                                      ShardReadOptions options);

  [[nodiscard]] const CodedGroup& group() const { return *group_; }

  [[nodiscard]] const RebuildOptions& options() const { return options_; }

 private:
  struct Job;

  WorkerPool* const cpu_;
  const SharedGroup group_;
  const SharedSources sources_;
  const RebuildOptions options_;
  std::vector<std::uint32_t> order_;  // positions, who is asked first
  ScratchPool scratch_;               // of all calls
};

class RebuildReader final : public ShardReader {
 public:
  // "what": the lost image of "position".  kInvalidArgument: it has not the length that the
  // geometry says, or sources do not fit the group.
  [[nodiscard]] static Result<std::shared_ptr<ShardReader>> Make(WorkerPool* cpu,
                                                                 SharedDigests what,
                                                                 SharedGroup group,
                                                                 std::uint32_t position,
                                                                 SharedSources sources,
                                                                 const RebuildOptions& options);

  [[nodiscard]] std::string Describe() const override;

 protected:
  [[nodiscard]] boost::asio::awaitable<Status> ReadBytes(ByteCount offset,
                                                         MutableByteView into,
                                                         ShardReadOptions options) override;

 private:
  RebuildReader(WorkerPool* cpu,
                SharedDigests what,
                SharedGroup group,
                std::uint32_t position,
                SharedSources sources,
                const RebuildOptions& options);

  VectorDecoder decoder_;
  const std::uint32_t position_;
};

}  // namespace holdfast::daemon
