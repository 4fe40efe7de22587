// How clients come back to a daemon that was away: what they repeat, and from where they know it.

#include <utility>

#include "tests/daemon/core/core_harness.h"

namespace holdfast::daemon {

void CoreHarness::Resume(const std::string& name) {
  ComeBack(name);
  RepeatRequests(name);
}

void CoreHarness::ComeBack(const std::string& name) {
  FakeClient& client = Client(name);
  if (!client.alive || !client.registered || !up() || client.session != 0) {
    return;  // a launcher whose open was not answered has no incarnation to come back to
  }
  client.resuming = true;
  Register(name);
}

void CoreHarness::RepeatRequests(const std::string& name) {
  FakeClient& client = Client(name);
  if (client.session == 0 || !client.registered || client.fenced) {
    return;
  }
  std::vector<SlotRef> sealing;
  for (const auto& [ref, copy] : client.copies) {
    if (copy.sealing) {
      sealing.push_back(ref);
    }
  }
  for (const SlotRef& ref : sealing) {
    SendSeal(&client, ref);
  }
  if (client.reports_loaded) {
    Loaded(name, !client.load_ok);
  } else if (client.asks) {
    AskAgain(&client);
  }
}

void CoreHarness::DieAndComeBack() {
  std::map<std::string, std::vector<proto::ClientMessage>> unanswered;
  for (const auto& [name, client] : clients_) {
    if (!client.alive || client.session == 0) {
      continue;
    }
    unanswered[name];
    for (const auto& [number, request] : client.waiting) {
      unanswered[name].push_back(request.message);
    }
  }
  Crash();
  due_.emplace_back([this] { Restart(); });
  std::deque<std::function<void()>>& due = clients_come_late_ ? late_ : due_;
  for (const auto& [name, requests] : unanswered) {
    due.emplace_back([this, name = name] { ComeBack(name); });
    for (const proto::ClientMessage& request : requests) {
      // Seals, restores and loads are repeated from the client's own state; what a begin or a torn
      // copy said is in the registration.
      const bool again = request.has_open_incarnation() || request.has_drain();
      const bool first = request.has_register_() && !Client(name).registered;
      if (again || first) {
        due.emplace_back([this, name = name, request] { Request(name, request); });
      }
    }
    due.emplace_back([this, name = name] { RepeatRequests(name); });
  }
}

void CoreHarness::ClientsComeBack() {
  due_.insert(due_.end(), late_.begin(), late_.end());
  late_.clear();
  Settle();
}

}  // namespace holdfast::daemon
