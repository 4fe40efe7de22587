// Any key and value: no crash, no record that does not pass the grammar, and what is accepted can
// be written again under the same key.  Input: the key's length (u32, little-endian), key, value.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "common/bytes.h"
#include "common/check.h"
#include "storage_tiers/catalog_batch.h"
#include "storage_tiers/catalog_contents.h"

namespace {

using holdfast::storage_tiers::CatalogBatch;
using holdfast::storage_tiers::CatalogContents;

CatalogBatch Rewrite(const CatalogContents& contents) {
  CatalogBatch batch;
  for (const auto& record : contents.jobs) {
    batch.PutJob(record);
  }
  for (const auto& record : contents.slots) {
    batch.PutSlot(record);
  }
  for (const auto& record : contents.shards) {
    batch.PutShard(record);
  }
  for (const auto& [hash, layout] : contents.layouts) {
    holdfast::proto::LayoutRecord record;
    *record.mutable_layout() = layout;
    batch.PutLayout(hash, record);
  }
  for (const auto& record : contents.incarnations) {
    batch.PutIncarnation(record);
  }
  for (const auto& record : contents.outcomes) {
    batch.PutOutcome(record);
  }
  for (const auto& record : contents.durables) {
    batch.PutDurable(record);
  }
  return batch;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t prefix = std::min<std::size_t>(4, input.size());
  const std::size_t wanted = prefix == 4 ? holdfast::LoadLe32(input.data()) : 0;
  const std::string_view key = input.substr(prefix, wanted);
  const std::string_view value = input.substr(prefix + key.size());

  CatalogContents contents;
  holdfast::storage_tiers::AddRecord(key, value, &contents);

  const CatalogBatch again = Rewrite(contents);
  HOLDFAST_CHECK(again.check().has_value());
  const std::size_t taken = again.size() + (contents.header ? 1 : 0);
  HOLDFAST_CHECK(taken + contents.damaged_count == 1);
  HOLDFAST_CHECK(again.size() == 0 || again.ops()[0].key == key);
  return 0;
}
