// Where the persistent tiers have the static images of a job.

#include <algorithm>
#include <utility>

#include "daemon/core/job.h"

namespace holdfast::daemon {
namespace {

bool Names(const proto::DurableRecord& record, const SnapshotKey& owner) {
  return std::any_of(record.statics().begin(), record.statics().end(), [&](const auto& each) {
    return KeyOf(each.owner()) == owner;
  });
}

}  // namespace

std::optional<proto::DurableStatic> Job::FindStatic(const std::string& root,
                                                    Rank rank,
                                                    const SnapshotKey& image,
                                                    const SnapshotKey& before) const {
  const auto tier = durables.find(root);
  if (tier == durables.end()) {
    return std::nullopt;
  }
  // A snapshot that was found bad may owe it to the shared file.
  const auto in_doubt = [&](const SnapshotKey& owner) {
    return std::any_of(tier->second.begin(), tier->second.end(), [&](const auto& entry) {
      return entry.second.bad() && (entry.first == owner || Names(entry.second, owner));
    });
  };
  for (const auto& [id, durable] : tier->second) {
    for (const proto::DurableStatic& where : durable.statics()) {
      const SnapshotKey owner = KeyOf(where.owner());
      const bool same = where.rank() == rank && KeyOf(where.image()) == image;
      if (same && durable.published() && owner < before && IsDurable(owner, root) &&
          !in_doubt(owner)) {
        return where;
      }
    }
  }
  return std::nullopt;
}

void Job::SetStatic(const std::string& root, const SnapshotKey& key, proto::DurableStatic where) {
  proto::DurableRecord* durable = Durable(root, key);
  for (proto::DurableStatic& known : *durable->mutable_statics()) {
    if (known.rank() == where.rank()) {
      known = std::move(where);
      return;
    }
  }
  *durable->add_statics() = std::move(where);
}

void Job::ForgetStatics(CoreContext* context, const std::string& root, const SnapshotKey& key) {
  std::set<SnapshotKey> owners;
  for (const proto::DurableStatic& where : Durable(root, key)->statics()) {
    owners.insert(KeyOf(where.owner()));
  }
  for (auto& [id, durable] : durables.at(root)) {
    const int before = durable.statics_size();
    auto* statics = durable.mutable_statics();
    statics->erase(std::remove_if(statics->begin(),
                                  statics->end(),
                                  [&](const auto& e) { return owners.contains(KeyOf(e.owner())); }),
                   statics->end());
    if (durable.statics_size() != before) {
      SaveDurable(context, root, id);
    }
  }
}

std::set<SnapshotKey> Job::StaticOwners(const std::string& root) const {
  std::set<SnapshotKey> owners;
  if (const auto tier = durables.find(root); tier != durables.end()) {
    for (const auto& [id, durable] : tier->second) {
      for (const proto::DurableStatic& where : durable.statics()) {
        if (KeyOf(where.owner()) != id) {
          owners.insert(KeyOf(where.owner()));
        }
      }
    }
  }
  return owners;
}

}  // namespace holdfast::daemon
