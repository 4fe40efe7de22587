// One connection between two daemons: requests in both directions at once, each with a deadline.
//
//   HF_CO_TRY(auto channel, co_await PeerChannel::Open(std::move(stream), &context, uuid));
//   tasks.Spawn(Serve(channel));     // co_await channel->Run() until it ends
//   HF_CO_TRY(auto reply, co_await channel->Call(std::move(request), std::chrono::seconds(5)));
//
// Back-pressure: a side has at most max_requests without answer, and its send queue holds at most
// queue_bytes; who wants more is suspended.  The reader never waits for the writer, so two sides
// that send at once cannot block each other.  A request counts until its answer has come, also one
// that its caller gave up.
//
// Threads:   the io thread only.
// Ownership: owns the stream; borrows the context.  Callers, tasks and the owner share it.
// Errors:    of Call: kTimeout (its deadline), kCancelled (its coroutine), kUnavailable (the
//            connection ended: the request may have been carried out), kCorruption (a reply that
//            does not fit), and what the peer answered.
// Lifecycle: Open -> Run once, as a task -> Call at any time, also before and after -> Close, or
// the
//            peer ends it -> Run returns when nothing of the channel runs any more -> destroy.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>

#include "common/result.h"
#include "common/task_group.h"
#include "proto/peer.pb.h"
#include "transport/admission.h"
#include "transport/frame.h"
#include "transport/peer_context.h"
#include "transport/peer_messages.h"
#include "transport/peer_stream.h"
#include "transport/send_queue.h"

namespace holdfast::transport {

class PeerChannel : public std::enable_shared_from_this<PeerChannel> {
  struct Private {};

 public:
  PeerChannel(Private, std::unique_ptr<PeerStream> stream, PeerContext* context);
  ~PeerChannel();

  PeerChannel(const PeerChannel&) = delete;
  PeerChannel& operator=(const PeerChannel&) = delete;

  // TLS and hellos, within hello_timeout.  "wanted_uuid": 16 bytes, or empty where anybody of the
  // cluster may come.  A failure was counted, the peer was told why, and the stream is closed.
  [[nodiscard]] static boost::asio::awaitable<Result<std::shared_ptr<PeerChannel>>> Open(
      std::unique_ptr<PeerStream> stream, PeerContext* context, std::string wanted_uuid);

  // Serves the connection until it ends, and says why it did.  When it is cancelled, it closes.
  [[nodiscard]] boost::asio::awaitable<Error> Run();

  // Request id and deadline are filled in here.  The limit counts the wait for a turn too.
  [[nodiscard]] boost::asio::awaitable<Result<proto::PeerReply>> Call(
      proto::PeerRequest request, std::chrono::milliseconds limit);

  // Ends the connection; every Call that waits ends with kUnavailable.  May be called again.
  void Close(const Error& why);

  [[nodiscard]] const std::shared_ptr<const PeerFacts>& facts() const { return facts_; }

  [[nodiscard]] bool ended() const { return why_.has_value(); }

  // False: it ended, or only its last words are sent any more, and every Call fails at once.
  [[nodiscard]] bool takes_calls() const { return !ended() && !queue_.closed(); }

  // For metrics and tests.  Zero once the connection ended and its callers have run.
  [[nodiscard]] std::size_t calls() const { return calls_.size(); }

  [[nodiscard]] std::size_t served() const { return served_.size(); }

  [[nodiscard]] std::uint64_t queued_bytes() const { return queue_.bytes(); }

  [[nodiscard]] std::size_t queued_messages() const { return queue_.size(); }

  [[nodiscard]] std::size_t buffered_bytes() const { return decoder_.CapacityBytes(); }

  // Of the last ping that was answered; 0 before.
  [[nodiscard]] std::chrono::microseconds round_trip() const { return round_trip_; }

 private:
  // A request of this side, until its answer has come.
  struct PendingCall {
    PendingCall(const boost::asio::any_io_executor& executor, Deadline deadline)
        : wake(executor, deadline) {}

    boost::asio::steady_timer wake;
    AskedFor asked;
    std::optional<Result<proto::PeerReply>> result;
  };

  // A request of the peer, until its answer is queued.
  struct Served {
    explicit Served(const boost::asio::any_io_executor& executor)
        : wake(executor, boost::asio::steady_timer::time_point::max()) {}

    boost::asio::steady_timer wake;  // cancelled when the peer cancels
    bool cancelled = false;
  };

  // peer_channel_open.cc
  [[nodiscard]] boost::asio::awaitable<Status> Greet(std::string wanted_uuid);
  [[nodiscard]] boost::asio::awaitable<Result<proto::PeerHello>> ExchangeHellos(
      const std::string& wanted_uuid);
  [[nodiscard]] Status Accept(const proto::PeerHello& hello,
                              const std::string& certified_uuid,
                              const std::string& wanted_uuid);

  // peer_channel_run.cc
  [[nodiscard]] boost::asio::awaitable<void> Read();
  [[nodiscard]] boost::asio::awaitable<void> Write();
  [[nodiscard]] boost::asio::awaitable<Status> WriteFrame(const std::string& frame);
  [[nodiscard]] boost::asio::awaitable<void> KeepAlive();
  void Dispatch(proto::PeerMessage message);
  void OnPing(std::uint64_t number);
  void OnPong(std::uint64_t number);
  // The peer broke the protocol: counted, told, and the end.
  void Violation(Refusal refusal, const Error& error);

  // peer_channel_serve.cc
  void OnRequest(proto::PeerRequest request);
  void OnReply(proto::PeerReply reply);
  void OnCancel(std::uint64_t id);
  [[nodiscard]] boost::asio::awaitable<void> Serve(proto::PeerRequest request,
                                                   std::shared_ptr<Served> served);
  [[nodiscard]] boost::asio::awaitable<Result<proto::PeerReply>> Answer(
      proto::PeerRequest request, std::shared_ptr<Served> served, Deadline deadline);
  [[nodiscard]] static boost::asio::awaitable<Status> WaitForCancel(std::shared_ptr<Served> served);
  [[nodiscard]] Status CheckStamp(const proto::PeerRequest& request);
  void SendCancel(std::uint64_t id);
  // Its place is free.
  void Forget(std::uint64_t id);
  [[nodiscard]] boost::asio::awaitable<Result<proto::PeerReply>> AwaitReply(
      std::uint64_t id, std::shared_ptr<PendingCall> call);

  // "node <uuid> at <address>": for messages.
  [[nodiscard]] std::string PeerName() const;

  // Constant after Open.
  const std::unique_ptr<PeerStream> stream_;
  PeerContext* const context_;
  std::shared_ptr<const PeerFacts> facts_;

  FrameDecoder decoder_;
  SendQueue queue_;
  std::optional<Error> why_;        // set: ended
  std::optional<Error> violation_;  // set: only last words are sent, nothing is read

  Admission slots_;  // requests of this side
  std::uint64_t next_id_ = 1;
  std::map<std::uint64_t, std::shared_ptr<PendingCall>> calls_;

  Admission read_room_;  // bytes of replies that are being made
  std::uint64_t last_served_ = 0;
  std::map<std::uint64_t, std::shared_ptr<Served>> served_;

  Deadline last_heard_;
  Deadline last_sent_;
  std::uint64_t ping_number_ = 0;
  Deadline ping_sent_;
  std::chrono::microseconds round_trip_{0};
  boost::asio::steady_timer writer_ended_;
  TaskGroup tasks_;
};

}  // namespace holdfast::transport
