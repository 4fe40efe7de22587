// The persistent roots that the jobs of this node use, opened as they are named.
//
// Threads:   the io thread only.
// Ownership: owns the tiers; a call under way keeps its tier.
// Errors:    kInvalidArgument: no path that can be a root.  kUnavailable: too many roots in use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "common/result.h"
#include "daemon/tier.h"
#include "proto/catalog.pb.h"

namespace holdfast::daemon {

class TierSet {
 public:
  using MakeFileSystem = std::function<std::unique_ptr<storage_tiers::FileSystem>()>;

  TierSet(const boost::asio::any_io_executor& executor,
          const TierOptions& options,
          std::size_t max_roots,
          MakeFileSystem make_file_system);

  TierSet(const TierSet&) = delete;
  TierSet& operator=(const TierSet&) = delete;

  // The tier of a root; opened if it is not.  A root that is named with another scope later keeps
  // the first: the scope is a property of the file system.
  [[nodiscard]] Result<std::shared_ptr<Tier>> Open(const std::string& root, proto::TierScope scope);

  // Whether a client of another user may name this root: it lies below one of "allowed", and so
  // does what its symbolic links lead to.  kPermission; kTimeout where the file system hangs.
  [[nodiscard]] boost::asio::awaitable<Status> CheckClientRoot(std::string root,
                                                               proto::TierScope scope,
                                                               std::vector<std::string> allowed);

  [[nodiscard]] const std::map<std::string, std::shared_ptr<Tier>>& all() const { return tiers_; }

  // Functions on all roots that have not returned.
  [[nodiscard]] std::size_t pending() const;

 private:
  void Evict();

  const boost::asio::any_io_executor executor_;
  const TierOptions options_;
  const std::size_t max_roots_;
  const MakeFileSystem make_file_system_;
  std::map<std::string, std::shared_ptr<Tier>> tiers_;
  std::map<std::string, std::uint64_t> last_used_;
  std::uint64_t uses_ = 0;
};

// "/a/b" is below "/a" and "/a/b", not below "/a/bc".
[[nodiscard]] bool IsBelow(const std::string& path, const std::string& folder);

}  // namespace holdfast::daemon
