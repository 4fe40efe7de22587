#include "cli/cluster/scrub_plan.h"

#include <algorithm>
#include <utility>

#include "cli/snapshot_state.h"
#include "common/crc32c.h"

namespace holdfast::cli {
namespace {

// What says something about the node rather than about the one thing that it was asked for.
bool IsOfNode(Errc code) {
  return code == Errc::kUnavailable || code == Errc::kTimeout || code == Errc::kVersionMismatch ||
         code == Errc::kCancelled || code == Errc::kInternal;
}

Error ErrorOf(const proto::ScrubResult& result) {
  return Error(static_cast<Errc>(result.error_code()), result.error());
}

}  // namespace

ScrubPlan::ScrubPlan(const std::vector<proto::NodeAnswer>& nodes, const std::string& job) {
  for (const proto::NodeAnswer& answer : nodes) {
    for (const proto::SnapshotInfo& snapshot : answer.view().list().snapshots()) {
      if (job.empty() || snapshot.job_name() == job) {
        Add(answer.node_uuid(), snapshot);
      }
    }
  }
}

void ScrubPlan::Add(const std::string& node, const proto::SnapshotInfo& snapshot) {
  ScrubItem item;
  item.node = node;
  item.job = snapshot.job_name();
  *item.key.mutable_id() = snapshot.id();
  for (const proto::ShardInfo& shard : snapshot.shards()) {
    if (shard.state() == kStateFilling) {
      continue;
    }
    ScrubItem image = item;
    image.was_poisoned = shard.state() == kStatePoisoned;
    image.key.mutable_image()->set_rank(shard.rank());
    image.key.mutable_image()->set_kind(proto::DYNAMIC);
    image.length = shard.image_bytes();
    Push(image);
    image.key.mutable_image()->set_kind(proto::STATIC);
    image.length = shard.static_image_bytes();
    Push(std::move(image));
  }
  for (const proto::HeldRows& held : snapshot.held_rows()) {
    for (const proto::HeldRow& row : held.rows()) {
      ScrubItem parity = item;
      proto::StoredParity* key = parity.key.mutable_parity();
      key->set_local_rank(held.set().local_rank());
      key->set_group_epoch(held.set().epoch_number());
      key->set_group_version(held.set().version());
      key->set_stripe(row.stripe());
      key->set_row(row.row());
      key->set_kind(held.set().kind());
      parity.length = row.length_bytes();
      Push(std::move(parity));
    }
  }
}

void ScrubPlan::Push(ScrubItem item) {
  if (item.length == 0) {
    return;
  }
  total_bytes_ += item.length;
  left_[item.node].push_back(items_.size());
  items_.push_back(std::move(item));
}

proto::ScrubNodesRequest ScrubPlan::Next(std::size_t most) {
  proto::ScrubNodesRequest request;
  asked_.clear();
  std::erase_if(left_, [](const auto& entry) { return entry.second.empty(); });
  auto it = left_.upper_bound(last_node_);
  for (std::size_t i = 0; i < std::min(most, left_.size()); ++i) {
    it = it == left_.end() ? left_.begin() : it;
    const ScrubItem& item = items_[it->second.front()];
    proto::ScrubPart* part = request.add_parts();
    part->set_node_uuid(item.node);
    *part->mutable_key() = item.key;
    part->set_first_chunk(item.bytes / kChunkBytes);
    part->set_chunks(kScrubPartChunks);
    asked_.push_back(it->second.front());
    last_node_ = it->first;
    ++it;
  }
  return request;
}

ByteCount ScrubPlan::Take(const proto::ScrubNodesReply& reply) {
  ByteCount done = 0;
  for (std::size_t i = 0; i < asked_.size(); ++i) {
    const auto at = static_cast<int>(i);
    if (at < reply.results_size()) {
      done += TakeOne(asked_[i], reply.results(at));
    } else {
      done += GiveUp(items_[asked_[i]].node,
                     Error(Errc::kInternal, "the daemon did not answer for all that was asked"));
    }
  }
  return done;
}

ByteCount ScrubPlan::TakeOne(std::size_t number, const proto::ScrubResult& result) {
  ScrubItem& item = items_[number];
  std::deque<std::size_t>& left = left_[item.node];
  if (result.error_code() != 0 && IsOfNode(static_cast<Errc>(result.error_code()))) {
    return GiveUp(item.node, ErrorOf(result));
  }
  const ByteCount before = item.bytes;
  item.bytes = std::min(item.length, item.bytes + result.bytes());
  item.bad_chunks.insert(
      item.bad_chunks.end(), result.bad_chunks().begin(), result.bad_chunks().end());
  // A part is whole chunks but at the end, so that one which is shorter was the last.
  const bool whole = result.bytes() == kScrubPartChunks * kChunkBytes;
  if (result.error_code() == 0 && whole && item.bytes < item.length) {
    return item.bytes - before;
  }
  left.pop_front();
  if (result.error_code() != 0) {
    item.freed = static_cast<Errc>(result.error_code()) == Errc::kNotFound;
    // What was found bad is taken out of use at once, and freed perhaps.
    if (!item.freed) {
      item.error = ErrorOf(result);
    }
  } else if (item.bytes < item.length && item.bad_chunks.empty()) {
    item.error = Error(Errc::kInternal, "the node read less than it holds");
  }
  return item.length - before;
}

ByteCount ScrubPlan::GiveUp(const std::string& node, const Error& error) {
  gone_.emplace(node, error);
  ByteCount given_up = 0;
  for (const std::size_t number : left_[node]) {
    ScrubItem& item = items_[number];
    given_up += item.length - item.bytes;
    item.error = error;
  }
  left_[node].clear();
  return given_up;
}

}  // namespace holdfast::cli
