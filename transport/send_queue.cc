#include "transport/send_queue.h"

#include <algorithm>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/with_timeout.h"

namespace holdfast::transport {

namespace asio = boost::asio;

namespace {

// What a queued message costs beside its bytes: it bounds their number too.
constexpr std::uint64_t kOverhead = 256;

// A bound for a wait that a notification ends.
constexpr std::chrono::seconds kIdleLimit{60};

}  // namespace

SendQueue::SendQueue(const asio::any_io_executor& executor, std::uint64_t capacity_bytes)
    : room_(executor, capacity_bytes), arrived_(executor) {}

asio::awaitable<Status> SendQueue::Push(std::string frame, Deadline deadline) {
  const std::uint64_t bytes = frame.size();
  auto make = [&frame]() -> Result<std::string> { return std::move(frame); };
  co_return co_await Push(bytes, deadline, make);
}

asio::awaitable<Status> SendQueue::Push(std::uint64_t bytes, Deadline deadline, MakeFrame make) {
  const std::uint64_t weight = bytes + kOverhead;
  HF_CO_TRYV(co_await room_.Acquire(weight, deadline));
  auto frame = closed_ ? Error(Errc::kUnavailable, "the connection ended meanwhile") : make();
  if (!frame.has_value()) {
    room_.Release(weight);
    co_return frame.error();
  }
  Item item;
  item.frame = std::move(frame).value();
  item.weight = weight;
  Add(std::move(item));
  co_return Ok();
}

void SendQueue::PushSmall(std::string frame, Kind kind) {
  if (closed_) {
    return;
  }
  Item item;
  item.frame = std::move(frame);
  item.kind = kind;
  Add(std::move(item));
}

void SendQueue::PushLast(std::string frame, const Error& why) {
  if (closed_) {
    return;
  }
  DropAll();
  PushSmall(std::move(frame), Kind::kLast);
  closed_ = true;
  room_.Close(why);
}

asio::awaitable<std::optional<SendQueue::Item>> SendQueue::Pop() {
  while (items_.empty()) {
    if (closed_ || co_await Cancelled()) {
      co_return std::nullopt;
    }
    arrived_.expires_after(kIdleLimit);
    (void)co_await arrived_.async_wait(asio::as_tuple(asio::use_awaitable));
  }
  Item item = std::move(items_.front());
  items_.pop_front();
  co_return item;
}

void SendQueue::Close(const Error& why) {
  closed_ = true;
  DropAll();
  room_.Close(why);
  arrived_.cancel();
}

bool SendQueue::Holds(Kind kind) const {
  return std::any_of(
      items_.begin(), items_.end(), [kind](const Item& item) { return item.kind == kind; });
}

void SendQueue::Add(Item item) {
  items_.push_back(std::move(item));
  arrived_.cancel();
}

void SendQueue::DropAll() {
  for (const Item& item : items_) {
    room_.Release(item.weight);
  }
  items_.clear();
}

}  // namespace holdfast::transport
