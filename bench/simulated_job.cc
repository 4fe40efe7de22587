#include "bench/simulated_job.h"

#include <algorithm>
#include <ctime>
#include <variant>

#include "common/units.h"
#include "daemon/peer_messages.h"

namespace holdfast::bench {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kImageBytes = kMiB;
constexpr auto kTick = 250ms;  // as the daemon's

double ProcessorSeconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

daemon::CoreOptions OptionsOf(std::uint32_t ranks) {
  daemon::CoreOptions options;
  options.budget_bytes = std::uint64_t{ranks} * 16 * kImageBytes;
  options.peers = true;
  options.code_data = 8;
  options.code_parity = 2;
  return options;
}

std::string Uuid(std::uint32_t node) {
  const std::string number = std::to_string(node);
  return std::string(16 - number.size(), '0') + number;
}

daemon::LayoutFacts Layout() {
  daemon::LayoutFacts facts;
  facts.hash = std::string(16, 'h');
  facts.image_bytes = kImageBytes;
  return facts;
}

}  // namespace

SimulatedJob::SimulatedJob(std::uint32_t nodes, std::uint32_t ranks_of_node)
    : ranks_of_node_(ranks_of_node),
      nodes_(nodes),
      trainers_(std::size_t{nodes} * ranks_of_node),
      now_(1h),
      wall_now_(24h * 365 * 50) {
  for (std::uint32_t node = 0; node < nodes; ++node) {
    daemon::RecoveredState empty;
    empty.node_uuid = nodes_[node].uuid = Uuid(node);
    empty.arena_uuid = "arena-of-a-node-";
    empty.boot_id = "boot";
    empty.boot_number = 1;
    node_of_uuid_[empty.node_uuid] = node;
    nodes_[node].core = std::make_unique<daemon::NodeCore>(
        OptionsOf(ranks_of_node), std::move(empty), now_, wall_now_);
    for (std::uint32_t local = 0; local < ranks_of_node; ++local) {
      trainers_[node * ranks_of_node + local].node = node;
      trainers_[node * ranks_of_node + local].session = local + 1;
    }
  }
}

void SimulatedJob::Call(std::uint32_t node, const std::function<void(daemon::NodeCore*)>& what) {
  std::vector<daemon::Ready> readies;
  std::vector<std::function<void()>> posts;
  const double began = ProcessorSeconds();
  what(nodes_[node].core.get());
  daemon::Ready ready;
  while (nodes_[node].core->TakeReady(&ready)) {
    for (daemon::Action& action : ready.actions) {
      if (const auto* report = std::get_if<daemon::SendReport>(&action); report != nullptr) {
        auto bytes =
            daemon::ToProto(report->job_uid, report->job_name, report->report).SerializeAsString();
        posts.push_back([this, node, to = report->node_uuid, bytes = std::move(bytes)] {
          Post(node, node_of_uuid_.at(to), true, bytes);
        });
      } else if (const auto* command = std::get_if<daemon::SendCommand>(&action);
                 command != nullptr) {
        auto bytes = daemon::ToProto(command->job_uid, command->job_name, command->command)
                         .SerializeAsString();
        posts.push_back([this, node, to = command->node_uuid, bytes = std::move(bytes)] {
          Post(node, node_of_uuid_.at(to), false, bytes);
        });
      }
    }
    readies.push_back(std::move(ready));
    ready = {};
  }
  const double seconds = ProcessorSeconds() - began;
  nodes_[node].seconds += seconds;
  if (node == 0) {
    cost_.longest_call_seconds = std::max(cost_.longest_call_seconds, seconds);
  }
  for (const auto& post : posts) {
    post();
  }
  for (daemon::Ready& taken : readies) {
    Take(node, &taken);
  }
}

void SimulatedJob::Take(std::uint32_t node, daemon::Ready* ready) {
  for (const daemon::Action& action : ready->actions) {
    std::visit([&](const auto& kind) { Start(node, kind); }, action);
  }
}

void SimulatedJob::Request(std::uint32_t rank, const proto::ClientMessage& message) {
  const daemon::LayoutFacts facts = Layout();
  Call(trainers_[rank].node,
       [&](daemon::NodeCore* core) { core->OnRequest(trainers_[rank].session, message, &facts); });
}

void SimulatedJob::Start(std::uint32_t node, const daemon::Send& action) {
  Trainer& trainer =
      trainers_[node * ranks_of_node_ + static_cast<std::uint32_t>(action.session - 1)];
  if (action.message.has_grant()) {
    trainer.grant = action.message.grant();
  } else if (action.message.has_restore()) {
    trainer.returned = !action.message.restore().has_choice();
  } else if (action.message.has_open_incarnation()) {
    const proto::OpenIncarnationReply& opened = action.message.open_incarnation();
    uid_ = opened.job_uid();
    epoch_ = {opened.number(), opened.token()};
  }
}

void SimulatedJob::Start(std::uint32_t node, const daemon::PrepareSlot& action) {
  QueueOf(node).push_back([this, node, slot = action.slot] {
    Call(node, [&](daemon::NodeCore* core) { core->OnSlotPrepared(slot, Ok()); });
  });
}

void SimulatedJob::Start(std::uint32_t node, const daemon::ClaimIncarnation& action) {
  QueueOf(node).push_back([this, node, ticket = action.ticket] {
    Call(node, [&](daemon::NodeCore* core) {
      core->OnIncarnationClaimed(ticket, daemon::ClaimedIncarnation{"uid-of-the-job--", 1, {}});
    });
  });
}

void SimulatedJob::Start(std::uint32_t node, const daemon::AnswerPeer& action) {
  const auto asked = asked_.extract(action.ticket);
  QueueOf(asked.mapped().from)
      .push_back([this, node, what = asked.mapped(), status = action.status] {
        Call(what.from, [&](daemon::NodeCore* core) {
          core->OnPeerAnswer(nodes_[node].uuid, uid_, what.stamp, status);
        });
        Lane& lane = lanes_[{what.from, node}];
        lane.busy = false;
        Send(what.from, node);
      });
}

void SimulatedJob::Start(std::uint32_t node, const daemon::MakeRow& action) {
  work_.push_back([this, node, ticket = action.ticket, bytes = action.length_bytes] {
    Call(node, [&](daemon::NodeCore* core) {
      core->OnRowMade(ticket, std::vector<std::uint32_t>((bytes + kMiB - 1) / kMiB));
    });
  });
}

void SimulatedJob::Start(std::uint32_t node, const daemon::FetchSidecars& action) {
  work_.push_back([this, node, action] {
    std::vector<proto::Sidecar> found;
    for (const auto& [rank, from] : action.from) {
      const auto* sidecar = nodes_[node_of_uuid_.at(from.front())].core->FindSidecar(
          daemon::ToProto(action.job_uid, action.id), rank);
      if (sidecar != nullptr) {
        found.push_back(*sidecar);
      }
    }
    Call(node, [&](daemon::NodeCore* core) { core->OnSidecarsFetched(action.ticket, found); });
  });
}

void SimulatedJob::Post(std::uint32_t from, std::uint32_t to, bool report, std::string bytes) {
  Lane& lane = lanes_[{from, to}];
  lane.report = report;
  lane.next = std::move(bytes);
  if (!lane.busy) {
    Send(from, to);
  }
}

void SimulatedJob::Send(std::uint32_t from, std::uint32_t to) {
  Lane& lane = lanes_[{from, to}];
  if (!lane.next.has_value()) {
    return;
  }
  lane.busy = true;
  QueueOf(to).push_back([this, from, to, report = lane.report, bytes = std::move(*lane.next)] {
    Deliver(from, to, report, bytes);
  });
  lane.next.reset();
}

void SimulatedJob::Deliver(std::uint32_t from,
                           std::uint32_t to,
                           bool report,
                           const std::string& bytes) {
  const std::uint64_t ticket = next_ticket_++;
  (report ? cost_.reports : cost_.commands) += 1;
  cost_.report_bytes += report ? static_cast<double>(bytes.size()) : 0;
  Call(to, [&](daemon::NodeCore* core) {
    if (report) {
      proto::ReportRequest request;
      request.ParseFromString(bytes);
      Result<daemon::Report> got = daemon::FromProto(request.report());
      asked_[ticket] = {from, got.value().stamp};
      core->OnPeerReport(nodes_[from].uuid, ticket, request.job_uid(), std::move(got.value()));
    } else {
      proto::CommandRequest request;
      request.ParseFromString(bytes);
      const Result<daemon::Command> got = daemon::FromProto(request.command());
      asked_[ticket] = {from, got.value().stamp};
      core->OnPeerCommand(nodes_[from].uuid, ticket, request.job_uid(), got.value());
    }
  });
}

void SimulatedJob::Pump() {
  while (!events_.empty()) {
    const std::function<void()> event = std::move(events_.front());
    events_.pop_front();
    event();
  }
}

void SimulatedJob::PumpAll() {
  while (!inbox_.empty() || !events_.empty()) {
    Pump();
    events_.swap(inbox_);
    Pump();
  }
}

void SimulatedJob::Tick() {
  now_ += kTick;
  wall_now_ += kTick;
  for (std::uint32_t node = 0; node < nodes_.size(); ++node) {
    Call(node, [&](daemon::NodeCore* core) { core->OnTick(now_, wall_now_); });
    Pump();
  }
  PumpAll();
}

void SimulatedJob::WorkOff(std::size_t count) {
  for (; count > 0 && !work_.empty(); --count) {
    const std::size_t which = random_() % std::min<std::size_t>(work_.size(), 4 * nodes_.size());
    std::swap(work_[which], work_.front());
    const std::function<void()> work = std::move(work_.front());
    work_.pop_front();
    work();
    Pump();
    if (count % nodes_.size() == 0) {
      PumpAll();
    }
  }
}

}  // namespace holdfast::bench
