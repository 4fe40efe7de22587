#include "storage_tiers/catalog_batch.h"

#include <iterator>
#include <utility>

#include "layout/layout_hash.h"
#include "layout/names.h"
#include "storage_tiers/catalog_keys.h"
#include "storage_tiers/catalog_records.h"

namespace holdfast::storage_tiers {
namespace {

Status CheckWidth(std::string_view bytes, std::size_t wanted, std::string_view what) {
  if (bytes.size() == wanted) {
    return Ok();
  }
  return Error(Errc::kInternal,
               std::string(what) + " has " + std::to_string(bytes.size()) + " bytes, not " +
                   std::to_string(wanted));
}

}  // namespace

void CatalogBatch::PutJob(const proto::JobRecord& record) {
  Put(JobKey(record.job_uid()), record, ValidateRecord(record));
}

void CatalogBatch::DeleteJob(std::string_view job_uid) {
  Delete(JobKey(job_uid), CheckWidth(job_uid, layout::kUidBytes, "job_uid"));
}

void CatalogBatch::PutSlot(const proto::SlotRecord& record) {
  Put(SlotKey(record.slot()), record, ValidateRecord(record));
}

void CatalogBatch::DeleteSlot(std::uint32_t slot) {
  Delete(SlotKey(slot), Ok());
}

void CatalogBatch::PutShard(const proto::ShardRecord& record) {
  Put(ShardKey(record.sidecar().id(), record.sidecar().rank()), record, ValidateRecord(record));
}

void CatalogBatch::DeleteShard(const proto::SnapshotId& id, std::uint32_t rank) {
  Delete(ShardKey(id, rank), layout::ValidateSnapshotId(id));
}

void CatalogBatch::PutRow(const proto::RowRecord& record) {
  Put(RowKey(record), record, ValidateRecord(record));
}

void CatalogBatch::DeleteRow(const proto::RowRecord& record) {
  Delete(RowKey(record), layout::ValidateSnapshotId(record.id()));
}

void CatalogBatch::PutSidecar(const proto::SidecarRecord& record) {
  Put(SidecarKey(record.sidecar().id(), record.sidecar().rank()), record, ValidateRecord(record));
}

void CatalogBatch::DeleteSidecar(const proto::SnapshotId& id, std::uint32_t rank) {
  Delete(SidecarKey(id, rank), layout::ValidateSnapshotId(id));
}

void CatalogBatch::PutLayout(std::string_view hash, const proto::LayoutRecord& record) {
  Put(LayoutKey(hash), record, ValidateLayoutRecord(hash, record));
}

void CatalogBatch::DeleteLayout(std::string_view hash) {
  Delete(LayoutKey(hash), CheckWidth(hash, layout::kLayoutHashBytes, "layout hash"));
}

void CatalogBatch::PutIncarnation(const proto::IncarnationRecord& record) {
  Put(IncarnationKey(record.job_uid(), record.number()), record, ValidateRecord(record));
}

void CatalogBatch::DeleteIncarnation(std::string_view job_uid, std::uint64_t number) {
  Delete(IncarnationKey(job_uid, number), CheckWidth(job_uid, layout::kUidBytes, "job_uid"));
}

void CatalogBatch::PutOutcome(const proto::OutcomeRecord& record) {
  Put(OutcomeKey(record.id()), record, ValidateRecord(record));
}

void CatalogBatch::DeleteOutcome(const proto::SnapshotId& id) {
  Delete(OutcomeKey(id), layout::ValidateSnapshotId(id));
}

void CatalogBatch::PutDurable(const proto::DurableRecord& record) {
  Put(DurableKey(record.id(), record.root()), record, ValidateRecord(record));
}

void CatalogBatch::DeleteDurable(const proto::SnapshotId& id, std::string_view root) {
  Delete(DurableKey(id, root), layout::ValidateSnapshotId(id));
}

void CatalogBatch::Append(CatalogBatch&& later) {
  ops_.insert(ops_.end(),
              std::make_move_iterator(later.ops_.begin()),
              std::make_move_iterator(later.ops_.end()));
  if (!invalid_) {
    invalid_ = std::move(later.invalid_);
  }
  later.ops_.clear();
  later.invalid_.reset();
}

Status CatalogBatch::check() const {
  if (invalid_) {
    return *invalid_;
  }
  return Ok();
}

void CatalogBatch::Put(std::string key,
                       const google::protobuf::MessageLite& record,
                       const Status& valid) {
  if (!valid) {
    Refuse(key, valid.error());
    return;
  }
  std::string value;
  // Fails for values over 2 GiB and for text that is not UTF-8 in debug builds of protobuf.
  if (!record.SerializeToString(&value)) {
    Refuse(key, Error(Errc::kInternal, "cannot be serialised"));
    return;
  }
  ops_.push_back({std::move(key), std::move(value)});
}

void CatalogBatch::Delete(std::string key, const Status& valid) {
  if (!valid) {
    Refuse(key, valid.error());
    return;
  }
  ops_.push_back({std::move(key), std::nullopt});
}

void CatalogBatch::Refuse(const std::string& key, const Error& why) {
  if (!invalid_) {
    invalid_ = Error(
        Errc::kInternal,
        "refused to record what could not be read again: " + DescribeKey(key) + ": " + why.message);
  }
}

}  // namespace holdfast::storage_tiers
