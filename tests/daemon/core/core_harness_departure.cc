// How clients and their workers go: in good order, with their connection, or for good.

#include <set>
#include <utility>

#include "tests/daemon/core/core_harness.h"

namespace holdfast::daemon {

// Copies under way have ended before a client says so.
void CoreHarness::Leave(const std::string& name) {
  FakeClient& client = Client(name);
  proto::ClientMessage message;
  message.mutable_leave();
  SendTo(&client, std::move(message));
  client.alive = false;
  left_.push_back(client.token);
  arena_.UnmapAll(client.pid);
  Disconnect(name);
}

void CoreHarness::Disconnect(const std::string& name) {
  FakeClient& client = Client(name);
  const SessionId session = std::exchange(client.session, 0);
  client.waiting.clear();
  if (up() && session != 0) {
    core_->OnDisconnected(session);
  }
  Settle();
}

void CoreHarness::Die(const std::string& name, bool worker_lives) {
  FakeClient& client = Client(name);
  client.alive = false;
  if (!worker_lives) {
    arena_.UnmapAll(client.pid);
  }
  Disconnect(name);
  if (up() && client.token != 0) {
    core_->OnProcessDead(client.token);
  }
  Settle();
}

void CoreHarness::CalledDead(const std::string& name) {
  if (up()) {
    core_->OnProcessDead(Client(name).token);
  }
  Disconnect(name);
}

void CoreHarness::WorkerGone(const std::string& name) {
  arena_.UnmapAll(Client(name).pid);
  Settle();
}

void CoreHarness::AllWorkersGone() {
  std::set<std::int32_t> living;
  for (const auto& [name, client] : clients_) {
    if (client.alive) {
      living.insert(client.pid);
    }
  }
  arena_.UnmapAllBut(living);
  for (const std::uint64_t token : std::exchange(left_, {})) {
    if (up()) {
      core_->OnProcessDead(token);
    }
  }
  Settle();
}

}  // namespace holdfast::daemon
