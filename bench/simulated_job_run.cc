// What the trainers of a simulated job do: they start, restore, and take snapshots.

#include <algorithm>
#include <numeric>

#include "bench/simulated_job.h"

namespace holdfast::bench {
namespace {

constexpr const char* kName = "train";

}  // namespace

void SimulatedJob::AllRanks(int ticks, const std::function<void(std::uint32_t rank)>& what) {
  std::vector<std::uint32_t> order(trainers_.size());
  std::iota(order.begin(), order.end(), 0U);
  std::shuffle(order.begin(), order.end(), random_);
  const std::size_t part = order.size() / static_cast<std::size_t>(ticks) + 1;
  for (std::size_t i = 0; i < order.size(); ++i) {
    what(order[i]);
    Pump();
    if (i % nodes_.size() == 0) {
      PumpAll();
    }
    if (i % part == part - 1) {
      Tick();
    }
  }
  Tick();
}

Status SimulatedJob::Start() {
  const auto nodes = static_cast<std::uint32_t>(nodes_.size());
  for (std::uint32_t rank = 0; rank < trainers_.size(); ++rank) {
    const std::uint64_t random = 1'000'000 + rank;
    Call(trainers_[rank].node, [&](daemon::NodeCore* core) {
      core->OnConnected(trainers_[rank].session,
                        {1000, static_cast<std::int32_t>(100 + rank), 1, random, random});
    });
  }
  for (std::uint32_t node = 1; node < nodes; ++node) {
    Call(0, [&](daemon::NodeCore* core) { core->OnPeerUp(nodes_[node].uuid, 1); });
    Call(node, [&](daemon::NodeCore* core) { core->OnPeerUp(nodes_[0].uuid, 1); });
  }
  proto::ClientMessage open;
  open.set_request_id(1);
  open.mutable_open_incarnation()->set_job_name(kName);
  open.mutable_open_incarnation()->set_world_size(static_cast<std::uint32_t>(trainers_.size()));
  Request(0, open);
  PumpAll();
  if (uid_.empty()) {
    return Error(Errc::kInternal, "the job does not open");
  }
  HF_TRYV(Register());
  return Restore();
}

Status SimulatedJob::Register() {
  proto::ClientMessage message;
  message.set_request_id(2);
  proto::RegisterRequest* body = message.mutable_register_();
  body->set_job_name(kName);
  body->set_job_uid(uid_);
  body->set_epoch_number(epoch_.number);
  body->set_epoch_token(epoch_.token);
  body->set_world_size(static_cast<std::uint32_t>(trainers_.size()));
  body->set_last_begun_step(daemon::kNoStep);
  for (std::uint32_t node = 0; node < nodes_.size(); ++node) {
    proto::MemberNode* member = body->add_members();
    member->set_node_uuid(nodes_[node].uuid);
    member->add_endpoints("10.0." + std::to_string(node / 256) + "." + std::to_string(node % 256) +
                          ":7070");
    for (std::uint32_t local = 0; local < ranks_of_node_; ++local) {
      member->add_ranks(node * ranks_of_node_ + local);
    }
  }
  for (std::uint32_t rank = 0; rank < trainers_.size(); ++rank) {
    body->set_rank(rank);
    Request(rank, message);
  }
  PumpAll();
  const bool all = std::all_of(trainers_.begin(), trainers_.end(), [](const Trainer& trainer) {
    return trainer.grant.has_value();
  });
  return all ? Status(Ok()) : Error(Errc::kInternal, "a rank has no grant");
}

Status SimulatedJob::Restore() {
  proto::ClientMessage message;
  message.set_request_id(3);
  message.mutable_restore();
  for (std::uint32_t rank = 0; rank < trainers_.size(); ++rank) {
    Request(rank, message);
  }
  PumpAll();
  for (int i = 0; i < 8; ++i) {
    Tick();
  }
  const bool all = std::all_of(
      trainers_.begin(), trainers_.end(), [](const Trainer& trainer) { return trainer.returned; });
  return all ? Status(Ok()) : Error(Errc::kInternal, "a rank does not return from its restore");
}

bool SimulatedJob::IsProtected(daemon::Step step) const {
  const proto::StatusReply status = nodes_[0].core->StatusNow();
  return status.jobs_size() == 1 && status.jobs(0).has_protected_id() &&
         status.jobs(0).protected_id().step() == step;
}

Result<SnapshotCost> SimulatedJob::Snapshot() {
  const daemon::Step step = ++step_;
  cost_ = {};
  for (Node& node : nodes_) {
    node.seconds = 0;
  }
  std::vector<proto::GrantEvent> used(trainers_.size());
  AllRanks(2, [&](std::uint32_t rank) {
    proto::ClientMessage message;
    message.set_request_id(static_cast<std::uint64_t>(10 * step));
    used[rank] = trainers_[rank].grant.value_or(proto::GrantEvent());
    trainers_[rank].grant.reset();
    message.mutable_begin()->set_step(step);
    message.mutable_begin()->set_slot(used[rank].slot());
    message.mutable_begin()->set_generation(used[rank].generation());
    Request(rank, message);
  });
  AllRanks(4, [&](std::uint32_t rank) {
    proto::ClientMessage message;
    message.set_request_id(static_cast<std::uint64_t>(10 * step + 1));
    message.mutable_seal()->set_step(step);
    message.mutable_seal()->set_slot(used[rank].slot());
    message.mutable_seal()->set_generation(used[rank].generation());
    message.mutable_seal()->set_layout_generation(1);
    message.mutable_seal()->add_chunk_crc32c(rank);
    Request(rank, message);
  });
  const std::size_t a_tick = trainers_.size() / 4 + 1;  // two rows for each rank: eight ticks
  constexpr int kMostTicks = 200;
  for (int i = 0; i < kMostTicks && (!work_.empty() || !IsProtected(step)); ++i) {
    WorkOff(a_tick);
    Tick();
  }
  for (int i = 0; i < 4; ++i) {
    Tick();
  }
  if (!IsProtected(step)) {
    const proto::JobStatus job = nodes_[0].core->StatusNow().jobs(0);
    return Error(Errc::kInternal,
                 "step " + std::to_string(step) + " is not protected: the newest complete is " +
                     std::to_string(job.newest_complete().step()) + "; " + job.not_protected());
  }
  cost_.coordinator_seconds = nodes_[0].seconds;
  for (std::size_t node = 1; node < nodes_.size(); ++node) {
    cost_.member_seconds += nodes_[node].seconds / static_cast<double>(nodes_.size() - 1);
  }
  return cost_;
}

}  // namespace holdfast::bench
