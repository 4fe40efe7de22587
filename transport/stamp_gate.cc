#include "transport/stamp_gate.h"

#include <algorithm>
#include <utility>

namespace holdfast::transport {
namespace {

template <class Map>
void DropOldest(Map* map) {
  const auto oldest = std::min_element(map->begin(), map->end(), [](const auto& a, const auto& b) {
    return a.second.used < b.second.used;
  });
  map->erase(oldest);
}

}  // namespace

Status StampGate::Check(const std::string& sender,
                        const std::string& job,
                        int kind,
                        const proto::PeerStamp& stamp) const {
  const auto epoch = epochs_.find(job);
  if (epoch != epochs_.end()) {
    const auto& known = epoch->second;
    if (stamp.epoch_number() < known.number ||
        (stamp.epoch_number() == known.number && stamp.epoch_token() != known.token)) {
      return Error(Errc::kFenced,
                   "a message of incarnation " + std::to_string(stamp.epoch_number()) +
                       (stamp.epoch_number() == known.number ? " with another token" : "") +
                       ", but " + std::to_string(known.number) + " has begun");
    }
  }
  const auto found = last_.find({sender, job, kind});
  if (found != last_.end() && found->second.epoch == stamp.epoch_number() &&
      std::pair(stamp.boot(), stamp.sequence()) <=
          std::pair(found->second.boot, found->second.sequence)) {
    return Error(Errc::kAlreadyExists,
                 "message " + std::to_string(stamp.sequence()) + " of boot " +
                     std::to_string(stamp.boot()) + " is not newer than the last accepted");
  }
  return Ok();
}

void StampGate::Accepted(const std::string& sender,
                         const std::string& job,
                         int kind,
                         const proto::PeerStamp& stamp) {
  ++uses_;
  if (!epochs_.contains(job) && epochs_.size() >= max_entries_) {
    DropOldest(&epochs_);
  }
  JobEpoch& epoch = epochs_[job];
  if (stamp.epoch_number() >= epoch.number) {
    epoch.number = stamp.epoch_number();
    epoch.token = stamp.epoch_token();
  }
  epoch.used = uses_;
  const std::tuple<std::string, std::string, int> key(sender, job, kind);
  if (!last_.contains(key) && last_.size() >= max_entries_) {
    DropOldest(&last_);
  }
  // Two that were acted on at the same time may end in the other order.
  Last& last = last_[key];
  last = std::max(last,
                  Last{stamp.epoch_number(), stamp.boot(), stamp.sequence(), uses_},
                  [](const Last& a, const Last& b) {
                    return std::tie(a.epoch, a.boot, a.sequence) <
                           std::tie(b.epoch, b.boot, b.sequence);
                  });
  last.used = uses_;
}

}  // namespace holdfast::transport
