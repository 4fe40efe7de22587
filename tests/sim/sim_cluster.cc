#include "tests/sim/sim_cluster.h"

namespace holdfast::daemon {
namespace {

std::string Name(Rank rank) {
  return "r" + std::to_string(rank);
}

// Shards of unequal length, which leave segments short and empty.
std::uint64_t ImageBytes(Rank rank) {
  return (2 + rank % 3) * kMiB;
}

std::uint64_t StaticBytes(Rank rank) {
  return rank % 3 == 1 ? 0 : (2 + rank % 2) * kMiB;
}

}  // namespace

SimCluster::SimCluster(const SimSize& size) : coded_(size.parity > 0), statics_(size.statics) {
  world_->network = this;
  CoreOptions options;
  options.default_slots = size.slots;
  options.budget_bytes = size.ranks * size.slots * size.image_mib * kMiB;
  if (coded_) {
    // Slots of the longest shard, and of each rank two parities of rows as long as a whole one.
    options.budget_bytes *= 4;
    options.budget_bytes += std::uint64_t{size.ranks} * 2 * size.parity * 4 * kMiB;
    options.code_data = size.data;
    options.code_parity = size.parity;
  }
  if (statics_) {
    // Two images of each rank, the one that is in force and the one before, and their rows.
    options.budget_bytes += std::uint64_t{size.ranks} * 2 * (1 + size.parity) * 3 * kMiB;
  }
  options.budget_bytes = size.budget_bytes == 0 ? options.budget_bytes : size.budget_bytes;
  options.page_bytes = kMiB;
  options.peers = true;
  options.decide_each_report = size.many_nodes ? 0 : options.decide_each_report;
  for (std::size_t node = 0; node < static_cast<std::size_t>(size.nodes); ++node) {
    options.failure_domain = size.failure_domains.empty() ? "" : size.failure_domains.at(node);
    nodes_.push_back(std::make_unique<CoreHarness>(options, "n" + std::to_string(node), world_));
  }
  nodes_[0]->JobOf("r0").world_size = size.ranks;
}

void SimCluster::AddTier(const std::string& root) {
  proto::TierPolicy tier;
  tier.set_root(root);
  tier.set_scope(proto::SHARED);
  tier.set_every_steps(1);
  tier.set_keep_last(2);
  Node(0).JobOf("r0").tiers.push_back(tier);
}

FakeClient& SimCluster::Client(Rank rank) {
  return NodeOf(rank).Client(Name(rank));
}

int SimCluster::IndexOf(const std::string& uuid) const {
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    if (nodes_[i]->node_uuid() == uuid) {
      return static_cast<int>(i);
    }
  }
  return -1;
}

int SimCluster::IndexOf(const CoreHarness* node) const {
  return IndexOf(node->node_uuid());
}

void SimCluster::Push(const CoreHarness* from,
                      const std::string& to,
                      std::function<void(CoreHarness*)> deliver) {
  const int target = IndexOf(to);
  if (target >= 0) {
    pending_.push_back({IndexOf(from), target, std::move(deliver)});
  }
}

void SimCluster::Send(CoreHarness* from, const SendReport& action) {
  const std::uint64_t ticket = next_ticket_++;
  asked_[ticket] = {
      from->node_uuid(), action.job_uid, action.report.stamp, action.report.answers_attempt};
  Push(from, action.node_uuid, [sender = from->node_uuid(), ticket, action](CoreHarness* node) {
    node->core()->OnPeerReport(sender, ticket, action.job_uid, action.report);
  });
}

void SimCluster::Send(CoreHarness* from, const SendCommand& action) {
  const std::uint64_t ticket = next_ticket_++;
  asked_[ticket] = {from->node_uuid(), action.job_uid, action.command.stamp, 0};
  Push(from, action.node_uuid, [sender = from->node_uuid(), ticket, action](CoreHarness* node) {
    node->core()->OnPeerCommand(sender, ticket, action.job_uid, action.command);
  });
}

void SimCluster::Send(CoreHarness* from, const AnswerPeer& action) {
  const Asked asked = asked_.at(action.ticket);
  ++answers[action.status.has_value() ? 0 : static_cast<int>(action.status.error().code)];
  if (action.status.has_value() && asked.answers_attempt != 0) {
    const Epoch& epoch = asked.stamp.epoch;
    inventories_.insert({epoch.number, epoch.token, asked.answers_attempt, asked.from});
  }
  Push(from,
       asked.from,
       [asked, status = action.status, sender = from->node_uuid()](CoreHarness* node) {
         node->core()->OnPeerAnswer(sender, asked.job, asked.stamp, status);
       });
}

CoreHarness* SimCluster::Reach(CoreHarness* from, const std::string& node) {
  const int a = IndexOf(from);
  const int b = IndexOf(node);
  const bool reached =
      a >= 0 && b >= 0 && Node(b).up() && !cut_.contains({a, b}) && !cut_.contains({b, a});
  return reached ? &Node(b) : nullptr;
}

void SimCluster::Deliver(std::size_t which, bool keep) {
  const Envelope envelope = pending_[which];
  if (!keep) {
    pending_.erase(pending_.begin() + static_cast<std::ptrdiff_t>(which));
  }
  CoreHarness& node = Node(envelope.to);
  if (node.up() && !cut_.contains({envelope.from, envelope.to})) {
    envelope.deliver(&node);
    node.Settle();
  }
}

// What was on its way in a session is lost with it.
void SimCluster::EndSession(int a, int b) {
  std::erase_if(pending_, [&](const Envelope& envelope) {
    return (envelope.from == a && envelope.to == b) || (envelope.from == b && envelope.to == a);
  });
  for (const int node : {a, b}) {
    std::erase_if(inventories_, [&](const auto& inventory) {
      return std::get<3>(inventory) == Node(node).node_uuid();
    });
  }
}

// A session is up where both daemons are, and hear each other.
void SimCluster::Reconcile() {
  const int count = static_cast<int>(nodes_.size());
  for (int a = 0; a < count; ++a) {
    for (int b = 0; b < count; ++b) {
      if (a == b || !Node(a).up()) {
        seen_.erase({a, b});
        continue;
      }
      const bool reach = Node(b).up() && !cut_.contains({a, b}) && !cut_.contains({b, a});
      const std::pair now(Node(b).node_uuid(), Node(b).boot() * 1000 + Node(a).boot());
      const auto seen = seen_.find({a, b});
      if (seen != seen_.end() && (!reach || seen->second != now)) {
        const std::string gone = seen->second.first;
        seen_.erase(seen);
        EndSession(a, b);
        Node(a).core()->OnPeerDown(gone);
        Node(a).Settle();
      }
      if (reach && Node(a).up() && !seen_.contains({a, b})) {
        seen_[{a, b}] = now;
        Node(a).core()->OnPeerUp(now.first, Node(b).boot());
        Node(a).Settle();
      }
    }
  }
}

std::uint64_t SimCluster::Boots() const {
  std::uint64_t boots = 0;
  for (const auto& node : nodes_) {
    boots += 2 * node->boot() + (node->up() ? 1 : 0);
  }
  return boots;
}

void SimCluster::Pump() {
  Reconcile();
  constexpr int kMost = 100000;
  std::uint64_t boots = Boots();
  for (int i = 0; i < kMost; ++i) {
    // A daemon that died meanwhile: its sessions end before anything else arrives.
    if (boots != Boots()) {
      Reconcile();
      boots = Boots();
    }
    std::size_t which = 0;
    while (which < pending_.size() && held_.contains(pending_[which].from)) {
      ++which;
    }
    if (which == pending_.size()) {
      return;
    }
    Deliver(which, false);
  }
  violations().push_back("the nodes never come to rest");
}

void SimCluster::Cut(int from, int to, bool cut) {
  cut ? (void)cut_.emplace(from, to) : (void)cut_.erase({from, to});
}

void SimCluster::Isolate(int node, bool cut) {
  for (int other = 0; other < static_cast<int>(nodes_.size()); ++other) {
    Cut(node, other, cut);
    Cut(other, node, cut);
  }
}

void SimCluster::HoldFrom(int node, bool hold) {
  hold ? (void)held_.insert(node) : (void)held_.erase(node);
}

void SimCluster::Launch(const std::vector<int>& on, const std::set<int>& out_of_reach) {
  for (Rank rank = 0; rank < on_.size(); ++rank) {
    if (Client(rank).alive && !out_of_reach.contains(on_[rank])) {
      NodeOf(rank).Die(Name(rank), false);
    }
  }
  on_ = on;
  FakeJob& job = Node(0).JobOf("r0");
  job.members.Clear();
  for (Rank rank = 0; rank < on_.size(); ++rank) {
    if (Client(rank).alive) {
      NodeOf(rank).Die(Name(rank), false);
    }
    NodeOf(rank).Spawn(Name(rank));
    if (coded_) {
      Client(rank).layout.image_bytes = ImageBytes(rank);
      Client(rank).layout.name = "a" + std::to_string(rank % 3);
    }
    Client(rank).layout.static_bytes = statics_ ? StaticBytes(rank) : 0;
    Client(rank).base = "base of " + Name(rank);
    const std::string uuid = NodeOf(rank).node_uuid();
    auto member = std::find_if(job.members.begin(), job.members.end(), [&](const auto& known) {
      return known.node_uuid() == uuid;
    });
    proto::MemberNode* entry = member == job.members.end() ? job.members.Add() : &*member;
    entry->set_node_uuid(uuid);
    entry->add_ranks(rank);
  }
  // As the client does, which asks that node alone: one that does not know the newest start would
  // take a number again.
  const auto jobs = NodeOf(0).Records().jobs;
  const bool known = job.uid.empty() || std::any_of(jobs.begin(), jobs.end(), [&](const auto& of) {
                       return of.job_uid() == job.uid && of.epoch_number() == job.epoch.number;
                     });
  if (job.members.size() == 1 && known) {
    job.members.Clear();
  }
}

void SimCluster::Open(const std::vector<int>& on, const std::set<int>& out_of_reach) {
  Launch(on, out_of_reach);
  NodeOf(0).Open("r0");
  Pump();
  for (Rank rank = 0; rank < on_.size(); ++rank) {
    NodeOf(rank).Register(Name(rank));
    Pump();
  }
}

void SimCluster::Restore(const RestoreWish& wish) {
  for (Rank rank = 0; rank < on_.size(); ++rank) {
    NodeOf(rank).Restore(Name(rank), wish);
    Pump();
  }
}

void SimCluster::LoadAll() {
  for (Rank rank = 0; rank < on_.size(); ++rank) {
    const FakeClient& client = Client(rank);
    if (client.told.has_value() && !client.returned && !client.reports_loaded) {
      NodeOf(rank).Loaded(Name(rank), false);
      Pump();
    }
  }
}

void SimCluster::Start(const std::vector<int>& on, const RestoreWish& wish) {
  Open(on);
  Restore(wish);
  LoadAll();
}

void SimCluster::Step(holdfast::daemon::Step step) {
  for (Rank rank = 0; rank < on_.size(); ++rank) {
    NodeOf(rank).Begin(Name(rank), step);
  }
  Pump();
  for (Rank rank = 0; rank < on_.size(); ++rank) {
    NodeOf(rank).Seal(Name(rank), false);
    Pump();
  }
}

void SimCluster::Tick(std::chrono::milliseconds elapsed) {
  Advance(elapsed);
  Pump();
}

void SimCluster::Advance(std::chrono::milliseconds elapsed) {
  world_->now += elapsed;
  world_->wall += elapsed;
  for (auto& node : nodes_) {
    node->TickCore();
  }
}

}  // namespace holdfast::daemon
