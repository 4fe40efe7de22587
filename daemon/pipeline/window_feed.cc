#include "daemon/pipeline/window_feed.h"

#include <algorithm>
#include <string>
#include <utility>

#include "common/check.h"
#include "common/with_timeout.h"

namespace holdfast::daemon {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

std::shared_ptr<WindowFeed> WindowFeed::Make(const asio::any_io_executor& executor,
                                             const FeedShape& shape,
                                             std::vector<std::byte> memory) {
  return std::shared_ptr<WindowFeed>(new WindowFeed(executor, shape, std::move(memory)));
}

asio::awaitable<Result<std::shared_ptr<WindowFeed>>> WindowFeed::Allocate(WorkerPool* cpu,
                                                                          FeedShape shape) {
  auto allocate = [bytes = shape.MemoryBytes()]() -> Result<std::vector<std::byte>> {
    return std::vector<std::byte>(bytes);
  };
  HF_CO_TRY(auto memory, co_await Offload(*cpu, std::move(allocate)));
  co_return Make(co_await asio::this_coro::executor, shape, std::move(memory));
}

WindowFeed::WindowFeed(const asio::any_io_executor& executor,
                       const FeedShape& shape,
                       std::vector<std::byte> memory)
    : shape_(shape),
      memory_(std::move(memory)),
      lanes_(shape.lanes),
      places_(shape.depth),
      changed_(executor) {
  HOLDFAST_CHECK(shape.depth > 0 && memory_.size() == shape.MemoryBytes());
}

bool WindowFeed::Published(std::uint64_t number) const {
  return places_[number % shape_.depth].published == number;
}

ByteCount WindowFeed::PlaceOf(std::size_t lane, std::uint64_t number) const {
  return (lane * shape_.depth + number % shape_.depth) * shape_.windows.window();
}

std::optional<Clock::time_point> WindowFeed::DropLate(std::uint64_t number,
                                                      Clock::time_point waiting_since,
                                                      std::chrono::milliseconds limit) {
  std::optional<Clock::time_point> next;
  for (Lane& lane : lanes_) {
    if (lane.dropped || lane.asked >= number) {
      continue;
    }
    const auto until = std::max(lane.moved_at, waiting_since) + limit;
    if (until <= Clock::now()) {
      lane.dropped = true;
      changed_.NotifyAll();
    } else {
      next = std::min(next.value_or(until), until);
    }
  }
  return next;
}

void WindowFeed::Drop(std::size_t lane) {
  lanes_[lane].dropped = true;
  changed_.NotifyAll();
}

asio::awaitable<Status> WindowFeed::WaitForTakers(std::uint64_t number,
                                                  std::chrono::milliseconds limit) {
  const auto self = shared_from_this();
  const auto since = Clock::now();
  while (!failed_.has_value()) {
    const auto until = DropLate(number, since, limit);
    if (!until.has_value()) {
      co_return Ok();
    }
    if (co_await Cancelled()) {
      co_return Error(Errc::kCancelled, "cancelled while waiting for the takers of a vector");
    }
    co_await changed_.WaitUntil(*until);
  }
  co_return *failed_;
}

asio::awaitable<Result<std::vector<MutableByteView>>> WindowFeed::Reserve(
    std::uint64_t number, std::chrono::milliseconds taker_limit) {
  const auto self = shared_from_this();
  HOLDFAST_CHECK(number < shape_.windows.Count());
  if (number >= shape_.depth) {
    HF_CO_TRYV(co_await WaitForTakers(number - shape_.depth + 1, taker_limit));
  }
  std::vector<MutableByteView> views(lanes_.size());
  for (std::size_t lane = 0; lane < lanes_.size(); ++lane) {
    if (!lanes_[lane].dropped) {
      views[lane] =
          MutableByteView(memory_).subspan(PlaceOf(lane, number), shape_.windows.Size(number));
    }
  }
  co_return views;
}

void WindowFeed::Publish(std::uint64_t number,
                         std::vector<std::vector<std::uint32_t>> chunk_crc32c) {
  HOLDFAST_CHECK(chunk_crc32c.size() == lanes_.size());
  Place& place = places_[number % shape_.depth];
  place.published = number;
  place.chunk_crc32c = std::move(chunk_crc32c);
  changed_.NotifyAll();
}

asio::awaitable<Status> WindowFeed::Drain(std::chrono::milliseconds taker_limit) {
  const auto self = shared_from_this();
  const Status drained = co_await WaitForTakers(shape_.windows.Count(), taker_limit);
  Fail(Error(Errc::kNotFound, "this vector is not lent any more"));
  co_return drained;
}

void WindowFeed::Fail(const Error& why) {
  if (!failed_.has_value()) {
    failed_ = why;
  }
  changed_.NotifyAll();
}

bool WindowFeed::Taken(std::size_t lane) const {
  return !lanes_[lane].dropped && lanes_[lane].asked == shape_.windows.Count();
}

// A taker that skips a window would give back what it has not read, and at the end be counted as
// one that has its vector.
Status WindowFeed::CheckTurn(std::size_t lane, std::uint64_t number) const {
  if (lane >= lanes_.size() || number > shape_.windows.Count()) {
    return Error(Errc::kInvalidArgument,
                 "no window " + std::to_string(number) + " of vector " + std::to_string(lane));
  }
  const Lane& taker = lanes_[lane];
  if (taker.dropped) {
    return Error(Errc::kUnavailable, "the vector is not lent to this node any more: decode it");
  }
  if (number < taker.asked) {
    return Error(Errc::kNotFound, "window " + std::to_string(number) + " was given back");
  }
  const bool next = number == taker.asked + 1 && Published(taker.asked);
  if (number != taker.asked && !next) {
    return Error(Errc::kInvalidArgument,
                 "window " + std::to_string(number) + " is not the next one: that is " +
                     std::to_string(taker.asked));
  }
  return Ok();
}

asio::awaitable<Result<FedWindow>> WindowFeed::Next(std::size_t lane,
                                                    std::uint64_t number,
                                                    transport::Deadline deadline) {
  const auto self = shared_from_this();
  if (failed_.has_value()) {
    co_return *failed_;
  }
  if (number == 0 && lane < lanes_.size() && lanes_[lane].asked > 0) {
    Drop(lane);  // its taker began anew, as one whose daemon died, and the first windows are gone
  }
  const bool end = number == shape_.windows.Count();
  if (end && lane < lanes_.size() && lanes_[lane].asked + 1 < number) {
    Drop(lane);  // its taker has the vector from elsewhere
    co_return FedWindow{};
  }
  HF_CO_TRYV(CheckTurn(lane, number));
  if (number > lanes_[lane].asked) {
    lanes_[lane].asked = number;
    lanes_[lane].moved_at = Clock::now();
    changed_.NotifyAll();
  }
  FedWindow window;
  if (end) {
    co_return window;
  }
  while (!Published(number)) {
    if (failed_.has_value()) {
      co_return *failed_;
    }
    if (lanes_[lane].dropped || lanes_[lane].asked != number) {
      co_return Error(Errc::kNotFound,
                      "window " + std::to_string(number) + " is not lent any more");
    }
    if (co_await Cancelled()) {
      co_return Error(Errc::kCancelled, "cancelled while waiting for a window");
    }
    if (Clock::now() >= deadline) {
      co_return Error(Errc::kTimeout, "window " + std::to_string(number) + " is not there yet");
    }
    co_await changed_.WaitUntil(deadline);
  }
  window.offset = shape_.windows.Begin(number);
  window.length = shape_.windows.Size(number);
  window.at = PlaceOf(lane, number);
  window.chunk_crc32c = places_[number % shape_.depth].chunk_crc32c[lane];
  co_return window;
}

Result<ByteView> WindowFeed::Lent(ByteCount at, ByteCount length) const {
  if (at > memory_.size() || length > memory_.size() - at) {
    return Error(Errc::kInvalidArgument,
                 std::to_string(length) + " bytes at " + std::to_string(at) +
                     " are not within a ring of " + std::to_string(memory_.size()));
  }
  return ByteView(memory_).subspan(at, length);
}

}  // namespace holdfast::daemon
