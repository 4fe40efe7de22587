#include "storage_tiers/catalog_contents.h"

#include <utility>

#include "common/bytes.h"
#include "common/units.h"
#include "layout/wire_budget.h"
#include "storage_tiers/catalog_keys.h"
#include "storage_tiers/catalog_records.h"

namespace holdfast::storage_tiers {
namespace {

// A layout of a million tensors needs about 250 MiB.
constexpr ByteCount kMaxValueBytes = 512 * kMiB;
// Tensors, boxes, names, state items; a valid layout has at most about two million.
constexpr std::uint64_t kMaxElementsOnWire = 3'000'000;

template <class Record>
Result<Record> Parse(std::string_view value) {
  HF_TRYV(layout::CheckWireBudget(*Record::descriptor(), AsBytes(value), kMaxElementsOnWire));
  Record record;
  if (!record.ParseFromArray(value.data(), static_cast<int>(value.size()))) {
    return Error(Errc::kCorruption, "the value is no " + std::string(Record::descriptor()->name()));
  }
  return record;
}

// A record that lies under the name of another would be found by the wrong question.
Status CheckKey(std::string_view key, const std::string& own_key) {
  if (key == own_key) {
    return Ok();
  }
  return Error(Errc::kCorruption, "the record belongs under " + DescribeKey(own_key));
}

template <class Record, class KeyOf>
Status ParseInto(std::string_view key,
                 std::string_view value,
                 KeyOf key_of,
                 std::vector<Record>* records) {
  HF_TRY(Record record, Parse<Record>(value));
  HF_TRYV(ValidateRecord(record));
  HF_TRYV(CheckKey(key, key_of(record)));
  records->push_back(std::move(record));
  return Ok();
}

Status ParseHeader(std::string_view key, std::string_view value, CatalogContents* contents) {
  HF_TRY(proto::CatalogHeader header, Parse<proto::CatalogHeader>(value));
  HF_TRYV(ValidateRecord(header));
  HF_TRYV(CheckKey(key, HeaderKey()));
  contents->header = std::move(header);
  return Ok();
}

Status ParseLayout(std::string_view key, std::string_view value, CatalogContents* contents) {
  const std::string_view hash = key.substr(1);
  HF_TRY(proto::LayoutRecord record, Parse<proto::LayoutRecord>(value));
  HF_TRYV(ValidateLayoutRecord(hash, record));
  contents->layouts.insert_or_assign(std::string(hash), std::move(*record.mutable_layout()));
  return Ok();
}

std::string KeyOfSidecar(const proto::SidecarRecord& record) {
  return SidecarKey(record.sidecar().id(), record.sidecar().rank());
}

Status ParseByFamily(std::string_view key, std::string_view value, CatalogContents* contents) {
  if (key.empty()) {
    return Error(Errc::kCorruption, "an empty key names nothing");
  }
  if (value.size() > kMaxValueBytes) {
    return Error(Errc::kCorruption,
                 "the value has " + std::to_string(value.size()) + " bytes, more than any record");
  }
  switch (static_cast<CatalogFamily>(key.front())) {
    case CatalogFamily::kHeader:
      return ParseHeader(key, value, contents);
    case CatalogFamily::kIncarnation:
      return ParseInto(
          key,
          value,
          [](const proto::IncarnationRecord& r) { return IncarnationKey(r.job_uid(), r.number()); },
          &contents->incarnations);
    case CatalogFamily::kJob:
      return ParseInto(
          key,
          value,
          [](const proto::JobRecord& r) { return JobKey(r.job_uid()); },
          &contents->jobs);
    case CatalogFamily::kLayout:
      return ParseLayout(key, value, contents);
    case CatalogFamily::kOutcome:
      return ParseInto(
          key,
          value,
          [](const proto::OutcomeRecord& r) { return OutcomeKey(r.id()); },
          &contents->outcomes);
    case CatalogFamily::kDurable:
      return ParseInto(
          key,
          value,
          [](const proto::DurableRecord& r) { return DurableKey(r.id(), r.root()); },
          &contents->durables);
    case CatalogFamily::kRow:
      return ParseInto(key, value, RowKey, &contents->rows);
    case CatalogFamily::kSidecar:
      return ParseInto(key, value, KeyOfSidecar, &contents->sidecars);
    case CatalogFamily::kShard:
      return ParseInto(
          key,
          value,
          [](const proto::ShardRecord& r) {
            return ShardKey(r.sidecar().id(), r.sidecar().rank());
          },
          &contents->shards);
    case CatalogFamily::kSlot:
      return ParseInto(
          key,
          value,
          [](const proto::SlotRecord& r) { return SlotKey(r.slot()); },
          &contents->slots);
  }
  return Error(Errc::kCorruption, "no family of records has this first byte");
}

}  // namespace

Status ParseRecord(std::string_view key, std::string_view value, CatalogContents* contents) {
  Status parsed = ParseByFamily(key, value, contents);
  if (parsed) {
    return parsed;
  }
  Error error = std::move(parsed).error();
  // The grammar serves writers too; what is wrong in bytes that were read is damage.
  if (error.code != Errc::kVersionMismatch) {
    error.code = Errc::kCorruption;
  }
  return std::move(error).WithContext(DescribeKey(key));
}

void AddRecord(std::string_view key, std::string_view value, CatalogContents* contents) {
  Status parsed = ParseRecord(key, value, contents);
  if (parsed) {
    return;
  }
  ++contents->damaged_count;
  if (contents->damaged.size() < kMaxDamagedKept) {
    contents->damaged.push_back({std::string(key), std::move(parsed).error()});
  }
}

}  // namespace holdfast::storage_tiers
