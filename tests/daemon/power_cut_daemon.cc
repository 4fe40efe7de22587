#include "tests/daemon/power_cut_daemon.h"

#include <filesystem>
#include <utility>
#include <variant>

#include <gtest/gtest.h>

#include "daemon/startup.h"
#include "layout/layout_hash.h"
#include "layout/names.h"
#include "tests/storage_tiers/persistent_tier_fixture.h"

namespace holdfast::daemon {
namespace {

using storage_tiers::kJob;
using storage_tiers::kUid;

constexpr char kRoot[] = "/root";

// The images of one rank at one step: the bytes follow from both.  Rank 1 has frozen tensors, the
// same ones at every step.
storage_tiers::Shard ShardOf(const SnapshotKey& id, Rank rank) {
  const auto fill = static_cast<char>('a' + rank + 2 * id.step + 20 * id.incarnation);
  return storage_tiers::MakeShard(
      ToProto(kUid, id), rank, 2, {.fill = fill, .with_static = rank == 1});
}

CoreOptions Options() {
  CoreOptions options;
  options.budget_bytes = 16 * kMiB;
  options.default_slots = 2;
  return options;
}

}  // namespace

PowerCutDisks::PowerCutDisks(const std::string& catalog_folder)
    : folder(catalog_folder),
      catalog_fs(std::make_shared<holdfast::PowerCutFileSystem>()),
      env(rocksdb::NewCompositeEnv(catalog_fs)) {
  EXPECT_TRUE(tier_fs.CreateFolder(kRoot));
  EXPECT_TRUE(tier_fs.SyncFolder("/"));
}

PowerCutDaemon::PowerCutDaemon(PowerCutDisks* disks, storage_tiers::FileSystem* tier_fs)
    : disks_(disks), tier_(*tier_fs, kRoot, storage_tiers::TierScope::kShared) {}

PowerCutDaemon::~PowerCutDaemon() = default;

bool PowerCutDaemon::Start() {
  auto opened = storage_tiers::Catalog::Open(disks_->folder, {.env = disks_->env.get()});
  if (!opened.has_value()) {
    EXPECT_TRUE(disks_->off()) << opened.error().ToString();
    return false;
  }
  catalog_ = std::move(opened).value();
  const auto header = catalog_->StartBoot();
  if (!header.has_value()) {
    EXPECT_TRUE(disks_->off()) << header.error().ToString();
    return false;
  }
  storage_tiers::CatalogContents contents = Records();
  EXPECT_TRUE(contents.damaged.empty());
  RecoveredState state;
  state.node_uuid = header.value().node_uuid();
  state.boot_number = header.value().boot_number();
  state.arena_uuid = "arena-of-boot-" + std::to_string(100 + state.boot_number).substr(1);
  state.boot_id = "boot-" + std::to_string(state.boot_number);
  ArenaFacts facts;
  facts.uuid = state.arena_uuid;
  facts.boot_id = state.boot_id;
  const MatchResult matched = MatchRecords(contents, facts);
  if (!catalog_->Apply(matched.changes).has_value()) {
    EXPECT_TRUE(disks_->off());
    return false;
  }
  state.jobs = contents.jobs;
  state.lost_slots = matched.lost_slots;
  state.incarnations = contents.incarnations;
  state.outcomes = contents.outcomes;
  state.durables = contents.durables;
  core_ = std::make_unique<NodeCore>(Options(), std::move(state), now_, WallTime{});
  return CarryOut();
}

storage_tiers::CatalogContents PowerCutDaemon::Records() {
  auto contents = catalog_->Load();
  EXPECT_TRUE(contents.has_value());
  return contents.has_value() ? std::move(contents).value() : storage_tiers::CatalogContents{};
}

bool PowerCutDaemon::Request(Rank rank, proto::ClientMessage message) {
  const storage_tiers::Shard shard = ShardOf({1, 1}, rank);
  const LayoutFacts facts{shard.sidecar.layout_hash(),
                          shard.dynamic_image.size(),
                          layout::StaticHash(shard.sidecar.layout()),
                          shard.static_image.size()};
  message.set_request_id(1);
  core_->OnRequest(trainers_[rank].session, message, &facts);
  return CarryOut();
}

bool PowerCutDaemon::StartJob() {
  // The trainers of an earlier start are dead.
  for (Trainer& trainer : trainers_) {
    if (trainer.token != 0) {
      core_->OnDisconnected(trainer.session);
      core_->OnProcessDead(trainer.token);
    }
    trainer = {};
  }
  if (!CarryOut()) {
    return false;
  }
  for (Trainer& trainer : trainers_) {
    trainer.session = ++sessions_;
    ClientIdentity identity;
    identity.pid = static_cast<std::int32_t>(100 + sessions_);
    identity.session_random = 7 + sessions_;
    identity.epoch_random = 70 + sessions_;
    core_->OnConnected(trainer.session, identity);
  }
  proto::ClientMessage open;
  open.mutable_open_incarnation()->set_job_name(kJob);
  open.mutable_open_incarnation()->set_world_size(2);
  proto::TierPolicy* tier = open.mutable_open_incarnation()->add_tiers();
  tier->set_root(kRoot);
  tier->set_scope(proto::SHARED);
  tier->set_every_steps(1);
  tier->set_keep_last(1);
  bool on = Request(0, open);
  for (Rank rank = 0; on && rank < 2; ++rank) {
    proto::ClientMessage message;
    proto::RegisterRequest* body = message.mutable_register_();
    body->set_job_name(kJob);
    body->set_job_uid(kUid);
    body->set_epoch_number(number_);
    body->set_epoch_token(token_);
    body->set_rank(rank);
    body->set_world_size(2);
    body->set_last_begun_step(kNoStep);
    on = Request(rank, message);
  }
  for (Rank rank = 0; on && rank < 2; ++rank) {
    proto::ClientMessage message;
    message.mutable_restore();
    on = Request(rank, message);
  }
  for (Rank rank = 0; on && rank < 2; ++rank) {
    if (trainers_[rank].told.has_value()) {
      Load(rank);
      proto::ClientMessage message;
      message.mutable_loaded()->set_attempt(trainers_[rank].attempt);
      message.mutable_loaded()->set_ok(true);
      on = Request(rank, message);
    }
  }
  restored_ = trainers_[0].told;
  return on;
}

// I5, I1: the bytes of this very rank and id, whose digests match.
void PowerCutDaemon::Load(Rank rank) {
  const Status read = storage_tiers::ReadBack(tier_, ShardOf(*trainers_[rank].told, rank));
  EXPECT_TRUE(read.has_value()) << read.error().ToString();
}

bool PowerCutDaemon::Step(std::int64_t step) {
  std::optional<SlotRef> slots[2];
  for (Rank rank = 0; rank < 2; ++rank) {
    slots[rank] = std::exchange(trainers_[rank].granted, std::nullopt);
    EXPECT_TRUE(slots[rank].has_value()) << "no slot for step " << step;
    proto::ClientMessage message;
    message.mutable_begin()->set_step(step);
    message.mutable_begin()->set_slot(slots[rank]->slot);
    message.mutable_begin()->set_generation(slots[rank]->generation);
    if (!Request(rank, message)) {
      return false;
    }
  }
  for (Rank rank = 0; rank < 2; ++rank) {
    const storage_tiers::Shard shard = ShardOf({number_, step}, rank);
    memory_[*slots[rank]] = shard.dynamic_image;
    proto::ClientMessage message;
    proto::SealRequest* seal = message.mutable_seal();
    seal->set_step(step);
    seal->set_slot(slots[rank]->slot);
    seal->set_generation(slots[rank]->generation);
    *seal->mutable_chunk_crc32c() = shard.sidecar.images(0).chunk_crc32c();
    if (auto& frozen = trainers_[rank].frozen; frozen.has_value()) {
      seal->mutable_static_image()->set_slot(frozen->slot);
      seal->mutable_static_image()->set_generation(frozen->generation);
      if (!trainers_[rank].frozen_is_sealed) {
        memory_[*frozen] = shard.static_image;
        *seal->mutable_static_image()->mutable_chunk_crc32c() =
            shard.sidecar.images(1).chunk_crc32c();
      }
    }
    if (!Request(rank, message)) {
      return false;
    }
  }
  return true;
}

bool PowerCutDaemon::CarryOut() {
  while (!disks_->off()) {
    if (TakeOne()) {
      continue;
    }
    if (answers_.empty()) {
      return true;
    }
    const auto next = std::move(answers_.front());
    answers_.pop_front();
    next();
  }
  return false;
}

bool PowerCutDaemon::TakeOne() {
  Ready ready;
  if (!core_->TakeReady(&ready)) {
    return false;
  }
  if (!catalog_->Apply(ready.batch).has_value()) {
    EXPECT_TRUE(disks_->off());
    return true;
  }
  for (const Action& action : ready.actions) {
    if (!disks_->off()) {
      std::visit([this](const auto& one) { Do(one); }, action);
    }
  }
  return true;
}

void PowerCutDaemon::Receive(const Send& send) {
  const Rank rank = send.session == trainers_[0].session ? 0 : 1;
  Trainer& trainer = trainers_[rank];
  const proto::ServerMessage& message = send.message;
  if (message.has_open_incarnation()) {
    number_ = message.open_incarnation().number();
    token_ = message.open_incarnation().token();
  } else if (message.has_register_()) {
    trainer.token = message.register_().session_token();
  } else if (message.has_seal()) {
    trainer.frozen_is_sealed = trainer.frozen.has_value();
  } else if (message.has_grant() && message.grant().image() == proto::STATIC) {
    trainer.frozen = SlotRef{message.grant().slot(), message.grant().generation()};
    trainer.frozen_is_sealed = message.grant().sealed();
  } else if (message.has_grant()) {
    trainer.granted = SlotRef{message.grant().slot(), message.grant().generation()};
  } else if (message.has_restore()) {
    trainer.attempt = message.restore().attempt();
    if (message.restore().has_choice()) {
      trainer.told = KeyOf(message.restore().id());
    }
  } else if (message.has_outcome() && rank == 0 &&
             message.outcome().kind() == proto::OutcomeEvent::KIND_DURABLE) {
    durable_ = KeyOf(message.outcome().id());
  } else if (message.has_error()) {
    restore_error_ = message.error().message();
  }
}

void PowerCutDaemon::Do(const PrepareSlot& action) {
  memory_[action.slot] = "";
  answers_.emplace_back([this, action] { core_->OnSlotPrepared(action.slot, Ok()); });
}

void PowerCutDaemon::Do(const QuarantineSlot& action) {
  answers_.emplace_back([this, action] { core_->OnQuarantineReleased(action.slot); });
}

void PowerCutDaemon::Do(const ClaimIncarnation& action) {
  ClaimedIncarnation claimed;
  claimed.job_uid = kUid;
  Status done = tier_.EnsureJob(kJob, kUid);
  const auto highest = tier_.HighestIncarnation(kJob);
  claimed.number = std::max(action.at_least, highest.has_value() ? highest.value() + 1 : 1);
  for (std::uint64_t number = 1; number < claimed.number; ++number) {
    const auto found = tier_.ReadIncarnation(kJob, number);
    if (found.has_value() && found.value().has_value()) {
      claimed.found.push_back(*found.value());
    }
  }
  if (done.has_value()) {
    done = tier_.ClaimIncarnation(kJob, storage_tiers::MakeRecord(claimed.number, action.token));
  }
  EXPECT_TRUE(done.has_value() || disks_->off()) << done.error().ToString();
  answers_.emplace_back(
      [this, action, claimed] { core_->OnIncarnationClaimed(action.ticket, claimed); });
}

void PowerCutDaemon::Do(const WriteIncarnation& action) {
  const Status done = tier_.UpdateIncarnation(kJob, action.file);
  EXPECT_TRUE(done.has_value() || disks_->off()) << done.error().ToString();
}

void PowerCutDaemon::Do(const ListTier& action) {
  std::vector<TierSnapshot> found;
  const auto listing = tier_.ListSnapshots(kJob);
  if (listing.has_value()) {
    for (const storage_tiers::SnapshotEntry& entry : listing.value().snapshots) {
      EXPECT_FALSE(entry.problem.has_value()) << entry.problem->ToString();
      const auto manifest = tier_.ReadManifest(kJob, entry.id);
      if (manifest.has_value()) {
        found.push_back({KeyOf(entry.id), 2, {}, {}, {}});
        const std::string path = manifest.value().files(2).path();
        const auto owner =
            layout::ParseSnapshotFolderName(path.substr(0, path.find('/')), kUid).value();
        found.back().static_owners[1] = KeyOf(owner);
      }
    }
  }
  answers_.emplace_back([this, action, found] {
    core_->OnTierListed(action.job_uid, action.root, action.attempt, found);
  });
}

void PowerCutDaemon::Do(const OpenShardFile& action) {
  answers_.emplace_back([this, action] {
    auto sidecar = tier_.ReadSidecar(kJob, ToProto(kUid, action.id), action.rank, 2);
    core_->OnShardOpened(
        action.job_uid, action.attempt, action.rank, action.ticket, std::move(sidecar));
  });
}

void PowerCutDaemon::Do(const FlushShard& action) {
  answers_.emplace_back([this, action] {
    proto::Sidecar sidecar = action.sidecar;
    *sidecar.mutable_layout() = ShardOf(action.id, action.rank).sidecar.layout();
    const std::string& image = memory_.at(action.slot);
    std::vector<storage_tiers::ShardImage> images = {{proto::DYNAMIC, AsBytes(image)}};
    if (action.static_slot.has_value()) {
      images.push_back({proto::STATIC, AsBytes(memory_.at(*action.static_slot))});
      ++static_images_written_;
    }
    auto files = tier_.FlushShard(sidecar, images, {});
    EXPECT_TRUE(files.has_value() || disks_->off()) << files.error().ToString();
    if (files.has_value()) {
      flushed_[{action.id, action.rank}] = files.value();
    }
    core_->OnFlushed(action.job_uid,
                     kRoot,
                     action.id,
                     action.rank,
                     files.has_value() ? Status(Ok()) : Status(files.error()));
  });
}

void PowerCutDaemon::Do(const PublishManifest& action) {
  answers_.emplace_back([this, action] {
    proto::Manifest manifest = storage_tiers::MakeManifest(ToProto(kUid, action.id), 2);
    for (Rank rank = 0; rank < 2; ++rank) {
      storage_tiers::AddFiles(manifest, flushed_[{action.id, rank}]);
    }
    const Status done = tier_.PublishManifest(manifest, action.epoch.number);
    EXPECT_TRUE(done.has_value() || disks_->off()) << done.error().ToString();
    core_->OnPublished(action.job_uid, kRoot, action.id, action.epoch, done);
  });
}

void PowerCutDaemon::Do(const DeleteDurable& action) {
  answers_.emplace_back([this, action] {
    const Status done = tier_.Delete(kJob, ToProto(kUid, action.id), action.epoch.number);
    core_->OnDurableDeleted(action.job_uid, kRoot, action.id, done);
  });
}

}  // namespace holdfast::daemon
