// Hands vectors that are being made to other nodes, window by window, in bounded memory.
//
// The first owner of a stripe makes m rows and keeps one; a survivor that decodes a share of a lost
// shard keeps none.  To keep whole vectors until they were fetched would cost (m - 1) * L beside
// the bill of the arena; so a vector exists here only as a ring of a few windows, and whoever takes
// it pulls at the pace at which it is made:
//
//   maker   Reserve(w) -> fill -> Publish(w)          w may be filled while earlier ones are taken
//   taker   Next(w) waits until w is published, and gives back all windows before w
//           then reads the bytes from the ring by either data plane, checks them, asks for w + 1
//           Next(Count()) gives back the last: this taker has the vector whole
//
//   ring of one lane, depth 4:   | w+4 | w+1 | w+2 | w+3 |      w+4 takes the place of w once
//                                   ^ being filled               every taker has asked for w+1
//
// Lanes are independent vectors of equal length with one taker each.  What must never happen: a
// window is written again that a taker still needs, or one taker that hangs stops the others.  So
// a lane that keeps the maker waiting for too long is dropped: its taker is refused from then on,
// and its vector has to be rebuilt later.  A read of it that is still under way may see bytes of a
// later window: the digests that came with the window show it.
//
// Threads:   the io thread only.
// Ownership: shared by the maker and by the handlers that answer takers (their waits hold it); owns
//            the ring.
// Errors:    of the taker's calls: kUnavailable (dropped), kNotFound (given back, over),
//            kInvalidArgument (no such lane, not the next window), kTimeout, kCancelled, or what
//            Fail gave.
// Lifecycle: make -> Reserve, Publish for every window -> Drain, or Fail at any time -> let go.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "common/bytes.h"
#include "common/offload.h"
#include "common/result.h"
#include "common/units.h"
#include "daemon/async_condition.h"
#include "daemon/pipeline/windows.h"
#include "transport/admission.h"

namespace holdfast::daemon {

struct FeedShape {
  Windows windows;        // of each vector
  std::size_t lanes = 0;  // vectors; 0: nobody takes anything
  std::size_t depth = 0;  // windows of a lane that are there at once, from 1

  // Of the ring; beside the arena's bill, and bounded by it (I9).
  [[nodiscard]] ByteCount MemoryBytes() const { return lanes * depth * windows.window(); }
};

// A window that a taker may read now.
struct FedWindow {
  ByteCount offset = 0;  // in the vector
  ByteCount length = 0;  // 0: the end
  ByteCount at = 0;      // in the ring: the offset for the range reader of the feed's memory
  std::vector<std::uint32_t> chunk_crc32c;  // of its chunks
};

class WindowFeed : public std::enable_shared_from_this<WindowFeed> {
 public:
  // "memory": MemoryBytes of the shape.
  // For a fabric it is lent as a whole until the feed is let go.
  [[nodiscard]] static std::shared_ptr<WindowFeed> Make(
      const boost::asio::any_io_executor& executor,
      const FeedShape& shape,
      std::vector<std::byte> memory);

  // The same with memory that is made on the pool, for the executor that it is called on.
  [[nodiscard]] static boost::asio::awaitable<Result<std::shared_ptr<WindowFeed>>> Allocate(
      WorkerPool* cpu, FeedShape shape);

  [[nodiscard]] const FeedShape& shape() const { return shape_; }

  [[nodiscard]] ByteView memory() const { return memory_; }

  // --- The maker

  // The place of window "number" in each lane, once the windows that were there are given back;
  // empty views for dropped lanes.  A lane that does not move for "taker_limit" is dropped.
  // kCancelled.
  [[nodiscard]] boost::asio::awaitable<Result<std::vector<MutableByteView>>> Reserve(
      std::uint64_t number, std::chrono::milliseconds taker_limit);

  // The window is filled; "chunk_crc32c" by lane.  Each reserved window once, in any order.
  void Publish(std::uint64_t number, std::vector<std::vector<std::uint32_t>> chunk_crc32c);

  // Waits until every lane has been taken whole or is dropped; same limit.  Then nothing is lent
  // any more.  kCancelled.
  [[nodiscard]] boost::asio::awaitable<Status> Drain(std::chrono::milliseconds taker_limit);

  // Takers get this from now on.  The first one stays.
  void Fail(const Error& why);

  // The lane's taker needs nothing: it has the vector from an earlier try.  It is refused from now
  // on.
  void Drop(std::size_t lane);

  // The taker has said that it has the whole vector, checked.
  [[nodiscard]] bool Taken(std::size_t lane) const;

  // --- The takers

  // "number" is the one after the last that was given, or that one again (an answer was lost); or
  // Count() at any time: the taker has the vector from elsewhere, and is not waited for any more.
  [[nodiscard]] boost::asio::awaitable<Result<FedWindow>> Next(std::size_t lane,
                                                               std::uint64_t number,
                                                               transport::Deadline deadline);

  // What a request over the peers' connection reads, with FedWindow::at.  Valid while the feed is
  // held.  kInvalidArgument outside of the ring.
  [[nodiscard]] Result<ByteView> Lent(ByteCount at, ByteCount length) const;

 private:
  struct Lane {
    std::uint64_t asked = 0;  // windows before this one are given back
    bool dropped = false;
    std::chrono::steady_clock::time_point moved_at;
  };

  struct Place {
    std::optional<std::uint64_t> published;                // which window is in it
    std::vector<std::vector<std::uint32_t>> chunk_crc32c;  // by lane
  };

  WindowFeed(const boost::asio::any_io_executor& executor,
             const FeedShape& shape,
             std::vector<std::byte> memory);

  [[nodiscard]] bool Published(std::uint64_t number) const;
  [[nodiscard]] ByteCount PlaceOf(std::size_t lane, std::uint64_t number) const;
  // Waits until every lane has asked for "number" or is dropped.
  [[nodiscard]] boost::asio::awaitable<Status> WaitForTakers(std::uint64_t number,
                                                             std::chrono::milliseconds limit);
  // The time at which the first of the lanes that are behind is to be dropped; drops those whose
  // time has come.  Nothing: none is behind.
  [[nodiscard]] std::optional<std::chrono::steady_clock::time_point> DropLate(
      std::uint64_t number,
      std::chrono::steady_clock::time_point waiting_since,
      std::chrono::milliseconds limit);
  [[nodiscard]] Status CheckTurn(std::size_t lane, std::uint64_t number) const;

  const FeedShape shape_;
  std::vector<std::byte> memory_;
  std::vector<Lane> lanes_;
  std::vector<Place> places_;  // by window modulo depth
  std::optional<Error> failed_;
  AsyncCondition changed_;
};

}  // namespace holdfast::daemon
