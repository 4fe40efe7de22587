#include "tests/cli/cluster/four_nodes.h"

#include "common/error.h"

namespace holdfast::cli {
namespace {

constexpr std::uint64_t kShardBytes = 3 * kMiB;
constexpr std::uint64_t kSegmentBytes = 2 * kMiB;

void FillSet(proto::CodeSetRecord* set) {
  set->set_epoch_number(7);
  set->set_version(1);
  set->set_data_shards(kTestNodes - kTestParity);
  set->set_parity_shards(kTestParity);
  set->set_segment_bytes(kSegmentBytes);
  for (std::uint32_t position = 0; position < kTestNodes; ++position) {
    set->add_node_uuids(TestNode(position));
    set->add_shard_bytes(kShardBytes);
    set->add_ranks(position);
  }
}

void FillJob(std::uint32_t number, proto::JobStatus* job) {
  job->set_name("my-job");
  job->set_job_uid(std::string(16, '\x11'));
  job->set_incarnation(7);
  job->set_world_size(kTestNodes);
  job->set_phase(number == 0 ? "run" : "idle");
  job->set_live(true);
  job->set_arena_bytes(kMiB);
  job->mutable_newest_complete()->set_incarnation(7);
  job->mutable_newest_complete()->set_step(1200);
  *job->mutable_protected_id() = job->newest_complete();
  job->set_margin(kTestParity);
  proto::GroupStatus* group = job->add_groups();
  group->set_data(kTestNodes - kTestParity);
  group->set_parity(kTestParity);
  for (std::uint32_t rank = 0; rank < kTestNodes; ++rank) {
    proto::MemberNode* member = job->add_members();
    member->set_node_uuid(TestNode(rank));
    member->add_ranks(rank);
    group->add_node_uuids(TestNode(rank));
  }
  proto::RankStatus* rank = job->add_ranks();
  rank->set_rank(number);
  rank->set_pid(static_cast<std::int32_t>(100 + number));
  rank->set_connected(true);
  rank->set_last_begun_step(1210);
}

void FillSnapshot(std::uint32_t number, proto::SnapshotInfo* snapshot) {
  snapshot->set_job_name("my-job");
  snapshot->mutable_id()->set_job_uid(std::string(16, '\x11'));
  snapshot->mutable_id()->set_incarnation(7);
  snapshot->mutable_id()->set_step(1200);
  snapshot->set_world_size(kTestNodes);
  snapshot->set_state("complete");
  snapshot->set_margin(kTestParity);
  snapshot->set_is_protected(true);
  snapshot->set_parity_rows(kTestParity);
  proto::ShardInfo* shard = snapshot->add_shards();
  shard->set_rank(number);
  shard->set_state("sealed");
  shard->set_image_bytes(kShardBytes);
  proto::HeldRows* held = snapshot->add_held_rows();
  FillSet(held->mutable_set());
  for (std::uint32_t row = 0; row < kTestParity; ++row) {
    proto::HeldRow* one = held->add_rows();
    one->set_row(row);
    one->set_stripe((number + kTestNodes - row) % kTestNodes);
    one->set_length_bytes(kSegmentBytes);
  }
  for (std::uint32_t rank = 0; rank < kTestNodes; ++rank) {
    if (rank != number) {
      snapshot->add_sidecar_ranks(rank);
    }
  }
}

}  // namespace

std::string TestNode(std::uint32_t number) {
  return std::string(16, static_cast<char>(0x21 + 0x11 * number));
}

std::vector<proto::NodeAnswer> FourNodes() {
  std::vector<proto::NodeAnswer> nodes(kTestNodes);
  for (std::uint32_t number = 0; number < kTestNodes; ++number) {
    proto::NodeAnswer& answer = nodes[number];
    answer.set_node_uuid(TestNode(number));
    answer.add_endpoints("10.0.0." + std::to_string(number + 1) + ":7400");
    proto::StatusReply* status = answer.mutable_view()->mutable_status();
    status->set_node_uuid(TestNode(number));
    status->set_boot_number(number + 1);
    status->mutable_arena()->set_budget_bytes(64 * kMiB);
    status->mutable_arena()->set_used_bytes(16 * kMiB);
    FillJob(number, status->add_jobs());
    FillSnapshot(number, answer.mutable_view()->mutable_list()->add_snapshots());
  }
  return nodes;
}

void Silence(proto::NodeAnswer* answer) {
  answer->clear_view();
  answer->set_error_code(static_cast<std::uint32_t>(Errc::kUnavailable));
  answer->set_error("connection refused");
}

proto::SnapshotInfo* Snapshot(proto::NodeAnswer* answer) {
  return answer->mutable_view()->mutable_list()->mutable_snapshots(0);
}

}  // namespace holdfast::cli
