// The one connection of a client to its daemon, which comes back by itself.
//
// A daemon may die, hang or be replaced while training goes on.  One thread connects, says hello,
// resumes the session, sends what waits, hands out what arrives, and starts again with a growing
// pause when the connection is lost, for as long as the client lives.  Requests outlive a
// connection: what was not answered is sent again after the resume, in the order in which it was
// submitted, so every request must be one that may arrive twice.
//
// Threads:   all functions by any thread.  The handler and the callbacks of requests run on the
//            connection's thread, without a lock of this class held; they may Submit and Cancel,
//            and must not wait.
// Ownership: owns socket and thread; the handler must outlive Stop().
// Errors:    a request ends with the daemon's error, kCancelled (Cancel, Stop), or the error that
// the
//            connection was retired with.  A lost connection is no error of a request.
// Lifecycle: construct -> Start -> any -> Stop -> destroy.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "client/fork_guard.h"
#include "common/mutex.h"
#include "common/result.h"
#include "proto/client.pb.h"
#include "transport/owned_fd.h"
#include "transport/unix_socket.h"

namespace holdfast::client {

struct Reply {
  proto::ServerMessage message;
  transport::OwnedFd fd;  // of messages that carry one
};

class ConnectionHandler {
 public:
  virtual ~ConnectionHandler() = default;

  // A daemon answered the hello.  What to resume with; nothing before the first registration.
  virtual std::optional<proto::ClientMessage> MakeResume() = 0;

  // Its answer.  An error drops the connection; the next one asks MakeResume again.
  virtual Status OnResumed(Result<Reply> reply) = 0;

  // From now on requests are sent.
  virtual void OnConnected() = 0;

  // An event (request_id 0).  kCorruption drops the connection: the sides disagree.
  virtual Status OnEvent(Reply event) = 0;

  // Called once for each OnConnected.
  virtual void OnLost() = 0;

  // A newer incarnation exists; the connection retires AFTER this, and requests end with the error.
  virtual void OnFenced(const Error& error) = 0;
};

struct ConnectionOptions {
  std::string socket_path;
  std::string program = "trainer";                  // for the daemon's log
  std::chrono::milliseconds reply_timeout{10'000};  // of hello and resume, and of a blocked send
  std::chrono::milliseconds backoff_min{10};
  std::chrono::milliseconds backoff_max{1'000};
  // A daemon that has said nothing for the first time is asked, after the second it counts as gone.
  std::chrono::milliseconds ping_after{5'000};
  std::chrono::milliseconds lost_after{30'000};
};

class Connection {
 public:
  struct Request {
    // The message, without request_id; asked before each sending.  nullopt: answer no longer
    // needed.
    std::function<std::optional<proto::ClientMessage>()> make;
    // Exactly once.
    std::function<void(Result<Reply>)> on_reply;
    // Passed after each sending; nullptr: none.
    const char* failpoint_after_sent = nullptr;
    // Not sent sooner; requests that are due go before it.
    MonotonicTime not_before{};
  };

  // Requests that wait for an answer; far above what one session can have under way.
  static constexpr std::size_t kMaxRequests = 256;

  Connection(ConnectionOptions options, ConnectionHandler* handler, ForkGuard* guard);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // kIoError where the kernel has no thread or descriptor left.
  [[nodiscard]] Status Start();

  // Waits until requests are being sent.  Else what the last attempt failed with: at once for
  // kVersionMismatch and kPermission, which no repetition cures.
  [[nodiscard]] Status WaitConnected(MonotonicTime deadline);

  // Why the last attempt failed though somebody answers: what the daemon said to the hello or the
  // resume, or what of its messages cannot be followed.  nullopt while connected, and where nobody
  // answers.
  [[nodiscard]] std::optional<Error> Refusal();

  // A ticket for Cancel.  kUnavailable above kMaxRequests; the retirement's error after it.
  [[nodiscard]] Result<std::uint64_t> Submit(Request request);

  // Ends the request with kCancelled, if it has not ended; a late answer is dropped.
  void Cancel(std::uint64_t ticket);

  // Submits, waits for the answer, and cancels at the deadline (kTimeout).
  [[nodiscard]] Result<Reply> Call(const proto::ClientMessage& message, MonotonicTime deadline);

  // Drops the connection, if there is one: the next one resumes and sends again what waits.
  void Reset();

  // Ends connection and requests with "error" for good.
  void Retire(const Error& error);

  // Ends the thread; requests end with kCancelled.  Idempotent.
  void Stop();

 private:
  struct Pending {
    Request request;
    bool sent = false;  // on this connection
  };

  void Run();
  Status Serve();
  Status Handshake(transport::UnixSocket* socket);
  Status Resume(transport::UnixSocket* socket);
  Status Exchange(transport::UnixSocket* socket);
  Status SendWaiting(transport::UnixSocket* socket);
  Status SendOne(transport::UnixSocket* socket, std::uint64_t id, proto::ClientMessage message);
  Status WaitForNews(const transport::UnixSocket& socket);
  // Until a request that was put off is due; at most "longest".
  std::chrono::milliseconds UntilDue(std::chrono::milliseconds longest);
  Status ReceiveAll(transport::UnixSocket* socket);
  Status Dispatch(Reply reply);
  Status Heartbeat(transport::UnixSocket* socket);
  // Does not wait: kTimeout.  Within a section.
  Result<Reply> ReceiveOne(transport::UnixSocket* socket);
  void WatchArrived(const transport::UnixSocket& socket);
  // Receives until the answer to "id", handing out events on the way.
  Result<Reply> AwaitReply(transport::UnixSocket* socket, std::uint64_t id);
  Result<std::shared_ptr<transport::UnixSocket>> OpenSocket();
  void CloseSocket();
  void EndAll(const Error& error);
  void Wake();
  bool Ended();

  const ConnectionOptions options_;
  ConnectionHandler* const handler_;
  ForkGuard* const guard_;
  transport::OwnedFd wake_;  // eventfd: something was submitted, or the thread must end
  std::thread thread_;

  Mutex mutex_;
  CondVar changed_;
  // By ticket, which is also the request_id: rising, so the order of sending.
  std::map<std::uint64_t, std::shared_ptr<Pending>> pending_ HF_GUARDED_BY(mutex_);
  std::uint64_t next_id_ HF_GUARDED_BY(mutex_) = 1;
  std::shared_ptr<transport::UnixSocket> socket_ HF_GUARDED_BY(mutex_);
  bool connected_ HF_GUARDED_BY(mutex_) = false;
  bool stopping_ HF_GUARDED_BY(mutex_) = false;
  std::optional<Error> retired_ HF_GUARDED_BY(mutex_);
  std::optional<Error> last_error_ HF_GUARDED_BY(mutex_);
  std::optional<Error> refusal_ HF_GUARDED_BY(mutex_);

  // Of the connection's thread.
  bool refused_ = false;  // the attempt under way, in the daemon's own words
  MonotonicTime last_heard_{};
  bool ping_sent_ = false;
};

}  // namespace holdfast::client
