// How the fake runtime carries out each action.

#include <algorithm>
#include <utility>

#include "tests/daemon/core/core_harness.h"

namespace holdfast::daemon {
namespace {

std::string IdText(const SnapshotKey& id, Rank rank) {
  return ShortText(id) + " of r" + std::to_string(rank);
}

}  // namespace

void CoreHarness::Start(const Send& action) {
  const SlotRef granted{action.message.grant().slot(), action.message.grant().generation()};
  if (action.message.has_grant() && arena_.IsCut(granted)) {
    due_.emplace_back([this, granted] {
      if (up()) {
        core_->OnGrantRefused(granted);
      }
    });
    return;
  }
  for (auto& [name, client] : clients_) {
    if (client.session == action.session && action.session != 0) {
      Receive(&client, action);
      return;
    }
  }
}

void CoreHarness::Start(const CloseSession& action) {
  for (auto& [name, client] : clients_) {
    if (client.session == action.session) {
      client.session = 0;
    }
  }
}

void CoreHarness::Start(const PrepareSlot& action) {
  const std::string where =
      action.numa_node < 0 ? "" : " on NUMA node " + std::to_string(action.numa_node);
  Log((action.create ? "arena: creates " : "arena: prepares ") + ToText(action.slot) + where);
  if (action.create) {
    if (arena_.Exists(action.slot)) {
      Violation("I7: slot file " + ToText(action.slot) + " is made over an old one");
    }
    arena_.Create(action.slot);
  }
  arena_.Write(action.slot, "header");
  Queue("prepare", [this, action](const Status& status) {
    if (up()) {
      core_->OnSlotPrepared(action.slot, status);
    }
  });
}

void CoreHarness::Start(const RemoveSlot& action) {
  Log("arena: removes " + ToText(action.slot));
  arena_.Remove(action.slot);
}

void CoreHarness::Start(const QuarantineSlot& action) {
  Log("arena: quarantines " + ToText(action.slot));
  quarantined_.insert(action.slot);
}

void CoreHarness::Start(const DigestSlot& action) {
  Queue("digest", [this, action](const Status& status) {
    if (!up()) {
      return;
    }
    if (status.has_value()) {
      core_->OnDigested(action.slot,
                        FakeArena::Digests(arena_.Content(action.slot), action.length_bytes));
    } else {
      core_->OnDigested(action.slot, status.error());
    }
  });
}

void CoreHarness::Start(const VerifySlot& action) {
  Queue("verify", [this, action](const Status& status) {
    if (!up()) {
      return;
    }
    if (!status.has_value()) {
      core_->OnVerified(action.ticket, action.slot, status.error());
      return;
    }
    const auto end = action.first_chunk * kMiB + action.length_bytes;
    const auto digests = FakeArena::Digests(arena_.Content(action.slot), end);
    std::vector<std::uint64_t> bad;
    for (std::uint64_t i = 0; i < action.expected.size(); ++i) {
      if (digests.at(action.first_chunk + i) != action.expected[i]) {
        bad.push_back(action.first_chunk + i);
      }
    }
    core_->OnVerified(action.ticket, action.slot, bad);
  });
}

// As daemon/pipeline/claim.h: a tier that is away is left out, one that holds another job of the
// name is an error.
Result<ClaimedIncarnation> CoreHarness::Claim(const ClaimIncarnation& action) {
  ClaimedIncarnation claimed;
  claimed.job_uid = action.job_uid;
  claimed.number = action.at_least;
  std::vector<FakeTier::JobFolder*> folders;
  for (const proto::TierPolicy& policy : action.tiers) {
    FakeTier& tier = tiers_[policy.root()];
    const bool away =
        action.expected_roots.contains(policy.root()) && !tier.HasJob(action.job_name);
    if (!tier.failing() && !away) {
      folders.push_back(&tier.Folder(action.job_name));
    }
  }
  for (const FakeTier::JobFolder* folder : folders) {
    claimed.job_uid = claimed.job_uid.empty() ? folder->uid : claimed.job_uid;
    if (!folder->uid.empty() && folder->uid != claimed.job_uid) {
      return Error(Errc::kAlreadyExists, "a tier holds another job of the name " + action.job_name);
    }
    for (const auto& [number, file] : folder->incarnations) {
      claimed.number = std::max(claimed.number, number + 1);
      claimed.found.push_back(file);
    }
  }
  if (claimed.job_uid.empty()) {
    // No two jobs have the same, whatever their names.
    claimed.job_uid = ("uid-" + action.job_name + std::string(16, '-')).substr(0, 15);
    claimed.job_uid += static_cast<char>('0' + world_->next_uid++);
  }
  for (FakeTier::JobFolder* folder : folders) {
    folder->uid = claimed.job_uid;
    proto::IncarnationFile& file = folder->incarnations[claimed.number];
    file.set_job_uid(claimed.job_uid);
    file.set_number(claimed.number);
    file.set_token(action.token);
    file.set_world_size(action.world_size);
  }
  return claimed;
}

void CoreHarness::Start(const ClaimIncarnation& action) {
  Queue("claim", [this, action](const Status& status) {
    if (!up()) {
      return;
    }
    if (status.has_value()) {
      core_->OnIncarnationClaimed(action.ticket, Claim(action));
    } else {
      core_->OnIncarnationClaimed(action.ticket, status.error());
    }
  });
}

void CoreHarness::Start(const WriteIncarnation& action) {
  for (const proto::TierPolicy& policy : action.tiers) {
    FakeTier& tier = tiers_[policy.root()];
    const bool away =
        action.expected_roots.contains(policy.root()) && !tier.HasJob(action.job_name);
    if (!tier.failing() && !away) {
      tier.Folder(action.job_name).incarnations[action.file.number()] = action.file;
    }
  }
}

void CoreHarness::Start(const ListTier& action) {
  // An answer that comes late tells what was there when it was asked.
  Result<std::vector<TierSnapshot>> found = tiers_[action.root].List(action);
  Queue("list", [this, action, found = std::move(found)](const Status& status) {
    if (!up()) {
      return;
    }
    Result<std::vector<TierSnapshot>> listed = status.has_value() ? found : status.error();
    core_->OnTierListed(action.job_uid, action.root, action.attempt, std::move(listed));
  });
}

void CoreHarness::Start(const OpenShardFile& action) {
  Log("tier " + action.root + ": opens " + IdText(action.id, action.rank));
  Queue("open", [this, action](const Status& status) {
    if (!up()) {
      return;
    }
    Result<proto::Sidecar> sidecar = tiers_[action.root].Open(action);
    if (!status.has_value()) {
      sidecar = status.error();
    }
    if (sidecar.has_value()) {
      opened_files_[action.ticket] = {tiers_[action.root].Content(action),
                                      tiers_[action.root].StaticContent(action)};
    }
    core_->OnShardOpened(
        action.job_uid, action.attempt, action.rank, action.ticket, std::move(sidecar));
  });
}

void CoreHarness::Start(const CloseShardFile& action) {
  opened_files_.erase(action.ticket);
}

void CoreHarness::Start(const FlushShard& action) {
  Log("tier " + action.tier.root() + ": flushes " + IdText(action.id, action.rank) +
      (action.static_slot.has_value() ? " with its static image" : ""));
  cancelled_.erase({action.job_uid, action.tier.root(), action.id, action.rank});
  tiers_[action.tier.root()].BeginFlush(action);
  Queue("flush", [this, action](const Status& status) {
    if (!up()) {
      return;
    }
    Status done = status;
    std::optional<std::string> shared;
    if (action.static_slot.has_value()) {
      shared = arena_.Content(*action.static_slot);
    }
    if (cancelled_.erase({action.job_uid, action.tier.root(), action.id, action.rank}) > 0) {
      done = Error(Errc::kCancelled, "a flush gave way");
    } else if (status.has_value()) {
      done = tiers_[action.tier.root()].Flush(action, arena_.Content(action.slot), shared);
    }
    const bool bad_static =
        shared.has_value() && !FakeArena::Matches(*shared, action.sidecar.images(1));
    core_->OnFlushed(action.job_uid,
                     action.tier.root(),
                     action.id,
                     action.rank,
                     done,
                     bad_static ? proto::STATIC : proto::DYNAMIC);
  });
}

void CoreHarness::Start(const CancelFlush& action) {
  Log("tier " + action.root + ": cancels flush of " + IdText(action.id, action.rank));
  cancelled_.insert({action.job_uid, action.root, action.id, action.rank});
}

void CoreHarness::Start(const PublishManifest& action) {
  Log("tier " + action.root + ": publishes " + ShortText(action.id));
  Queue("publish", [this, action](const Status& status) {
    if (!up()) {
      return;
    }
    const Status done = status.has_value() ? tiers_[action.root].Publish(action) : status;
    if (!done.has_value() && done.error().code == Errc::kInternal) {
      Violation(done.error().message);
    }
    core_->OnPublished(action.job_uid, action.root, action.id, action.epoch, done);
  });
}

void CoreHarness::Start(const DeleteDurable& action) {
  Log("tier " + action.root + ": deletes " + ShortText(action.id));
  Queue("delete", [this, action](const Status& status) {
    if (!up()) {
      return;
    }
    const Status done = status.has_value() ? tiers_[action.root].Delete(action) : status;
    core_->OnDurableDeleted(action.job_uid, action.root, action.id, done);
  });
}

void CoreHarness::Start(const SendReport& action) {
  if (world_->network != nullptr) {
    world_->network->Send(this, action);
  }
}

void CoreHarness::Start(const SendCommand& action) {
  if (world_->network != nullptr) {
    world_->network->Send(this, action);
  }
}

void CoreHarness::Start(const AnswerPeer& action) {
  if (world_->network != nullptr) {
    world_->network->Send(this, action);
  }
}

}  // namespace holdfast::daemon
