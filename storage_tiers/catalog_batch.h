// One transition of the daemon's state, as the records that change together.
//
// A value that the core fills without I/O; Catalog::Apply makes it durable, whole or not at all.
// Later operations on a key replace earlier ones, as in the order of the calls.
//
// Threads:   a value type; one thread at a time.
// Ownership: owns the serialised records.
// Errors:    the calls return nothing, since the core cannot do anything about a record that it
// built
//            wrongly: the first such record is remembered, check() gives it, and Apply refuses the
//            whole batch.  An invalid record is never written: the next start would not read it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"
#include "proto/catalog.pb.h"

namespace holdfast::storage_tiers {

class CatalogBatch {
 public:
  struct Op {
    std::string key;
    std::optional<std::string> value;  // absent: the key is deleted
  };

  void PutJob(const proto::JobRecord& record);
  void DeleteJob(std::string_view job_uid);

  void PutSlot(const proto::SlotRecord& record);
  void DeleteSlot(std::uint32_t slot);

  // Under the snapshot id and rank of its sidecar, which must not carry the layout.
  void PutShard(const proto::ShardRecord& record);
  void DeleteShard(const proto::SnapshotId& id, std::uint32_t rank);

  void PutRow(const proto::RowRecord& record);
  void DeleteRow(const proto::RowRecord& record);

  // Of a shard that another node holds; without the layout.
  void PutSidecar(const proto::SidecarRecord& record);
  void DeleteSidecar(const proto::SnapshotId& id, std::uint32_t rank);

  // "hash" is layout::LayoutHash of the record's layout (checked).
  void PutLayout(std::string_view hash, const proto::LayoutRecord& record);
  void DeleteLayout(std::string_view hash);

  void PutIncarnation(const proto::IncarnationRecord& record);
  void DeleteIncarnation(std::string_view job_uid, std::uint64_t number);

  void PutOutcome(const proto::OutcomeRecord& record);
  void DeleteOutcome(const proto::SnapshotId& id);

  void PutDurable(const proto::DurableRecord& record);
  void DeleteDurable(const proto::SnapshotId& id, std::string_view root);

  // "later" comes after what is here.
  void Append(CatalogBatch&& later);

  // kInternal: the first record that the grammar refuses, with its key.
  [[nodiscard]] Status check() const;

  // No operation and nothing refused.
  [[nodiscard]] bool empty() const { return ops_.empty() && !invalid_; }

  [[nodiscard]] std::size_t size() const { return ops_.size(); }

  [[nodiscard]] const std::vector<Op>& ops() const { return ops_; }

 private:
  void Put(std::string key, const google::protobuf::MessageLite& record, const Status& valid);
  void Delete(std::string key, const Status& valid);
  void Refuse(const std::string& key, const Error& why);

  std::vector<Op> ops_;
  std::optional<Error> invalid_;
};

}  // namespace holdfast::storage_tiers
