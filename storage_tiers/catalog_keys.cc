#include "storage_tiers/catalog_keys.h"

#include "common/bytes.h"

namespace holdfast::storage_tiers {
namespace {

constexpr std::size_t kMaxDescribedBytes = 64;

std::string KeyOf(CatalogFamily family) {
  return std::string(1, static_cast<char>(family));
}

std::string BigEndian32(std::uint32_t value) {
  return BigEndianKey(value).substr(4);
}

// Steps are never negative in a valid record, so their order is that of the unsigned number.
std::string SnapshotKey(CatalogFamily family, const proto::SnapshotId& id) {
  return KeyOf(family) + id.job_uid() + BigEndianKey(id.incarnation()) +
         BigEndianKey(static_cast<std::uint64_t>(id.step()));
}

}  // namespace

std::string HeaderKey() {
  return KeyOf(CatalogFamily::kHeader);
}

std::string JobKey(std::string_view job_uid) {
  return KeyOf(CatalogFamily::kJob).append(job_uid);
}

std::string SlotKey(std::uint32_t slot) {
  return KeyOf(CatalogFamily::kSlot) + BigEndian32(slot);
}

std::string ShardKey(const proto::SnapshotId& id, std::uint32_t rank) {
  return SnapshotKey(CatalogFamily::kShard, id) + BigEndian32(rank);
}

std::string LayoutKey(std::string_view hash) {
  return KeyOf(CatalogFamily::kLayout).append(hash);
}

std::string IncarnationKey(std::string_view job_uid, std::uint64_t number) {
  return KeyOf(CatalogFamily::kIncarnation).append(job_uid) + BigEndianKey(number);
}

std::string SidecarKey(const proto::SnapshotId& id, std::uint32_t rank) {
  return SnapshotKey(CatalogFamily::kSidecar, id) + BigEndian32(rank);
}

std::string RowKey(const proto::RowRecord& record) {
  return SnapshotKey(CatalogFamily::kRow, record.id()) + BigEndianKey(record.set().epoch_number()) +
         BigEndian32(record.set().version()) + BigEndian32(record.set().local_rank()) +
         BigEndian32(record.row()) + (record.set().kind() == proto::STATIC ? "S" : "");
}

std::string OutcomeKey(const proto::SnapshotId& id) {
  return SnapshotKey(CatalogFamily::kOutcome, id);
}

std::string DurableKey(const proto::SnapshotId& id, std::string_view root) {
  return SnapshotKey(CatalogFamily::kDurable, id).append(root);
}

std::string DescribeKey(std::string_view key) {
  std::string text = "catalog key ";
  if (key.empty()) {
    return text + "(empty)";
  }
  const bool printable = key[0] > ' ' && key[0] <= '~';
  if (printable) {
    text += key[0];
    key.remove_prefix(1);
  }
  text += ToHex(AsBytes(key.substr(0, kMaxDescribedBytes)));
  return key.size() > kMaxDescribedBytes ? text + "..." : text;
}

}  // namespace holdfast::storage_tiers
