// Reads k vectors of a stripe, whichever of those that are there come first.
//
//   HedgedReads reads(executor, &piece, window, memory, options);
//   const bool enough = co_await reads.Run(read);     read(source, view): no coroutine itself
//   reads.sources(), reads.bytes()                    k of them, for the decoder
//
// The k that the plan prefers are read side by side.  One more is begun for each that fails, and
// for one that takes much longer than the others did, as long as there are spare ones; what is not
// needed any more is cancelled.  So a slow source costs what makes it stand out, and a slow
// network, where all take long, no second read.
//
// Threads:   the io thread only.
// Ownership: borrows the piece and "memory", k windows; owns the memory of spare reads.
// Errors:    none of its own: those that "read" gives are whatever it remembers of them.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "common/bytes.h"
#include "common/result.h"
#include "common/task_group.h"
#include "common/units.h"
#include "daemon/async_event.h"
#include "ec/recovery.h"

namespace holdfast::daemon {

struct HedgeOptions {
  std::chrono::milliseconds least{100};      // nothing counts as slow sooner
  std::chrono::milliseconds silence{1'000};  // the same while none has come yet
  int times = 3;                             // longer than the last of the others took: slow
};

class HedgedReads {
 public:
  using Read =
      std::function<boost::asio::awaitable<Status>(const ec::SourceRange&, MutableByteView)>;

  HedgedReads(const boost::asio::any_io_executor& executor,
              const ec::RebuildPiece* piece,
              ByteCount window,
              MutableByteView memory,
              const HedgeOptions& options);

  // Whether k are there.  No read runs any more when it returns (I12).
  [[nodiscard]] boost::asio::awaitable<bool> Run(Read read);

  // Of the k that Run found, by rising index; those of length 0 were known to be zeros and have no
  // bytes.
  [[nodiscard]] const std::vector<ec::SourceRange>& sources() const { return sources_; }

  [[nodiscard]] const std::vector<ByteView>& bytes() const { return bytes_; }

  // Positions of those that another was begun for because they took so long, whoever was first
  // then.
  [[nodiscard]] std::vector<std::uint32_t> slow() const;

 private:
  using Time = std::chrono::steady_clock::time_point;

  struct Entry {
    ec::SourceRange source;
    MutableByteView view;
    bool waits = false;
    bool good = false;
    bool late = false;
  };

  [[nodiscard]] boost::asio::awaitable<void> ReadOne(Entry* entry);
  [[nodiscard]] boost::asio::awaitable<void> Watch();
  void Begin(Entry* entry);
  void BeginForSlow();
  [[nodiscard]] Time SlowAt() const;
  void Choose();

  const ByteCount window_;
  const HedgeOptions options_;
  const std::size_t needed_;
  std::vector<Entry> entries_;  // the preferred ones, then the spare ones
  std::vector<std::unique_ptr<std::byte[]>> spare_memory_;
  TaskGroup tasks_;
  AsyncEvent changed_;
  Read read_;
  std::size_t next_ = 0;  // spare entry
  std::size_t good_ = 0;
  std::size_t waiting_ = 0;
  std::vector<ec::SourceRange> sources_;
  std::vector<ByteView> bytes_;
  Time began_;  // or the last time that one more was begun because of slowness
  std::chrono::nanoseconds last_good_{0};  // how long that took; 0: none came yet
};

}  // namespace holdfast::daemon
