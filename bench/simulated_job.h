// A job of many nodes in one process: the real core of each (NodeCore, so member and coordinator),
// real messages between them, encoded and decoded, and everything else made up: slots are there at
// once, digests are zeros, rows and sidecars are there when they are asked for.
//
// Messages are delivered one at a time, and each is followed by the Ready that the core makes of
// it: what a runtime would do that is never behind.  As in daemon/peers/, of reports (or commands)
// from one node to another one is under way and only the newest waits.  Node 0 has the coordinator:
// what comes to it waits until as many trainers have acted as there are nodes, so that its work is
// not measured with the caches that two thousand others have just emptied.
//
// Threads:   one.
// Ownership: owns the nodes.
// Errors:    kInternal names what did not come about; the job cannot be used then.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "common/result.h"
#include "daemon/core/action.h"
#include "daemon/core/node_core.h"
#include "proto/client.pb.h"
#include "proto/peer.pb.h"

namespace holdfast::bench {

// What one snapshot cost, from the first begin until it is complete and protected everywhere.
struct SnapshotCost {
  double coordinator_seconds = 0;   // of processor: the core of node 0, its messages in and out
  double member_seconds = 0;        // of the other nodes, each on average
  double reports = 0;               // that the coordinator got
  double commands = 0;              // that it sent
  double report_bytes = 0;          // of them all
  double longest_call_seconds = 0;  // of node 0: as long nobody else is heard
};

class SimulatedJob {
 public:
  SimulatedJob(std::uint32_t nodes, std::uint32_t ranks_of_node);
  SimulatedJob(const SimulatedJob&) = delete;
  SimulatedJob& operator=(const SimulatedJob&) = delete;

  // The job starts on empty nodes, asks for a restore, and is told that there is nothing.
  [[nodiscard]] Status Start();
  // Every rank begins and seals the next step, in an order that the seed says, while time goes on;
  // then rows are made, until the step is protected.
  [[nodiscard]] Result<SnapshotCost> Snapshot();

 private:
  struct Trainer {
    std::uint32_t node = 0;
    daemon::SessionId session = 0;
    std::optional<proto::GrantEvent> grant;
    bool returned = false;  // from its restore
  };

  struct Node {
    std::string uuid;
    std::unique_ptr<daemon::NodeCore> core;
    double seconds = 0;  // of processor, since the snapshot began
  };

  // From one node to another.
  struct Lane {
    bool busy = false;
    bool report = false;
    std::optional<std::string> next;
  };

  using LaneKey = std::pair<std::uint32_t, std::uint32_t>;  // from, to

  struct Asked {
    std::uint32_t from = 0;
    daemon::MessageStamp stamp;
  };

  // Runs on a node, takes what comes of it, and counts the time.
  void Call(std::uint32_t node, const std::function<void(daemon::NodeCore*)>& what);
  void Request(std::uint32_t rank, const proto::ClientMessage& message);
  void Take(std::uint32_t node, daemon::Ready* ready);

  std::deque<std::function<void()>>& QueueOf(std::uint32_t node) {
    return node == 0 ? inbox_ : events_;
  }

  void Pump();     // nodes but the coordinator's
  void PumpAll();  // until nothing is under way
  void Tick();
  void WorkOff(std::size_t count);
  void Post(std::uint32_t from, std::uint32_t to, bool report, std::string bytes);
  void Send(std::uint32_t from, std::uint32_t to);
  void Deliver(std::uint32_t from, std::uint32_t to, bool report, const std::string& bytes);
  [[nodiscard]] Status Open();
  [[nodiscard]] Status Register();
  [[nodiscard]] Status Restore();
  // All ranks do it, shuffled, while as many ticks pass.
  void AllRanks(int ticks, const std::function<void(std::uint32_t rank)>& what);
  [[nodiscard]] bool IsProtected(daemon::Step step) const;

  void Start(std::uint32_t node, const daemon::Send& action);
  void Start(std::uint32_t node, const daemon::PrepareSlot& action);
  void Start(std::uint32_t node, const daemon::ClaimIncarnation& action);
  void Start(std::uint32_t node, const daemon::AnswerPeer& action);
  void Start(std::uint32_t node, const daemon::MakeRow& action);
  void Start(std::uint32_t node, const daemon::FetchSidecars& action);

  template <typename Other>
  void Start(std::uint32_t /*node*/, const Other& /*action*/) {}

  const std::uint32_t ranks_of_node_;
  std::vector<Node> nodes_;
  std::vector<Trainer> trainers_;  // by rank
  std::map<std::string, std::uint32_t> node_of_uuid_;
  MonotonicTime now_;
  WallTime wall_now_;
  std::mt19937_64 random_{1};
  daemon::JobUid uid_;
  daemon::Epoch epoch_;
  daemon::Step step_ = 0;
  std::uint64_t next_ticket_ = 1;
  std::map<std::uint64_t, Asked> asked_;
  std::map<LaneKey, Lane> lanes_;
  std::deque<std::function<void()>> events_;  // messages under way
  std::deque<std::function<void()>> inbox_;   // of them, to the coordinator's node
  std::deque<std::function<void()>> work_;    // rows and sidecars that are being made
  SnapshotCost cost_;
};

}  // namespace holdfast::bench
