// Parity without bytes: a row is a text that names the images it was made of.
//
// A vector that was never made, or whose memory was written since, is no vector here: a decode
// finds out, however sure the core is of it.
//
// Threads:   one.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "daemon/core/code_set.h"
#include "storage_tiers/catalog_contents.h"

namespace holdfast::daemon {

class CoreHarness;

// A name of an image's bytes, whoever holds them.
std::string DigestText(proto::ImageDigest image);

// What the row holds, of static images the same for every id that shares them; "images" by
// position, "" where a position has no shard.
std::string RowText(const CodeSet& set,
                    const SnapshotKey& id,
                    std::uint32_t stripe,
                    std::uint32_t row,
                    const std::vector<std::string>& images);

// What of one id is left in the memory of the given nodes, looked at from outside.
class LeftOver {
 public:
  LeftOver(const std::vector<CoreHarness*>& nodes, const JobUid& job, const SnapshotKey& id);

  // Every rank's shard lies whole somewhere, or can be decoded, with a sidecar to know it by.
  bool IsRestorable() const;

 private:
  void AddShards(CoreHarness* node);
  void AddRows(CoreHarness* node);
  bool IsDecodable(Rank rank) const;
  bool IsDecodable(Rank rank, const HeldSet& held) const;

  const JobUid job_;
  const SnapshotKey id_;
  std::uint32_t world_ = 0;
  std::set<Rank> whole_;
  std::set<Rank> sidecars_;
  std::vector<HeldSet> sets_;
};

}  // namespace holdfast::daemon
