// A group with one lost member, and survivors that decode shares for its replacement.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "daemon/pipeline/rebuild.h"
#include "tests/daemon/pipeline/group_fixture.h"

namespace holdfast::daemon {

inline constexpr std::uint32_t kReplacement = 90;  // a reader that is no member
inline constexpr std::byte kCanary{0xee};

class RebuildTest : public GroupTest {
 protected:
  // 3+2 with segments of 3 MiB; position 1 is lost, its image ends in the middle of a chunk.
  RebuildTest() {
    ec::CodeParams code;
    code.data = 3;
    code.parity = 2;
    std::vector<ByteCount> lengths(5, 9 * kMiB);
    lengths[kLost] = 9 * kMiB - 1234;
    group_ = std::make_unique<TestGroup>(code, lengths);
    group_->FillRows();
    into_.assign(group_->images[kLost].size(), kCanary);
    rebuild_.window_bytes = kMiB;
    pull_.window_bytes = kMiB;
  }

  // Tasks end before what they use.
  ~RebuildTest() override { CancelAndEnd(); }

  static constexpr std::uint32_t kLost = 1;

  std::shared_ptr<ShardReader> LostShard(std::uint32_t reader,
                                         const std::vector<std::uint32_t>& lost = {kLost}) {
    return RebuildReader::Make(&cpu_,
                               group_->digests[kLost],
                               group_->group,
                               kLost,
                               Sources(*group_, lost, reader),
                               rebuild_)
        .value();
  }

  Status Read(ShardReader* reader, std::chrono::seconds limit = std::chrono::seconds(30)) {
    ShardReadOptions options;
    options.deadline = std::chrono::steady_clock::now() + limit;
    return RunToEnd(reader->ReadRange(0, into_, options));
  }

  // A survivor that decodes segment "segment"; started, and what the replacement asks.
  struct Helper {
    std::shared_ptr<WindowFeed> feed;
    std::shared_ptr<LocalFeedCalls> calls;
    std::shared_ptr<FaultRangeReader> ring;
    std::optional<Status> done;
  };

  Helper& StartHelper(std::uint32_t segment, std::uint32_t survivor) {
    const ec::Stripes& stripes = group_->group->stripes;
    helpers_.push_back(std::make_unique<Helper>());
    Helper& helper = *helpers_.back();
    const FeedShape shape{
        .windows = Windows(stripes.SegmentLength(kLost, segment), kMiB), .lanes = 1, .depth = 2};
    helper.feed = FeedOf(shape);
    helper.calls = std::make_shared<LocalFeedCalls>(helper.feed, 0);
    helper.ring = RingOf(helper.feed);
    ShareToFeed work(LostShard(survivor), segment * stripes.SegmentBytes(), helper.feed);
    Start(FeedShare(std::move(work), share_), &helper.done);
    return helper;
  }

  ShardToRebuild Work(std::shared_ptr<ShardReader> here) {
    ShardToRebuild work(group_->group, kLost, std::move(here), into_);
    work.helpers.resize(3);
    return work;
  }

  // With one helper for each segment: positions 0, 2 and 3.
  ShardToRebuild WorkWithHelpers() {
    ShardToRebuild work = Work(LostShard(kReplacement));
    const std::uint32_t survivors[] = {0, 2, 3};
    for (std::uint32_t segment = 0; segment < 3; ++segment) {
      Helper& helper = StartHelper(segment, survivors[segment]);
      work.helpers[segment].push_back({helper.calls, helper.ring});
    }
    return work;
  }

  Status Rebuild(ShardToRebuild work) {
    RebuildShardOptions options;
    options.pull = pull_;
    options.patience = patience_;
    auto told = [this](ByteCount bytes) { verified_ = bytes; };
    return RunToEnd(RebuildShard(&cpu_, std::move(work), options, told));
  }

  bool HelpersEnded() {
    return RunUntil([this] {
      return std::all_of(
          helpers_.begin(), helpers_.end(), [](const auto& h) { return h->done.has_value(); });
    });
  }

  ByteCount BytesReadBy(std::uint32_t reader) const {
    ByteCount bytes = 0;
    for (const auto& [who, source] : readers_) {
      bytes += who.first == reader ? source->bytes_read : 0;
    }
    return bytes;
  }

  static FaultRangeReader::Faults Hang() {
    return [](ByteCount, ByteCount) {
      FaultRangeReader::Fault fault;
      fault.hang = true;
      return fault;
    };
  }

  static FaultRangeReader::Faults Slow(std::chrono::milliseconds delay) {
    return [delay](ByteCount, ByteCount) {
      FaultRangeReader::Fault fault;
      fault.delay = delay;
      return fault;
    };
  }

  std::unique_ptr<TestGroup> group_;
  std::vector<std::byte> into_;
  RebuildOptions rebuild_;
  ShareOptions share_;
  HelperPatience patience_;
  std::vector<std::unique_ptr<Helper>> helpers_;
  ByteCount verified_ = 0;
};

}  // namespace holdfast::daemon
