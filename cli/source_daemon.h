// The memory of this node, as its daemon shows it.
//
// Bytes are read through the descriptor that the daemon passes, read-only, and checked here against
// the sidecar's digests; a verification is the daemon's own, so that what is bad is also poisoned
// there and never used as a source again.
//
// Threads, Errors: as source.h.
// Ownership: borrows the channel.
#pragma once

#include <string>

#include "cli/admin_channel.h"
#include "cli/source.h"

namespace holdfast::cli {

inline constexpr std::chrono::milliseconds kQuickCall{15'000};
// Freeing memory and deleting a snapshot of a slow file system take as long as they take.
inline constexpr std::chrono::milliseconds kSlowCall{600'000};

class DaemonSource final : public Source {
 public:
  explicit DaemonSource(AdminChannel& channel);

  [[nodiscard]] std::string place() const override { return "memory"; }

  [[nodiscard]] Result<Listing> List(const std::string& job) override;
  [[nodiscard]] Result<proto::StatusReply> Overview(const Listing& listing) override;
  [[nodiscard]] Result<OpenedShard> OpenShard(const proto::SnapshotInfo& snapshot,
                                              std::uint32_t rank) override;
  [[nodiscard]] Result<ShardVerdict> VerifyShard(const proto::SnapshotInfo& snapshot,
                                                 std::uint32_t rank,
                                                 Progress* progress) override;

  // It knows the shard no more.
  [[nodiscard]] bool Retired(const proto::SnapshotInfo& snapshot, const Error& error) override;

 private:
  [[nodiscard]] Status CheckKnown(const std::string& job);
  [[nodiscard]] Result<AdminReply> Open(const proto::SnapshotInfo& snapshot,
                                        std::uint32_t rank,
                                        proto::ImageKind image);
  // What is wrong is added to the verdict; an error ends the whole verification.  "sidecar" may be
  // nullptr: then no tensors are named.
  [[nodiscard]] Status VerifyImage(const proto::SnapshotInfo& snapshot,
                                   proto::ImageKind kind,
                                   const proto::Sidecar* sidecar,
                                   Progress* progress,
                                   ShardVerdict* verdict);
  // Adds to "bytes" and "bad" what was read and found, also before an error.
  [[nodiscard]] Status VerifyRanges(const proto::SnapshotInfo& snapshot,
                                    std::uint32_t rank,
                                    proto::ImageKind kind,
                                    Progress* progress,
                                    ByteCount* bytes,
                                    std::vector<std::uint64_t>* bad);

  AdminChannel& channel_;
};

}  // namespace holdfast::cli
