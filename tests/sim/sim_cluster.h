// Several nodes, each the real NodeCore in its harness, on a network that a test rules.
//
// Threads:   one.
// Ownership: owns the nodes and what is under way between them.
// Errors:    broken invariants are in violations(), as for one node.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/daemon/core/core_harness.h"

namespace holdfast::daemon {

struct SimSize {
  int nodes = 1;
  std::uint32_t ranks = 1;
  std::uint32_t slots = 2;
  std::uint32_t data = 1;    // how nodes protect each other
  std::uint32_t parity = 0;  // 0: they do not
  bool many_nodes = false;   // the core takes the job for one of very many nodes, whatever it has
  std::uint64_t budget_bytes = 0;  // of each node; 0: enough for all that is wished for
  std::vector<std::string> failure_domains = {};  // of each node; none: each is one of its own
  std::uint64_t image_mib = 1;  // of the longest layout, where nodes do not protect each other
  bool statics = false;  // two of three ranks have frozen tensors, in images of unequal length
};

class SimCluster : public PeerNetwork {
 public:
  explicit SimCluster(const SimSize& size);

  CoreHarness& Node(int node) { return *nodes_[static_cast<std::size_t>(node)]; }

  const CoreHarness& Node(int node) const { return *nodes_[static_cast<std::size_t>(node)]; }

  const FakeJob& job() const { return world_->jobs.at("train"); }

  int nodes() const { return static_cast<int>(nodes_.size()); }

  FakeWorld& world() { return *world_; }

  int IndexOf(const std::string& uuid) const;

  // One that all nodes share, for the starts to come: every step is due there.
  void AddTier(const std::string& root);

  // Nodes of ranks in the present start.
  const std::vector<int>& on() const { return on_; }

  FakeClient& Client(Rank rank);

  CoreHarness& NodeOf(Rank rank) { return Node(on_.at(rank)); }

  // A new start of the job: rank i on node on[i].  Goes on to the end of the restore.
  void Start(const std::vector<int>& on, const RestoreWish& wish = {});
  // The launcher cannot kill the trainers of "out_of_reach".
  void Open(const std::vector<int>& on, const std::set<int>& out_of_reach = {});
  // Only that: new processes, and members for the launcher to tell.
  void Launch(const std::vector<int>& on, const std::set<int>& out_of_reach);
  void Restore(const RestoreWish& wish);
  void LoadAll();
  void Step(holdfast::daemon::Step step);
  void Tick(std::chrono::milliseconds elapsed);
  // Only that: nothing is delivered.
  void Advance(std::chrono::milliseconds elapsed);

  // Messages from one node to the other are lost; the session of the two ends.
  void Cut(int from, int to, bool cut = true);
  void Isolate(int node, bool cut = true);

  void Heal() { cut_.clear(); }

  // Messages from that node wait, until they are released, in order or the newest first.
  void HoldFrom(int node, bool hold = true);
  // Delivers until nothing is under way but what is held.
  void Pump();

  struct Envelope {
    int from = 0;
    int to = 0;
    std::function<void(CoreHarness*)> deliver;
  };

  std::deque<Envelope>& pending() { return pending_; }

  void Deliver(std::size_t which, bool keep);
  void Reconcile();

  void Send(CoreHarness* from, const SendReport& action) override;
  void Send(CoreHarness* from, const SendCommand& action) override;
  void Send(CoreHarness* from, const AnswerPeer& action) override;
  CoreHarness* Reach(CoreHarness* from, const std::string& node) override;

  std::vector<std::string>& violations() { return world_->violations; }

  std::string log() const { return world_->log; }

  // The answers that peers gave, by code; 0: taken.
  std::map<int, int> answers;

  // Nodes whose inventory of that attempt the coordinator has, and whose session is still up.
  bool HasInventory(const Epoch& epoch, std::uint32_t attempt, const std::string& node) const {
    return inventories_.contains({epoch.number, epoch.token, attempt, node});
  }

 private:
  std::uint64_t Boots() const;  // rises with each start and end of a daemon
  int IndexOf(const CoreHarness* node) const;
  void EndSession(int a, int b);
  void Push(const CoreHarness* from,
            const std::string& to,
            std::function<void(CoreHarness*)> deliver);

  struct Asked {
    std::string from;
    JobUid job;
    MessageStamp stamp;
    std::uint32_t answers_attempt = 0;  // of a report
  };

  std::shared_ptr<FakeWorld> world_ = std::make_shared<FakeWorld>();
  std::vector<std::unique_ptr<CoreHarness>> nodes_;
  std::vector<int> on_;
  bool coded_ = false;
  bool statics_ = false;
  std::deque<Envelope> pending_;
  std::set<std::pair<int, int>> cut_;
  std::set<int> held_;
  std::map<std::pair<int, int>, std::pair<std::string, std::uint64_t>> seen_;  // sessions
  std::map<std::uint64_t, Asked> asked_;
  std::set<std::tuple<std::uint64_t, std::uint64_t, std::uint32_t, std::string>> inventories_;
  std::uint64_t next_ticket_ = 1;
};

}  // namespace holdfast::daemon
