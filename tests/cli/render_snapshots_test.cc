// As render_status_test.cc: the whole output for fixed messages.
#include "cli/render/render_snapshots.h"

#include <gtest/gtest.h>

#include "cli/render/render_verify.h"
#include "common/units.h"
#include "tests/cli/render_ids.h"

namespace holdfast::cli {
namespace {

Listing TwoSnapshots() {
  Listing listing;
  proto::SnapshotInfo* snapshot = listing.reply.add_snapshots();
  *snapshot->mutable_id() = Id(7, 1200);
  snapshot->set_job_name("my-job");
  snapshot->set_world_size(2);
  snapshot->set_state("complete");
  snapshot->set_restore_base(true);
  snapshot->add_durable_on("/checkpoints");
  for (std::uint32_t rank = 0; rank < 2; ++rank) {
    proto::ShardInfo* shard = snapshot->add_shards();
    shard->set_rank(rank);
    shard->set_state(rank == 0 ? "sealed" : "poisoned");
    shard->set_image_bytes(kGiB);
  }
  snapshot = listing.reply.add_snapshots();
  *snapshot->mutable_id() = Id(7, 1100);
  snapshot->set_job_name("my-job");
  snapshot->set_world_size(2);
  snapshot->set_state("abandoned");
  snapshot->set_reason("rank 1 missed: busy");
  listing.problems.push_back({"/checkpoints/x", Error(Errc::kCorruption, "no manifest")});
  return listing;
}

TEST(RenderSnapshotsTest, PeopleSeeNewestFirstWithStateAndReason) {
  EXPECT_EQ(SnapshotsText(TwoSnapshots()),
            "JOB     SNAPSHOT  STATE            RANKS HERE      SIZE  DURABLE ON    FLAGS  REASON\n"
            "my-job    1200@7  complete   1/2 (1 poisoned)  2.00 GiB  /checkpoints  base\n"
            "my-job    1100@7  abandoned               0/2         -                       rank 1 "
            "missed: busy\n"
            "problem: /checkpoints/x: no manifest\n");
}

constexpr char kSnapshotsJson[] = R"json({
  "snapshots": [
    {
      "job": "my-job",
      "job_uid": "11111111111111111111111111111111",
      "incarnation": 7,
      "step": 1200,
      "state": "complete",
      "world_size": 2,
      "bytes": 2147483648,
      "static_bytes": 0,
      "discarded": false,
      "reason": "",
      "restore_base": true,
      "fallback": false,
      "durable_on": [
        "/checkpoints"
      ],
      "damaged_on": [],
      "protected": false,
      "margin": 0,
      "parity_rows": 0,
      "shards": [
        {
          "rank": 0,
          "state": "sealed",
          "bytes": 1073741824,
          "static_bytes": 0
        },
        {
          "rank": 1,
          "state": "poisoned",
          "bytes": 1073741824,
          "static_bytes": 0
        }
      ]
    },
    {
      "job": "my-job",
      "job_uid": "11111111111111111111111111111111",
      "incarnation": 7,
      "step": 1100,
      "state": "abandoned",
      "world_size": 2,
      "bytes": 0,
      "static_bytes": 0,
      "discarded": false,
      "reason": "rank 1 missed: busy",
      "restore_base": false,
      "fallback": false,
      "durable_on": [],
      "damaged_on": [],
      "protected": false,
      "margin": 0,
      "parity_rows": 0,
      "shards": []
    }
  ],
  "problems": [
    {
      "what": "/checkpoints/x",
      "code": "corruption",
      "message": "no manifest"
    }
  ]
}
)json";

TEST(RenderSnapshotsTest, ScriptsFindTheDocumentedKeys) {
  EXPECT_EQ(SnapshotsJson(TwoSnapshots()), kSnapshotsJson);
}

TEST(RenderVerifyTest, BadDataOutranksEverythingElse) {
  VerifyReport report;
  EXPECT_EQ(VerifyExit(report), ExitCode::kOk);
  report.problems.push_back({"/x", Error(Errc::kInvalidArgument, "a stranger's file")});
  EXPECT_EQ(VerifyExit(report), ExitCode::kOk);
  report.problems.push_back({"/x", Error(Errc::kPermission, "not yours")});
  EXPECT_EQ(VerifyExit(report), ExitCode::kRefused);
  ShardVerdict bad;
  bad.bad.push_back({proto::DYNAMIC, {3}});
  report.shards.push_back(bad);
  EXPECT_EQ(VerifyExit(report), ExitCode::kDataBad);
  report.problems.push_back({"/y", Error(Errc::kTimeout, "slow")});
  EXPECT_EQ(VerifyExit(report), ExitCode::kDataBad);
}

}  // namespace
}  // namespace holdfast::cli
