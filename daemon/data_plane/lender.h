// What this node lends over its fabric: memory registered while peers read it, and no longer.
//
// Bytes are registered when a peer first asks for them, exactly those, for reading alone.  They are
// let go once they are stored here no more (their slot was freed, the feed has ended), or nobody
// has asked for a while.  Until the next look at them (LenderLimits::interval) a peer may read what
// has taken their place: its digests show it (I5).
//
// Threads:   the io thread only; registering and letting go on a worker, since pinning takes time.
// Ownership: borrows pool and fabric; shares the memory while it is lent, and for a moment more
//            (FabricMemory says why).
// Errors:    kNotFound: the bytes are not here (any more); kNoSpace: too many are lent; else what
//            registering says.
// Lifecycle: construct -> Watch runs -> Lend -> cancel Watch -> destroy, before the fabric.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "common/offload.h"
#include "common/result.h"
#include "daemon/async_condition.h"
#include "daemon/data_plane/stored_bytes.h"
#include "proto/peer.pb.h"
#include "transport/fabric_endpoint.h"

namespace holdfast::daemon {

struct LenderLimits {
  std::size_t lent = 256;  // at one time
  std::chrono::milliseconds idle{300'000};
  std::chrono::milliseconds interval{500};  // between two looks
};

class Lender {
 public:
  // Where the bytes of a name lie now; kNotFound.  The row of a feed does not count.
  using Find = std::function<Result<StoredBytesView>(const proto::StoredKey&)>;

  Lender(const boost::asio::any_io_executor& executor,
         WorkerPool* pool,
         const transport::FabricEndpoint* fabric,
         Find find,
         LenderLimits limits = {});

  Lender(const Lender&) = delete;
  Lender& operator=(const Lender&) = delete;

  // "limit": for memory that somebody else is registering already.
  [[nodiscard]] boost::asio::awaitable<Result<transport::FabricRegion>> Lend(
      proto::StoredKey key, std::chrono::milliseconds limit);

  // Lets go of what is to be let go, until it is cancelled.
  [[nodiscard]] boost::asio::awaitable<void> Watch();

  [[nodiscard]] std::size_t lent() const { return lent_.size(); }

 private:
  using Time = std::chrono::steady_clock::time_point;

  struct Lent {
    explicit Lent(const boost::asio::any_io_executor& executor) : made(executor) {}

    proto::StoredKey key;
    StoredBytesView stored;
    std::optional<transport::FabricMemory> memory;  // empty: being registered
    AsyncCondition made;
    Time asked;
  };

  using SharedLent = std::shared_ptr<Lent>;

  [[nodiscard]] boost::asio::awaitable<Result<transport::FabricRegion>> Register(SharedLent lent,
                                                                                 std::string name);
  [[nodiscard]] bool IsOver(const Lent& lent, Time now) const;

  const boost::asio::any_io_executor executor_;
  WorkerPool* const pool_;
  const transport::FabricEndpoint* const fabric_;
  const Find find_;
  const LenderLimits limits_;
  std::map<std::string, SharedLent> lent_;           // by name
  std::vector<SharedLent> replaced_;                 // by others of their name, since the last look
  std::vector<std::shared_ptr<const void>> let_go_;  // since the last look: reads may still run
};

}  // namespace holdfast::daemon
