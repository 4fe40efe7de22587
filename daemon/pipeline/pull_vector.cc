#include "daemon/pipeline/pull_vector.h"

#include <string>
#include <utility>

#include "common/crc32c.h"
#include "common/failpoint.h"
#include "daemon/pipeline/windows.h"

namespace holdfast::daemon {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

namespace {

// A bit that flipped on the way is not in the maker's memory, which still has the window.
constexpr int kReads = 2;
constexpr std::chrono::milliseconds kAskAgain{50};
// A maker that does not hear that the vector was taken drops its taker, which is as good.
constexpr std::chrono::milliseconds kThanksLimit{2'000};

// The first window is asked for before the maker may have begun.
asio::awaitable<Result<FedWindow>> Ask(const FeedSource& source,
                                       std::uint64_t number,
                                       transport::Deadline deadline) {
  for (;;) {
    auto told = co_await source.calls->Next(number, deadline);
    const bool may_come = number == 0 && !told.has_value() && told.error().code == Errc::kNotFound;
    if (!may_come || Clock::now() + kAskAgain >= deadline) {
      co_return told;
    }
    HF_CO_TRYV(co_await SleepFor(kAskAgain));
  }
}

Status CheckTold(const FedWindow& told, const Windows& windows, std::uint64_t number) {
  if (told.offset != windows.Begin(number) || told.length != windows.Size(number) ||
      told.chunk_crc32c.size() != ChunkCount(told.length)) {
    return Error(Errc::kInvalidArgument,
                 "window " + std::to_string(number) + " was asked for, and " +
                     std::to_string(told.length) + " bytes at " + std::to_string(told.offset) +
                     " with " + std::to_string(told.chunk_crc32c.size()) + " digests were given");
  }
  return Ok();
}

asio::awaitable<Status> ReadWindow(WorkerPool* cpu,
                                   const FeedSource& source,
                                   const FedWindow& told,
                                   MutableByteView into,
                                   transport::ReadOptions options) {
  for (int reads = 0; reads < kReads; ++reads) {
    HF_CO_TRYV(co_await source.ring->Read(told.at, into, options));
    HF_CO_TRY(const auto bad, co_await FindBadChunks(cpu, into, told.chunk_crc32c));
    if (bad.empty()) {
      co_return Ok();
    }
    (void)source.ring->Doubt();  // where there is another way, the second read takes it
  }
  co_return Error(Errc::kCorruption,
                  "the window at byte " + std::to_string(told.offset) + " from " +
                      source.ring->Describe() + " does not match its digests");
}

// The digests of a window that are known before, in place of those that the maker told.
std::vector<std::uint32_t> Known(const std::vector<std::uint32_t>& expected,
                                 const FedWindow& window) {
  const auto first = expected.begin() + static_cast<std::ptrdiff_t>(window.offset / kChunkBytes);
  return {first, first + static_cast<std::ptrdiff_t>(window.chunk_crc32c.size())};
}

}  // namespace

asio::awaitable<Result<std::vector<std::uint32_t>>> PullVector(WorkerPool* cpu,
                                                               FeedSource source,
                                                               MutableByteView into,
                                                               std::vector<std::uint32_t> expected,
                                                               PullOptions options,
                                                               VerifiedBytes on_verified) {
  if (!expected.empty() && expected.size() != ChunkCount(into.size())) {
    co_return Error(Errc::kInvalidArgument, "the digests of a vector do not fit its length");
  }
  const Windows windows(into.size(), options.window_bytes);
  std::vector<std::uint32_t> digests;
  for (std::uint64_t number = 0; number < windows.Count(); ++number) {
    if (co_await Cancelled()) {
      co_return Error(Errc::kCancelled, "cancelled between two windows of a vector");
    }
    HF_CO_TRYV(co_await options.pacing.Turn(windows.Size(number)));
    HF_CO_TRYV(FailpointStatus("pull.before_window"));
    const auto limit = number == 0 ? options.first_limit : options.window_limit;
    HF_CO_TRY(FedWindow told, co_await Ask(source, number, Clock::now() + limit));
    HF_CO_TRYV(CheckTold(told, windows, number));
    if (!expected.empty()) {
      told.chunk_crc32c = Known(expected, told);
    }
    const MutableByteView place = into.subspan(told.offset, told.length);
    transport::ReadOptions read;
    read.deadline = Clock::now() + options.window_limit;
    read.depth = options.depth;
    HF_CO_TRYV(co_await ReadWindow(cpu, source, told, place, read));
    digests.insert(digests.end(), told.chunk_crc32c.begin(), told.chunk_crc32c.end());
    if (on_verified) {
      on_verified(told.offset + told.length);
    }
  }
  HF_CO_TRYV(FailpointStatus("pull.before_done"));
  // A courtesy: the vector is whole, whether the maker hears of it or not.
  (void)co_await source.calls->Next(windows.Count(), Clock::now() + kThanksLimit);
  co_return digests;
}

}  // namespace holdfast::daemon
