// The feeds that this node keeps for others: found by the name that a taker knows.
//
// Threads:   the io thread only.
// Ownership: shares the feeds while their makers run.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "daemon/data_plane/stored_bytes.h"
#include "daemon/pipeline/window_feed.h"
#include "proto/peer.pb.h"

namespace holdfast::daemon {

class Feeds {
 public:
  // "key" has "feed", whose row does not count, or "share".
  void Add(const proto::StoredKey& key, std::shared_ptr<WindowFeed> feed) {
    feeds_[NameOfStored(key)] = std::move(feed);
  }

  // Unless another has taken its place.
  void Remove(const proto::StoredKey& key, const std::shared_ptr<WindowFeed>& feed) {
    const auto found = feeds_.find(NameOfStored(key));
    if (found != feeds_.end() && found->second == feed) {
      feeds_.erase(found);
    }
  }

  // Null: there is none.
  [[nodiscard]] std::shared_ptr<WindowFeed> Find(const proto::StoredKey& key) const {
    const auto found = feeds_.find(NameOfStored(key));
    return found == feeds_.end() ? nullptr : found->second;
  }

 private:
  std::map<std::string, std::shared_ptr<WindowFeed>> feeds_;
};

}  // namespace holdfast::daemon
