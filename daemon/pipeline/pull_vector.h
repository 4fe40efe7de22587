// The taker's side of a feed: pulls one vector that another node makes (window_feed.h), window by
// window, straight to its place.
//
// What is told about a window (FeedCalls) and its bytes (RangeReader) come by different ways: the
// answer over the peers' connection has the digests, the bytes come over either data plane.
//
// Pulls are not limited in number, and must not be: they hold no memory but their place, and one
// that waits for its turn would make the feed of another node wait, which holds some.
//
// Threads:   the io thread only; digests on the cpu pool.
// Ownership: shares its source; borrows the pool, what "pacing" names, and "into", to which nothing
//            is written any more when it has returned.
// Errors:    kCorruption: a window does not match its digests, also when it was read again; names
//            the window.  kUnavailable: the maker gave up.  kNotFound: it does not lend (any more).
//            kTimeout, kCancelled, else the plane's.  "into" is then worth nothing beyond
//            what "on_verified" was told.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "daemon/pipeline/shard_reader.h"
#include "daemon/pipeline/traffic_priority.h"
#include "daemon/pipeline/window_feed.h"

namespace holdfast::daemon {

// Asks the maker of a vector.  In the daemon a request over the peers' connection.
class FeedCalls {
 public:
  FeedCalls() = default;
  FeedCalls(const FeedCalls&) = delete;
  FeedCalls& operator=(const FeedCalls&) = delete;
  virtual ~FeedCalls() = default;

  // WindowFeed::Next of the vector's lane.  Also kNotFound while the maker has not begun: asked
  // again then, until the deadline.
  [[nodiscard]] virtual boost::asio::awaitable<Result<FedWindow>> Next(
      std::uint64_t number, transport::Deadline deadline) = 0;

  // "node 0123": for messages.
  [[nodiscard]] virtual std::string Describe() const = 0;
};

struct FeedSource {
  std::shared_ptr<FeedCalls> calls;
  std::shared_ptr<transport::RangeReader> ring;  // the feed's memory
};

struct PullOptions {
  ByteCount window_bytes = 2 * kMiB;  // as the maker's
  // Until the maker has begun: it may have other stripes to make before.
  std::chrono::milliseconds first_limit{600'000};
  // Until a further window is there; and for the bytes of each.
  std::chrono::milliseconds window_limit{60'000};
  std::size_t depth = 2;  // blocks in flight
  Pacing pacing;
};

// Called with the bytes from the start that are verified and in their place.
using VerifiedBytes = std::function<void(ByteCount)>;

// "expected": what the bytes must be, where it is known before (a share of a shard: its sidecar),
// one digest for each chunk; empty: what the maker says of each window.  Gives the digests of all
// chunks, each of which was compared.
[[nodiscard]] boost::asio::awaitable<Result<std::vector<std::uint32_t>>> PullVector(
    WorkerPool* cpu,
    FeedSource source,
    MutableByteView into,
    std::vector<std::uint32_t> expected,
    PullOptions options,
    VerifiedBytes on_verified = {});

}  // namespace holdfast::daemon
