// Commands on what a dead daemon left: its catalog and its arena.
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "common/bytes.h"
#include "storage_tiers/catalog.h"
#include "tests/cli/cli_fixture.h"
#include "tests/support/whole_file.h"

namespace holdfast::cli {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::SizeIs;

std::string BootId() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id;
}

class DeadDaemonTest : public CliTest {
 protected:
  DeadDaemonTest() : state_(MakeFolder("state")), arena_(MakeFolder("arena")) {
    std::filesystem::create_directories(arena_ + "/slots");
    WriteFile(arena_ + "/arena.uuid." + ToHex(AsBytes(std::string(16, '\x33'))), "");
  }

  // Rank 0 of "world", sealed in slot 4; the daemon is gone when this returns.
  void LeaveBehind(const std::string& arena_uuid, std::uint32_t world = 2) {
    const TestShard shard = MakeShard(7, 1200, 0, world);
    const std::string slot_file = shard.image + std::string(4096, '\0');
    WriteFile(arena_ + "/slots/4.9", slot_file);
    auto catalog = storage_tiers::Catalog::Open(state_ + "/catalog", {});
    ASSERT_TRUE(catalog) << catalog.error().ToString();
    ASSERT_TRUE(catalog.value()->StartBoot());
    storage_tiers::CatalogBatch batch;
    proto::SlotRecord slot;
    slot.set_slot(4);
    slot.set_generation(9);
    slot.set_capacity_bytes(slot_file.size());
    slot.set_state(proto::SLOT_SEALED);
    slot.set_arena_uuid(arena_uuid);
    slot.set_boot_id(BootId());
    slot.set_job_uid(TestJobUid());
    slot.set_layout_hash(shard.sidecar.layout_hash());
    batch.PutSlot(slot);
    proto::JobRecord job;
    job.set_job_uid(TestJobUid());
    job.set_name(kTestJob);
    job.set_epoch_number(7);
    job.set_epoch_token(1);
    job.set_world_size(world);
    job.add_tiers()->set_root("/checkpoints");
    job.mutable_tiers(0)->set_scope(proto::SHARED);
    job.mutable_tiers(0)->set_keep_last(1);
    batch.PutJob(job);
    proto::LayoutRecord layout;
    *layout.mutable_layout() = shard.sidecar.layout();
    batch.PutLayout(shard.sidecar.layout_hash(), layout);
    proto::ShardRecord record;
    *record.mutable_sidecar() = shard.sidecar;
    record.mutable_sidecar()->clear_layout();
    record.set_slot(4);
    record.set_generation(9);
    record.set_arena_uuid(arena_uuid);
    record.set_boot_id(BootId());
    batch.PutShard(record);
    const Status applied = catalog.value()->Apply(batch);
    ASSERT_TRUE(applied) << applied.error().ToString();
  }

  // The catalog says that its step 1200 is on "root".
  void LeavePublished(const std::string& root) {
    auto catalog = storage_tiers::Catalog::Open(state_ + "/catalog", {});
    ASSERT_TRUE(catalog) << catalog.error().ToString();
    ASSERT_TRUE(catalog.value()->StartBoot());
    storage_tiers::CatalogBatch batch;
    proto::DurableRecord durable;
    *durable.mutable_id() = MakeShard(7, 1200, 0, 1).sidecar.id();
    durable.set_root(root);
    durable.set_published(true);
    batch.PutDurable(durable);
    const Status applied = catalog.value()->Apply(batch);
    ASSERT_TRUE(applied) << applied.error().ToString();
  }

  RunResult RunOffline(std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--state-dir", state_, "--arena", arena_});
    return Run(arguments);
  }

  const std::string state_;
  const std::string arena_;
};

TEST_F(DeadDaemonTest, SealedShardsCanBeListedVerifiedAndExported) {
  LeaveBehind(std::string(16, '\x33'));
  const RunResult ls = RunOffline({"ls", "--json"});
  ASSERT_EQ(ls.exit, 0) << ls.err;
  const json snapshots = json::parse(ls.out)["snapshots"];
  ASSERT_THAT(snapshots, SizeIs(1));
  EXPECT_EQ(snapshots[0]["state"], "sealed");
  EXPECT_EQ(snapshots[0]["job"], kTestJob);
  EXPECT_EQ(RunOffline({"verify"}).exit, 0);
  const std::string to = base_ + "/out";
  const RunResult exported = RunOffline({"export", kTestJob, "1200", "--rank", "0", "--to", to});
  ASSERT_EQ(exported.exit, 0) << exported.err;
  EXPECT_TRUE(WholeFile(to + "/rank-00000.safetensors") == MakeShard(7, 1200, 0, 2).image);
}

TEST_F(DeadDaemonTest, StatusSaysThatNobodyRunsAndWhatCanBeRestored) {
  LeaveBehind(std::string(16, '\x33'), 1);
  const RunResult people = RunOffline({"status"});
  ASSERT_EQ(people.exit, 0) << people.err;
  EXPECT_THAT(people.out, HasSubstr("holdfastd is not running"));
  EXPECT_THAT(people.out, HasSubstr("slots: 1 sealed, 0 handed out, 0 free"));
  EXPECT_THAT(people.out, HasSubstr("job my-job: incarnation 7, 1 rank\n"));
  EXPECT_THAT(people.out, HasSubstr("here: 1 snapshot, 1 shard that can be read, 3.00 MiB"));
  EXPECT_THAT(people.out, HasSubstr("restorable: 1200@7 from " + arena_));
  EXPECT_THAT(people.out, HasSubstr("durable on /checkpoints: none, as the catalog says"));
  const json document = json::parse(RunOffline({"status", "--json"}).out);
  EXPECT_EQ(document["daemon"]["running"], false);
  EXPECT_EQ(document["daemon"]["pid"], nullptr);
  EXPECT_EQ(document["daemon"]["state_dir"], state_);
  EXPECT_EQ(document["arena"]["sealed_slots"], 1);
  EXPECT_GT(document["arena"]["used_bytes"], 3'000'000);
  ASSERT_THAT(document["jobs"], SizeIs(1));
  EXPECT_EQ(document["jobs"][0]["restorable"]["step"], 1200);
  EXPECT_EQ(document["jobs"][0]["restorable_from"], json({arena_}));
  EXPECT_EQ(document["jobs"][0]["not_restorable"], nullptr);
}

TEST_F(DeadDaemonTest, RestoreMakesItDurableInARoot) {
  LeaveBehind(std::string(16, '\x33'), 1);
  const std::string root = MakeFolder("root");
  const RunResult restored = RunOffline({"restore", kTestJob, "1200", "--to-root", root, "--json"});
  ASSERT_EQ(restored.exit, 0) << restored.err;
  const json document = json::parse(restored.out);
  EXPECT_EQ(document["from_root"], arena_);
  EXPECT_EQ(document["incarnations_copied"], json({7}));
  EXPECT_EQ(Run({"verify", "--root", root}).exit, 0);
  const json listed = json::parse(Run({"ls", "--root", root, "--json"}).out)["snapshots"];
  ASSERT_THAT(listed, SizeIs(1));
  EXPECT_EQ(listed[0]["state"], "durable");
  const std::string to = base_ + "/out";
  ASSERT_EQ(Run({"export", kTestJob, "1200", "--root", root, "--to", to}).exit, 0);
  EXPECT_TRUE(WholeFile(to + "/rank-00000.safetensors") == MakeShard(7, 1200, 0, 1).image);
  EXPECT_EQ(RunOffline({"restore", kTestJob, "1200", "--to-root", root}).exit, 5);
}

TEST_F(DeadDaemonTest, RestoreTakesNothingBadNothingPartialNothingHeld) {
  const std::string root = MakeFolder("root");
  LeaveBehind(std::string(16, '\x33'));
  const RunResult partial = RunOffline({"restore", kTestJob, "1200", "--to-root", root});
  EXPECT_EQ(partial.exit, 6);
  EXPECT_THAT(partial.err, HasSubstr("of 2 ranks of my-job 1200@7, 1 cannot be read"));
  EXPECT_EQ(Run({"restore", kTestJob, "1200", "--to-root", root}).exit, 2);
  {
    const auto held = storage_tiers::Catalog::Open(state_ + "/catalog", {});
    ASSERT_TRUE(held);
    EXPECT_EQ(RunOffline({"restore", kTestJob, "1200", "--to-root", root}).exit, 5);
  }
  LeaveBehind(std::string(16, '\x33'), 1);
  FlipByte(arena_ + "/slots/4.9", 10'000);
  const RunResult bad = RunOffline({"restore", kTestJob, "1200", "--to-root", root});  // I5
  EXPECT_EQ(bad.exit, 3) << bad.err;
  EXPECT_TRUE(json::parse(Run({"ls", "--root", root, "--json"}).out)["snapshots"].empty());
}

// One word for one thing: from memory as from the root.
TEST_F(DeadDaemonTest, WhatIsPublishedIsDurableAndCountsAsComplete) {
  LeaveBehind(std::string(16, '\x33'), 1);
  const std::string root = MakeFolder("root");
  LeavePublished(root);
  const json listed = json::parse(RunOffline({"ls", "--json"}).out)["snapshots"];
  ASSERT_THAT(listed, SizeIs(1));
  EXPECT_EQ(listed[0]["state"], "durable");
  EXPECT_EQ(listed[0]["durable_on"], json({root}));
  const json status = json::parse(RunOffline({"status", "--json"}).out);
  EXPECT_EQ(status["jobs"][0]["newest_complete"]["step"], 1200);
  const RunResult restored = RunOffline({"restore", kTestJob, "newest", "--to-root", root});
  EXPECT_EQ(restored.exit, 0) << restored.err;
}

TEST_F(DeadDaemonTest, StatusNamesTheRanksThatAreElsewhere) {
  LeaveBehind(std::string(16, '\x33'));
  EXPECT_THAT(RunOffline({"status"}).out,
              HasSubstr("restorable: none; of 2 ranks of 1200@7 not here: 1"));
  const json document = json::parse(RunOffline({"status", "--json"}).out);
  EXPECT_EQ(document["jobs"][0]["restorable"], nullptr);
}

TEST_F(DeadDaemonTest, ASlotFileThatIsGoneIsNoShard) {
  LeaveBehind(std::string(16, '\x33'), 1);
  std::filesystem::remove(arena_ + "/slots/4.9");
  const RunResult status = RunOffline({"status"});
  EXPECT_THAT(status.out, HasSubstr("restorable: none"));
  EXPECT_THAT(status.out, HasSubstr("slots/4.9"));
  const json shard = json::parse(RunOffline({"ls", "--json"}).out)["snapshots"][0]["shards"][0];
  EXPECT_EQ(shard["state"], "lost");
}

TEST_F(DeadDaemonTest, StatusSaysIfADaemonHoldsTheState) {
  LeaveBehind(std::string(16, '\x33'));
  const auto held = storage_tiers::Catalog::Open(state_ + "/catalog", {});
  ASSERT_TRUE(held) << held.error().ToString();
  const RunResult status = RunOffline({"status"});
  EXPECT_THAT(status.out, HasSubstr("process " + std::to_string(::getpid()) + " holds " + state_));
  const json document = json::parse(RunOffline({"status", "--json"}).out);
  EXPECT_EQ(document["daemon"]["running"], true);
  EXPECT_EQ(document["daemon"]["pid"], ::getpid());
}

TEST_F(DeadDaemonTest, AFlippedByteInASlotIsExitThree) {  // I5
  LeaveBehind(std::string(16, '\x33'));
  FlipByte(arena_ + "/slots/4.9", 10'000);
  const RunResult verify = RunOffline({"verify"});
  EXPECT_EQ(verify.exit, 3);
  EXPECT_THAT(verify.out, HasSubstr("model.w"));
  std::filesystem::remove(arena_ + "/slots/4.9");
  EXPECT_EQ(RunOffline({"verify"}).exit, 3);
}

TEST_F(DeadDaemonTest, RecordsOfAnotherArenaAreNotBelieved) {
  LeaveBehind(std::string(16, '\x44'));
  const json document = json::parse(RunOffline({"ls", "--json"}).out);
  EXPECT_THAT(document["snapshots"], SizeIs(0));
  EXPECT_THAT(document["problems"][0]["message"], HasSubstr("memory is gone"));
}

TEST_F(DeadDaemonTest, AFolderThatIsNoStateIsExitSix) {
  EXPECT_EQ(RunOffline({"ls"}).exit, 6);
  EXPECT_EQ(Run({"ls", "--state-dir", base_ + "/none", "--arena", arena_}).exit, 6);
  EXPECT_EQ(Run({"ls", "--state-dir", state_, "--arena", base_}).exit, 6);
  EXPECT_EQ(Run({"ls", "--arena", arena_}).exit, 2);
}

}  // namespace
}  // namespace holdfast::cli
