// Records for tests of the catalog: valid, and told apart by a few numbers.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>

#include "common/crc32c.h"
#include "common/units.h"
#include "layout/image.h"
#include "layout/layout_hash.h"
#include "proto/catalog.pb.h"

namespace holdfast::storage_tiers {

inline std::string TestUid(char fill) {
  return std::string(16, fill);
}

inline proto::SnapshotId TestId(std::uint64_t incarnation, std::int64_t step) {
  proto::SnapshotId id;
  id.set_job_uid(TestUid('j'));
  id.set_incarnation(incarnation);
  id.set_step(step);
  return id;
}

inline proto::JobRecord TestJob(std::uint64_t last_active) {
  proto::JobRecord job;
  job.set_job_uid(TestUid('j'));
  job.set_name("llama-70b");
  job.set_owner_uid(1000);
  job.set_epoch_number(3);
  job.set_epoch_token(0x1122334455667788);
  job.set_world_size(16);
  job.set_last_active_unix_ms(last_active);
  proto::TierPolicy* const tier = job.add_tiers();
  tier->set_root("/mnt/fs");
  tier->set_scope(proto::SHARED);
  tier->set_every_steps(100);
  tier->set_keep_last(2);
  return job;
}

inline proto::SlotRecord TestSlot(std::uint32_t slot, std::uint64_t generation) {
  proto::SlotRecord record;
  record.set_slot(slot);
  record.set_generation(generation);
  record.set_capacity_bytes(8 * kMiB);
  record.set_state(proto::SLOT_SEALED);
  record.set_arena_uuid(TestUid('a'));
  record.set_boot_id("5a3a3a3e-0000-4000-8000-123456789abc");
  record.set_job_uid(TestUid('j'));
  record.set_rank(5);
  record.set_epoch_number(3);
  record.set_session_token(99);
  record.set_pid(4242);
  return record;
}

inline proto::Layout TestLayout() {
  layout::TensorSpec tensor;
  tensor.name = "model.weight";
  tensor.dtype = proto::BF16;
  tensor.global_shape = {1024, 1000};
  tensor.local_shape = {1024, 1000};
  tensor.tensor_class = proto::STABLE;
  return layout::PlanImage(std::span(&tensor, 1)).value();
}

inline proto::ShardRecord TestShard(std::int64_t step, std::uint32_t rank) {
  const proto::Layout layout = TestLayout();
  proto::ShardRecord record;
  record.set_slot(7);
  record.set_generation(2);
  record.set_arena_uuid(TestUid('a'));
  record.set_boot_id("5a3a3a3e-0000-4000-8000-123456789abc");
  proto::Sidecar* const sidecar = record.mutable_sidecar();
  sidecar->set_format_version(1);
  *sidecar->mutable_id() = TestId(3, step);
  sidecar->set_job_name("llama-70b");
  sidecar->set_rank(rank);
  sidecar->set_world_size(16);
  sidecar->set_layout_hash(layout::LayoutHash(layout));
  sidecar->set_node_uuid(TestUid('n'));
  sidecar->set_sealed_unix_ms(1700000000000);
  proto::ImageDigest* const image = sidecar->add_images();
  image->set_kind(proto::DYNAMIC);
  image->set_length_bytes(layout.dynamic_image_bytes());
  image->set_chunk_bytes(kChunkBytes);
  for (std::uint64_t i = 0; i < ChunkCount(layout.dynamic_image_bytes()); ++i) {
    image->add_chunk_crc32c(static_cast<std::uint32_t>(0x1000 + i));
  }
  proto::StateItem* const state = sidecar->add_state();
  state->set_name("rng");
  state->set_json("{\"seed\": 7}");
  return record;
}

inline proto::IncarnationRecord TestIncarnation(std::uint64_t number) {
  proto::IncarnationRecord record;
  record.set_job_uid(TestUid('j'));
  record.set_number(number);
  record.set_token(0x8877665544332211);
  record.set_world_size(16);
  record.add_member_node_uuids(TestUid('n'));
  record.add_member_node_uuids(TestUid('m'));
  record.set_last_begun_step(-1);
  record.set_coordinator(true);
  record.mutable_decision()->set_attempt(2);
  record.mutable_decision()->set_decided(true);
  *record.mutable_decision()->mutable_choice() = TestId(2, 1200);
  return record;
}

inline proto::OutcomeRecord TestOutcome(std::int64_t step) {
  proto::OutcomeRecord record;
  *record.mutable_id() = TestId(3, step);
  record.set_outcome(proto::ABANDONED);
  record.set_reason("rank 3 missed: torn");
  record.set_world_size(16);
  return record;
}

inline proto::DurableRecord TestDurable(std::int64_t step) {
  proto::DurableRecord record;
  *record.mutable_id() = TestId(3, step);
  record.set_root("/mnt/fs");
  record.add_flushed_ranks(0);
  record.add_flushed_ranks(5);
  return record;
}

inline proto::RowRecord TestRow(std::int64_t step, std::uint32_t row) {
  proto::RowRecord record;
  *record.mutable_id() = TestId(3, step);
  record.set_start_token(99);
  proto::CodeSetRecord* const set = record.mutable_set();
  set->set_local_rank(1);
  set->set_epoch_number(4);
  set->set_version(2);
  for (const char node : {'a', 'b', 'c', 'd'}) {
    set->add_node_uuids(TestUid(node));
    set->add_shard_bytes(1 << 20);
    set->add_ranks(static_cast<std::uint32_t>(node - 'a'));
  }
  set->set_data_shards(2);
  set->set_parity_shards(2);
  set->set_matrix_id(1);
  set->set_segment_bytes(1 << 20);
  record.set_row(row);
  record.set_slot(9);
  record.set_generation(3);
  record.set_length_bytes(1 << 20);
  record.add_chunk_crc32c(0xABCD);
  record.set_arena_uuid(TestUid('u'));
  record.set_boot_id("5a8cbb7d-3b5a-4b0e-9c7b-2f6f0f6b6a51");
  return record;
}

inline proto::SidecarRecord TestSidecar(std::int64_t step, std::uint32_t rank) {
  proto::SidecarRecord record;
  *record.mutable_sidecar() = TestShard(step, rank).sidecar();
  record.set_start_token(99);
  return record;
}

}  // namespace holdfast::storage_tiers
