// What several nodes share in a test: jobs, tiers, the clock, the network, and what was ever true.
//
// Threads:   one.
// Ownership: shared by the harnesses of its nodes; a harness that is alone has its own.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "common/clock.h"
#include "daemon/core/action.h"
#include "tests/daemon/core/fake_tier.h"

namespace holdfast::daemon {

class CoreHarness;

// What the launcher of a job knows.
struct FakeJob {
  using Members = google::protobuf::RepeatedPtrField<proto::MemberNode>;

  std::string name;
  std::uint32_t world_size = 1;
  std::vector<proto::TierPolicy> tiers;
  JobUid uid;
  Epoch epoch;
  Members members;  // of its present start; none: one node
};

// Carries what the cores of several nodes tell each other, or loses it.
class PeerNetwork {
 public:
  PeerNetwork() = default;
  PeerNetwork(const PeerNetwork&) = delete;
  PeerNetwork& operator=(const PeerNetwork&) = delete;
  virtual ~PeerNetwork() = default;

  virtual void Send(CoreHarness* from, const SendReport& action) = 0;
  virtual void Send(CoreHarness* from, const SendCommand& action) = 0;
  virtual void Send(CoreHarness* from, const AnswerPeer& action) = 0;
  // Whose memory "from" can read now; null: not that of this node.
  virtual CoreHarness* Reach(CoreHarness* from, const std::string& node) = 0;
};

struct FakeWorld {
  // For the checks: what was ever sealed and complete, and what the tests did on purpose.
  struct History {
    bool catalog_lost = false;
    std::map<std::pair<JobUid, SnapshotKey>, std::set<Rank>> sealed;
    std::map<JobUid, SnapshotKey> newest_complete;
    // Up to here all may be gone: the nodes that held it lost their memory, or were silent when a
    // later start chose.
    std::map<JobUid, SnapshotKey> lost_up_to;
    // What the frozen tensors of a shard held when its trainer sealed it ("": it had none), in each
    // of the starts that took its number.
    std::map<std::tuple<JobUid, SnapshotKey, Rank>, std::set<std::string>> bases;
    // Nodes that may still be lost before the job can be: the margin of what was last called
    // protected, less those lost since.
    std::map<JobUid, int> margin_left;
    // What every image that was ever sealed held, by its digests.
    std::map<std::string, std::string> images;
    std::set<JobUid> given_up;  // finished, dropped, or damaged by the test: I3 holds no more
  };

  std::map<std::string, FakeTier> tiers;
  std::map<std::string, FakeJob> jobs;
  History history;
  std::vector<CoreHarness*> nodes;
  PeerNetwork* network = nullptr;  // null: nobody is reached
  MonotonicTime now{std::chrono::hours(1)};
  WallTime wall{std::chrono::hours(24 * 365)};
  std::int32_t next_pid = 100;
  std::uint64_t next_random = 1000;
  int next_uid = 0;
  std::string log;
  std::vector<std::string> violations;
};

}  // namespace holdfast::daemon
