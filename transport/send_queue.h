// What waits to be sent to one peer: frames in order, with a bound on their bytes that suspends who
// wants to add to them.
//
// Threads:   the io thread only.
// Ownership: owns the frames.
// Errors:    of Push: kTimeout, kCancelled, and after Close its error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>

#include "common/error.h"
#include "common/result.h"
#include "transport/admission.h"

namespace holdfast::transport {

class SendQueue {
 public:
  enum class Kind : std::uint8_t { kMessage, kSmall, kPing, kPong, kLast };

  struct Item {
    std::string frame;
    Kind kind = Kind::kMessage;
    std::uint64_t weight = 0;
  };

  SendQueue(const boost::asio::any_io_executor& executor, std::uint64_t capacity_bytes);

  SendQueue(const SendQueue&) = delete;
  SendQueue& operator=(const SendQueue&) = delete;

  // Waits for room until the deadline.  A frame above the capacity goes alone.
  [[nodiscard]] boost::asio::awaitable<Status> Push(std::string frame, Deadline deadline);

  // The same for a frame of about "bytes" that is made, and queued, in one go when there is room:
  // two that wait need not go on in the order in which they came, so that whoever numbers its
  // frames does it in "make".  Its error is Push's.
  using MakeFrame = std::function<Result<std::string>()>;
  [[nodiscard]] boost::asio::awaitable<Status> Push(std::uint64_t bytes,
                                                    Deadline deadline,
                                                    MakeFrame make);

  // Never waits: for messages of some bytes whose number the caller bounds (a cancel for each
  // request in flight; a ping or pong only while none is queued).
  void PushSmall(std::string frame, Kind kind);

  // Throws away what waits, queues the connection's last words, and takes nothing more.
  void PushLast(std::string frame, const Error& why);

  // The next one; nothing when the queue is closed (at once) or the waiter is cancelled.  One
  // waiter.
  [[nodiscard]] boost::asio::awaitable<std::optional<Item>> Pop();

  // What Pop gave is out: its bytes make room.
  void Sent(const Item& item) { room_.Release(item.weight); }

  // Throws away what waits and ends all waits.
  void Close(const Error& why);

  [[nodiscard]] bool Holds(Kind kind) const;

  // Takes nothing more; last words may still wait.
  [[nodiscard]] bool closed() const { return closed_; }

  // Bytes that wait or are being sent, with an overhead for each message.
  [[nodiscard]] std::uint64_t bytes() const { return room_.held(); }

  [[nodiscard]] std::size_t size() const { return items_.size(); }

  [[nodiscard]] std::size_t waiting() const { return room_.waiting(); }

 private:
  void Add(Item item);
  void DropAll();

  Admission room_;
  std::deque<Item> items_;
  boost::asio::steady_timer arrived_;
  bool closed_ = false;
};

}  // namespace holdfast::transport
