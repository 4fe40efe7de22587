// What this daemon and the daemons of other nodes tell each other.
//
// Carries the core's reports and commands (action.h) over transport/peer_channel.h.  They are whole
// states, so of those that wait for one node and job only the newest is sent: at most one is under
// way and one waits, however fast the core decides and however slow the node is (I9).  A message
// that is lost is no error: the core repeats what was not answered.
//
// Threads:   the io thread only; Open on the main thread before it runs.
// Ownership: owns server, connections and tasks; borrows the core's gate.
// Errors:    Open: kPermission (no certificates on an address that is not loopback, or those of
//            another node), kAlreadyExists (the port is taken), kNotFound and others for files.
// Lifecycle: construct -> Open -> Start -> Send, Answer, OnTick -> Stop -> Join -> destroy.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "common/result.h"
#include "common/task_group.h"
#include "daemon/async_event.h"
#include "daemon/core/action.h"
#include "daemon/core_gate.h"
#include "daemon/peers/peer_links.h"
#include "transport/peer_context.h"
#include "transport/peer_server.h"
#include "transport/tls.h"

namespace holdfast::daemon {

struct PeerOptions {
  std::string listen;                  // "10.0.0.7:7400"
  std::vector<std::string> advertise;  // empty: listen
  transport::TlsFiles tls;             // all empty: none
  bool allow_insecure = false;
  std::chrono::milliseconds dead_after{20'000};
  std::vector<proto::DataPlane> planes;  // where this node's bytes can be read, the best first
};

// "10.0.0.7" of "10.0.0.7:7400"; empty where that means every address.
[[nodiscard]] std::string HostOf(const std::string& address);

struct PeerCounters {
  std::uint64_t reports_sent = 0;
  std::uint64_t commands_sent = 0;
  std::uint64_t unanswered = 0;  // of both
};

class PeerNetwork {
 public:
  // Listens.  The node uuid and the boot number are what the hello says.
  [[nodiscard]] static Result<std::unique_ptr<PeerNetwork>> Open(
      const boost::asio::any_io_executor& executor,
      const PeerOptions& options,
      const std::string& node_uuid,
      std::uint64_t boot,
      CoreGate* core);

  PeerNetwork(const PeerNetwork&) = delete;
  PeerNetwork& operator=(const PeerNetwork&) = delete;

  // Where others reach this daemon.
  [[nodiscard]] const std::vector<std::string>& endpoints() const { return endpoints_; }

  void Start();

  void Send(const SendReport& action);
  void Send(const SendCommand& action);
  void Answer(const AnswerPeer& action);

  // What is no report and no command.  Answers as a PeerHandler does.
  void ServeWith(transport::PeerHandler server) { serve_ = std::move(server); }

  // Asks a node that may not be connected yet: it is then wanted, for a while, and waited for.
  // kUnavailable says why there is no connection; else PeerChannel's errors.
  [[nodiscard]] boost::asio::awaitable<Result<proto::PeerReply>> Call(
      std::string node, proto::PeerRequest request, std::chrono::milliseconds limit);

  // At least once a second.
  void OnTick(MonotonicTime now);

  [[nodiscard]] const PeerLinks& links() const { return links_; }

  [[nodiscard]] const PeerCounters& counters() const { return counters_; }

  // When peers will refuse this node; nothing where there are no certificates.
  [[nodiscard]] std::optional<WallTime> certificate_end() const;

  [[nodiscard]] std::uint64_t refused(transport::Refusal refusal) {
    return context_.refusals().count(refusal);
  }

  void Stop();
  [[nodiscard]] boost::asio::awaitable<bool> Join(std::chrono::milliseconds limit);

 private:
  enum class Kind : std::uint8_t { kReport, kCommand };
  using LaneKey = std::tuple<std::string, JobUid, Kind>;  // and the node

  struct Message {
    MessageStamp stamp;
    proto::PeerRequest request;
  };

  // Messages of one kind about one job to one node.
  struct Lane {
    bool busy = false;
    std::optional<Message> next;
  };

  // A message of a peer that the core has not answered yet.
  struct Asked {
    explicit Asked(const boost::asio::any_io_executor& executor) : event(executor) {}

    AsyncEvent event;
    std::optional<Status> answer;
  };

  PeerNetwork(const boost::asio::any_io_executor& executor,
              const PeerOptions& options,
              std::string node_uuid,
              std::uint64_t boot,
              std::shared_ptr<const transport::TlsContext> tls,
              CoreGate* core);

  [[nodiscard]] std::vector<std::string> EndpointsOf(const std::string& node) const;
  void Enqueue(LaneKey key, const std::vector<std::string>& endpoints, Message message);
  [[nodiscard]] boost::asio::awaitable<void> Drain(LaneKey key);
  [[nodiscard]] boost::asio::awaitable<Result<proto::PeerReply>> Handle(
      std::shared_ptr<const transport::PeerFacts> peer, proto::PeerRequest request);
  [[nodiscard]] boost::asio::awaitable<Status> AwaitAnswer(std::uint64_t ticket,
                                                           std::shared_ptr<Asked> asked);

  const boost::asio::any_io_executor executor_;
  CoreGate* const core_;
  std::vector<std::string> endpoints_;
  transport::PeerContext context_;
  PeerLinks links_;
  transport::PeerServer server_;
  transport::PeerHandler serve_;               // may be empty
  std::map<std::string, MonotonicTime> held_;  // nodes that are wanted until then
  std::map<LaneKey, Lane> lanes_;
  std::uint64_t next_ticket_ = 1;
  std::map<std::uint64_t, std::shared_ptr<Asked>> asked_;
  PeerCounters counters_;
  TaskGroup tasks_;  // lanes that send
};

}  // namespace holdfast::daemon
