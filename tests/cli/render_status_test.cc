// The whole output for fixed messages: people read it and scripts depend on it, so a change must be
// seen in a review.
#include "cli/render/render_status.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/units.h"
#include "tests/cli/render_ids.h"

namespace holdfast::cli {
namespace {

using ::testing::HasSubstr;

void FillJob(proto::JobStatus* job) {
  job->set_name("my-job");
  job->set_job_uid(std::string(16, '\x11'));
  job->set_incarnation(7);
  job->set_world_size(2);
  job->set_phase("run");
  job->set_live(true);
  job->set_arena_bytes(3 * kGiB);
  *job->mutable_newest_complete() = Id(7, 1200);
  *job->mutable_restored() = Id(6, 1000);
  job->set_restore_attempt(2);
  job->add_restore_log("step 1100 of incarnation 6: rank 1 was lost");
  *job->mutable_protected_id() = Id(7, 1190);
  job->set_margin(2);
  *job->mutable_protecting() = Id(7, 1200);
  proto::GroupStatus* group = job->add_groups();
  group->add_node_uuids(std::string(16, '\x22'));
  group->add_node_uuids(std::string(16, '\x33'));
  group->set_data(1);
  group->set_parity(1);
  group->set_reduced(true);
  group->add_uncovered_domains("rack7");
  proto::ShardOnItsWay* shard = job->add_bringing();
  shard->set_rank(3);
  *shard->mutable_id() = Id(6, 1000);
  shard->set_done_bytes(512 * kMiB);
  shard->set_total_bytes(kGiB);
  shard->set_from("parity, any 1 of 2 nodes\x1b");
  proto::RankStatus* rank = job->add_ranks();
  rank->set_rank(0);
  rank->set_pid(4242);
  rank->set_connected(true);
  rank->set_image_bytes(kGiB);
  rank->set_last_begun_step(1210);
  rank->set_snapshots_sealed(12);
  rank = job->add_ranks();
  rank->set_rank(1);
  rank->set_last_begun_step(-1);
  rank->set_snapshots_missed(3);
  rank->set_last_missed_reason("torn (tensor model.\x1bw)");
  proto::TierStatus* tier = job->add_tiers();
  tier->set_root("/checkpoints");
  tier->set_scope(proto::SHARED);
  tier->set_healthy(true);
  tier->set_newest_durable_step(1000);
  tier->set_newest_durable_incarnation(6);
  tier->set_flushed_bytes(kMiB);
  tier = job->add_tiers();
  tier->set_root("/local");
  tier->set_scope(proto::NODE);
  tier->set_newest_durable_step(-1);
  tier->set_last_error("disk full");
}

proto::StatusReply Status() {
  proto::StatusReply status;
  status.set_software_version("0.1.0");
  status.set_node_uuid(std::string(16, '\x22'));
  status.set_boot_number(7);
  status.set_daemon_pid(99);
  status.set_uptime_seconds(187);
  status.set_state_dir("/var/lib/holdfast");
  status.mutable_arena()->set_path("/dev/shm/holdfast");
  status.mutable_arena()->set_budget_bytes(4 * kGiB);
  status.mutable_arena()->set_used_bytes(3 * kGiB);
  status.mutable_arena()->set_quarantined_bytes(kMiB);
  status.mutable_arena()->set_free_slots(1);
  status.mutable_arena()->set_sealed_slots(2);
  status.add_peer_endpoints("10.0.0.1:7400");
  status.set_data_plane("tcp;ofi_rxm at fi_sockaddr_in://10.0.0.1:41235 (eth0)");
  proto::PeerStatus* peer = status.add_peers();
  peer->set_node_uuid(std::string(16, '\x33'));
  peer->add_endpoints("10.0.0.2:7400");
  peer->set_connected(true);
  peer->set_address("10.0.0.2:40112");
  peer->set_authenticated(true);
  peer->set_round_trip_us(180);
  peer = status.add_peers();
  peer->set_node_uuid(std::string(16, '\x44'));
  peer->set_last_error("nobody listens\x1b");
  FillJob(status.add_jobs());
  status.add_warnings("tier /local: disk full");
  return status;
}

TEST(RenderStatusTest, AFlushUnderWayShowsHowFarItIs) {
  proto::StatusReply status = Status();
  proto::TierStatus* tier = status.mutable_jobs(0)->mutable_tiers(0);
  *tier->mutable_flushing() = Id(7, 1200);
  tier->set_flushing_bytes(4 * kGiB);
  tier->set_flushing_done_bytes(kGiB);
  EXPECT_THAT(StatusText(status), HasSubstr("  FLUSHING"));
  EXPECT_THAT(StatusText(status), HasSubstr("1200@7 25 %"));
  EXPECT_THAT(StatusJson(status), HasSubstr("\"flushing_done_bytes\": 1073741824"));
}

TEST(RenderStatusTest, PeopleSeeWhatMattersInAFewLines) {
  EXPECT_EQ(StatusText(Status()),
            R"text(holdfastd 0.1.0, pid 99, up 3m 07s, boot 7
node     22222222222222222222222222222222
state    /var/lib/holdfast
metrics  off
arena    /dev/shm/holdfast
         [######################........] 3.00 GiB of 4.00 GiB used, 75 %
         slots: 2 sealed, 0 filling, 1 free; quarantined: 1.00 MiB
peers    at 10.0.0.1:7400; bytes over tcp;ofi_rxm at fi_sockaddr_in://10.0.0.1:41235 (eth0)
         NODE          ADDRESS        CONNECTED  ROUND TRIP  BECAUSE
         333333333333  10.0.0.2:7400  yes            180 us
         444444444444  -              no                  -  nobody listens\x1b

job my-job: incarnation 7, 2 ranks, run, live, 3.00 GiB of memory
  newest complete: 1200@7
  restored: 1000@6 (attempt 2)
  passed over: step 1100 of incarnation 6: rank 1 was lost
  bringing rank 3 of 1000@6: 512 MiB of 1.00 GiB from parity, any 1 of 2 nodes\x1b
  protected: 1190@7, 2 nodes of each group may be lost
  protecting: 1200@7
  group 1+1: 222222222222 333333333333 (less parity than configured: too few nodes); the loss of rack7 is not covered
  RANK   PID  CONNECTED  LAST BEGUN  SEALED  MISSED  LAST MISSED BECAUSE
     0  4242  yes              1210      12       0
     1     -  no                  -       0       3  torn (tensor model.\x1bw)
  TIER          SCOPE   HEALTH   NEWEST DURABLE   FLUSHED  LAST ERROR
  /checkpoints  shared  ok               1000@6  1.00 MiB
  /local        node    failing            none       0 B  disk full

warning: tier /local: disk full
)text");
}

constexpr char kStatusJson[] = R"json({
  "daemon": {
    "running": true,
    "pid": 99,
    "node_uuid": "22222222222222222222222222222222",
    "boot_number": 7,
    "version": "0.1.0",
    "uptime_seconds": 187,
    "state_dir": "/var/lib/holdfast",
    "metrics_address": "",
    "peer_endpoints": [
      "10.0.0.1:7400"
    ],
    "data_plane": "tcp;ofi_rxm at fi_sockaddr_in://10.0.0.1:41235 (eth0)",
    "peers": [
      {
        "node_uuid": "33333333333333333333333333333333",
        "endpoints": [
          "10.0.0.2:7400"
        ],
        "connected": true,
        "address": "10.0.0.2:40112",
        "authenticated": true,
        "round_trip_us": 180,
        "last_error": ""
      },
      {
        "node_uuid": "44444444444444444444444444444444",
        "endpoints": [],
        "connected": false,
        "address": "",
        "authenticated": false,
        "round_trip_us": 0,
        "last_error": "nobody listens\u001b"
      }
    ]
  },
  "arena": {
    "path": "/dev/shm/holdfast",
    "budget_bytes": 4294967296,
    "used_bytes": 3221225472,
    "quarantined_bytes": 1048576,
    "static_bytes": 0,
    "free_slots": 1,
    "sealed_slots": 2,
    "filling_slots": 0
  },
  "jobs": [
    {
      "name": "my-job",
      "job_uid": "11111111111111111111111111111111",
      "owner_uid": 0,
      "incarnation": 7,
      "world_size": 2,
      "phase": "run",
      "live": true,
      "arena_bytes": 3221225472,
      "newest_complete": {
        "job": "my-job",
        "incarnation": 7,
        "step": 1200
      },
      "restored": {
        "job": "my-job",
        "incarnation": 6,
        "step": 1000
      },
      "restore_attempt": 2,
      "restore_log": [
        "step 1100 of incarnation 6: rank 1 was lost"
      ],
      "protected": {
        "job": "my-job",
        "incarnation": 7,
        "step": 1190
      },
      "margin": 2,
      "protecting": {
        "job": "my-job",
        "incarnation": 7,
        "step": 1200
      },
      "groups": [
        {
          "nodes": [
            "22222222222222222222222222222222",
            "33333333333333333333333333333333"
          ],
          "data": 1,
          "parity": 1,
          "reduced": true,
          "uncovered_domains": [
            "rack7"
          ]
        }
      ],
      "not_protected": "",
      "bringing": [
        {
          "rank": 3,
          "id": {
            "job": "my-job",
            "incarnation": 6,
            "step": 1000
          },
          "done_bytes": 536870912,
          "total_bytes": 1073741824,
          "from": "parity, any 1 of 2 nodes\u001b"
        }
      ],
      "ranks": [
        {
          "rank": 0,
          "pid": 4242,
          "connected": true,
          "image_bytes": 1073741824,
          "static_image_bytes": 0,
          "last_begun_step": 1210,
          "sealed": 12,
          "missed": 0,
          "last_missed_reason": ""
        },
        {
          "rank": 1,
          "pid": 0,
          "connected": false,
          "image_bytes": 0,
          "static_image_bytes": 0,
          "last_begun_step": -1,
          "sealed": 0,
          "missed": 3,
          "last_missed_reason": "torn (tensor model.\u001bw)"
        }
      ],
      "tiers": [
        {
          "root": "/checkpoints",
          "scope": "shared",
          "healthy": true,
          "last_error": "",
          "newest_durable": {
            "job": "my-job",
            "incarnation": 6,
            "step": 1000
          },
          "flushed_bytes": 1048576,
          "flushing": null,
          "flushing_bytes": 0,
          "flushing_done_bytes": 0
        },
        {
          "root": "/local",
          "scope": "node",
          "healthy": false,
          "last_error": "disk full",
          "newest_durable": null,
          "flushed_bytes": 0,
          "flushing": null,
          "flushing_bytes": 0,
          "flushing_done_bytes": 0
        }
      ]
    }
  ],
  "warnings": [
    "tier /local: disk full"
  ]
}
)json";

TEST(RenderStatusTest, ScriptsFindTheDocumentedKeys) {
  EXPECT_EQ(StatusJson(Status()), kStatusJson);
}

TEST(RenderStatusTest, AnEmptyDaemonIsShownAsEmpty) {
  const std::string text = StatusText({});
  EXPECT_NE(text.find("no jobs"), std::string::npos);
  EXPECT_NE(StatusJson({}).find("\"jobs\": []"), std::string::npos);
}

}  // namespace
}  // namespace holdfast::cli
