// One read on its way through the completion thread.  For transport/fabric_* only.
//
// Threads:   constant members any; "home" ones on the io thread; the others on the completion
//            thread.  "given_up" is set on the io thread and read on the other.
// Ownership: shared by the waiting coroutine and the completion thread, which lets go of it before
//            it posts the result home: the timer is never touched there.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/steady_timer.hpp>

#include "common/bytes.h"
#include "common/result.h"
#include "transport/admission.h"
#include "transport/fabric_library.h"
#include "transport/fabric_region.h"

namespace holdfast::transport {

struct FabricRead {
  FabricRead(const boost::asio::any_io_executor& executor,
             std::shared_ptr<const FabricRegion> r,
             std::uint64_t offset,
             MutableByteView i,
             Deadline d,
             std::string p)
      : region(std::move(r)),
        remote(region->base + offset),
        into(i),
        deadline(d),
        peer(std::move(p)),
        home(executor),
        wake(executor, boost::asio::steady_timer::time_point::max()) {}

  // Constant.
  const std::shared_ptr<const FabricRegion> region;
  const std::uint64_t remote;  // the peer's address of the first byte
  const MutableByteView into;
  const Deadline deadline;
  const std::string peer;  // with provider, for messages

  std::atomic<bool> given_up{false};

  // The completion thread.
  fi_context2 context{};  // the provider's, while it has the read
  std::size_t tries = 0;
  Deadline not_before{};
  std::optional<Deadline> ends_by;  // of a read that was given up: then the connection is closed
  std::optional<Error> last_error;
  std::shared_ptr<fid_mr> local;  // what FI_MR_LOCAL wants, while the provider has the read

  // The io thread.
  boost::asio::executor_work_guard<boost::asio::any_io_executor> home;
  boost::asio::steady_timer wake;  // never expires: cancelled when the result is there
  std::optional<Status> result;
};

// Hands the result to the coroutine.  On the completion thread.
void Deliver(std::shared_ptr<FabricRead> read, Status result);

}  // namespace holdfast::transport
