// One connection of a client: reads its requests, writes its answers.
//
// The client is not trusted: it says hello first, in time; it cannot make the daemon hold more than
// its queue allows (one that does not read is cut off); and the end of its connection says nothing
// about its process.
//
// Threads:   the io thread only.
// Ownership: owns the socket and the queue; queued answers keep the slots whose descriptors they
//            carry.  Shared by its reader, its writer and the server's table.
// Errors:    none to the caller: a failed session ends, and the core hears OnDisconnected.
// Lifecycle: construct -> Read and Write run as tasks, each until the session ends -> destroy.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <string>

#include <boost/asio/awaitable.hpp>

#include "common/result.h"
#include "common/units.h"
#include "daemon/async_event.h"
#include "daemon/core/ids.h"
#include "daemon/slot_store.h"
#include "proto/client.pb.h"
#include "transport/owned_fd.h"
#include "transport/peer_identity.h"
#include "transport/session_socket.h"

namespace holdfast::daemon {

inline constexpr std::uint32_t kProtocolVersion = 1;

// Begin, seal and their like of one session, without an answer: as many as a client ever has.
inline constexpr std::size_t kMaxSlotRequests = 256;

struct SessionLimits {
  std::chrono::milliseconds hello_timeout{10'000};
  std::chrono::milliseconds send_timeout{30'000};
  ByteCount queue_bytes = 128 * kMiB;
  std::size_t queue_messages = 4'096;
};

// An answer and what travels with it.
struct Outgoing {
  proto::ServerMessage message;
  // A descriptor of a slot, opened only when its turn has come: an open descriptor counts as a user
  // of the slot's file.
  SharedSlot slot;
  bool writable = false;
  std::shared_ptr<const transport::OwnedFd> file;  // or one that is open already
};

class Session : public std::enable_shared_from_this<Session> {
 public:
  // Called for each request after hello, in order; the next one is read when it has returned.
  using Handler =
      std::function<boost::asio::awaitable<void>(std::shared_ptr<Session>, proto::ClientMessage)>;

  Session(SessionId id,
          transport::SessionSocket::Socket socket,
          transport::PeerIdentity peer,
          const SessionLimits& limits);

  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Reads until the connection ends; "hello" answers the greeting's facts.  True if the client got
  // as far as a hello that fits: "connected" was called then.
  [[nodiscard]] boost::asio::awaitable<bool> Read(proto::HelloReply hello,
                                                  std::function<void()> connected,
                                                  Handler handler);

  // Sends what is queued until the session ends.
  [[nodiscard]] boost::asio::awaitable<void> Write();

  // Queues a message; a client that has let too much pile up is cut off instead.  Each request is
  // to be answered once: that is how they are counted.
  void Send(Outgoing outgoing);
  void SendError(RequestId request, const Error& error);

  // The writer ends the connection after what is queued has left.
  void CloseAfterQueue();

  // Ends the connection at once.
  void Abort(std::string_view why);

  [[nodiscard]] SessionId id() const { return id_; }

  [[nodiscard]] const transport::PeerIdentity& peer() const { return peer_; }

  [[nodiscard]] const std::string& program() const { return program_; }

  // Memory that the client holds by unfinished requests and answers that it does not read.
  [[nodiscard]] ByteCount BufferedBytes() const;

  // Of its request that is being received or checked.
  [[nodiscard]] ByteCount RequestBytes() const { return socket_.BufferedBytes() + checked_bytes_; }

  // The size of the request that is being checked before the core hears of it; 0: none is.
  void SetCheckedBytes(ByteCount bytes) { checked_bytes_ = bytes; }

  // The request just received is one that the slots of a rank bound, not those that are counted
  // below.  False above kMaxSlotRequests without an answer: no client of ours has that many.
  [[nodiscard]] bool CountWithSlots(RequestId request);

  // Requests that were received and have no answer yet.
  [[nodiscard]] std::size_t waiting_requests() const { return waiting_requests_; }

  [[nodiscard]] bool ended() const { return ended_; }

 private:
  [[nodiscard]] boost::asio::awaitable<Status> Greet(const proto::HelloReply& hello);
  [[nodiscard]] boost::asio::awaitable<Status> SendNow(const Outgoing& outgoing);

  const SessionId id_;
  transport::SessionSocket socket_;
  const transport::PeerIdentity peer_;
  const SessionLimits limits_;
  std::string program_;
  std::deque<Outgoing> queue_;
  ByteCount queued_bytes_ = 0;
  ByteCount checked_bytes_ = 0;
  std::size_t waiting_requests_ = 0;
  std::multiset<RequestId> slot_requests_;  // without an answer
  bool closing_ = false;                    // after the queue
  bool ended_ = false;
  AsyncEvent queued_;
};

}  // namespace holdfast::daemon
