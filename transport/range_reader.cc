#include "transport/range_reader.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include <boost/asio/this_coro.hpp>

#include "common/check.h"
#include "common/task_group.h"
#include "common/with_timeout.h"

namespace holdfast::transport {

namespace asio = boost::asio;

// Lives in Read's frame, which outlasts the tasks that share it.
struct RangeReader::Transfer {
  Transfer(ByteCount o, MutableByteView i, const ReadOptions& r) : offset(o), into(i), options(r) {}

  const ByteCount offset;
  const MutableByteView into;
  const ReadOptions options;
  ByteCount next = 0;  // of "into": the first byte that nobody has asked for
  Status outcome = Ok();
};

namespace {

// Nobody waits for a turn that comes after the deadline.
asio::awaitable<Status> WaitForBudget(BandwidthBudget* budget, ByteCount bytes, Deadline deadline) {
  const std::chrono::nanoseconds wait = budget->Take(bytes);
  if (wait.count() == 0) {
    co_return Ok();
  }
  if (wait > deadline - std::chrono::steady_clock::now()) {
    co_return Error(Errc::kTimeout, "the bandwidth budget has no bytes left before the deadline");
  }
  co_return co_await SleepFor(wait);
}

}  // namespace

asio::awaitable<Status> RangeReader::ReadNext(Transfer* transfer) {
  const ByteCount begin = transfer->next;
  const ByteCount size = std::min(block_bytes(), transfer->into.size() - begin);
  transfer->next += size;
  if (transfer->options.budget != nullptr) {
    Status paced =
        co_await WaitForBudget(transfer->options.budget, size, transfer->options.deadline);
    if (!paced) {
      co_return std::move(paced).error().WithContext(Describe());
    }
  }
  co_return co_await ReadBlock(
      transfer->offset + begin, transfer->into.subspan(begin, size), transfer->options.deadline);
}

asio::awaitable<void> RangeReader::ReadBlocks(Transfer* transfer) {
  while (transfer->outcome.has_value() && transfer->next < transfer->into.size()) {
    if (co_await Cancelled()) {
      transfer->outcome = Error(Errc::kCancelled, Describe() + ": cancelled between two blocks");
      break;
    }
    Status done = co_await ReadNext(transfer);
    if (!done.has_value() && transfer->outcome.has_value()) {
      transfer->outcome = std::move(done);
    }
  }
}

asio::awaitable<Status> RangeReader::Read(ByteCount offset,
                                          MutableByteView into,
                                          ReadOptions options) {
  if (offset > length() || into.size() > length() - offset) {
    co_return Error(Errc::kInvalidArgument,
                    Describe() + ": bytes " + std::to_string(offset) + " to " +
                        std::to_string(offset + into.size()) + " are not within the " +
                        std::to_string(length()) + " that may be read");
  }
  HOLDFAST_CHECK(options.depth > 0 && block_bytes() > 0);
  Transfer transfer(offset, into, options);
  const ByteCount blocks = (into.size() + block_bytes() - 1) / block_bytes();
  const std::size_t depth = std::min<ByteCount>(options.depth, blocks);
  if (depth <= 1) {
    co_await ReadBlocks(&transfer);
    co_return std::move(transfer.outcome);
  }
  TaskGroup tasks(co_await asio::this_coro::executor, "range_reader", depth);
  for (std::size_t i = 0; i < depth; ++i) {
    HOLDFAST_CHECK(tasks.Spawn(ReadBlocks(&transfer)));
  }
  co_await tasks.Finish();
  co_return std::move(transfer.outcome);
}

}  // namespace holdfast::transport
