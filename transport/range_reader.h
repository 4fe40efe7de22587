// Reads bytes of one image or parity row that another node holds: the seam between the pipeline and
// the data planes.
//
// A pipeline cannot tell the implementations apart but by their speed: one-sided reads over a
// fabric (fabric_endpoint.h), requests over the peers' connection (rpc_range_reader.h, data_plane =
// "tls"), and whichever of the two works (daemon/data_plane/plane_reader.h).
//
//   ReadOptions options;
//   options.deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
//   HF_CO_TRYV(co_await reader->Read(offset, into, options));
//
// What arrives is what the peer has there now, without a check: whoever uses the bytes compares
// their digests first (I5).
//
// Threads:   the io thread only.
// Ownership: a reader borrows its plane, which outlives it; "into" is the caller's, and stays valid
//            until Read returns.  When Read has returned, however it ended, nothing writes to
//            "into" any more: the buffer may be freed, reused or handed on at once.
// Errors:    kInvalidArgument (outside of the range, which nothing was asked for), kTimeout (the
//            deadline), kCancelled (the caller's coroutine, or the plane was stopped), kNotFound
//            (the peer does not lend these bytes any more), kUnavailable (the peer cannot be
//            reached, or reads wait in excess), and for the RPC what the peer answered.  Each names
//            peer and plane.  "into" then holds some of the bytes, or none.
// Lifecycle: made by its plane -> Read at any time, several at once -> destroy when none runs.
#pragma once

#include <cstddef>
#include <string>

#include <boost/asio/awaitable.hpp>

#include "common/bandwidth_budget.h"
#include "common/bytes.h"
#include "common/result.h"
#include "common/units.h"
#include "transport/admission.h"

namespace holdfast::transport {

struct ReadOptions {
  Deadline deadline;  // of the whole read
  // Bytes are taken from it before they are asked for; null: not paced.  Borrowed, as "into" is.
  BandwidthBudget* budget = nullptr;
  // Blocks of this read in flight at once, from 1; the plane's own bounds hold as well.
  std::size_t depth = 8;
};

class RangeReader {
 public:
  RangeReader() = default;
  virtual ~RangeReader() = default;

  RangeReader(const RangeReader&) = delete;
  RangeReader& operator=(const RangeReader&) = delete;

  // Bytes that may be read, from offset 0.
  [[nodiscard]] virtual ByteCount length() const = 0;

  // "node 0123… over tcp;ofi_rxm": for messages.
  [[nodiscard]] virtual std::string Describe() const = 0;

  // What was read does not match its digests.  Whether the same bytes are worth reading again: from
  // then on in a way in which their holder looks at them, too, and learns of rot.
  [[nodiscard]] virtual bool Doubt() { return false; }

  // Fills "into" with the bytes from "offset" on, in blocks of at most block_bytes().  The first
  // error ends it; blocks in flight are waited for.  A cancellation ends those too.
  [[nodiscard]] boost::asio::awaitable<Status> Read(ByteCount offset,
                                                    MutableByteView into,
                                                    ReadOptions options);

 protected:
  // At most 4 MiB.
  [[nodiscard]] virtual ByteCount block_bytes() const = 0;

  // The same for one block; offset and size fit.
  [[nodiscard]] virtual boost::asio::awaitable<Status> ReadBlock(ByteCount offset,
                                                                 MutableByteView into,
                                                                 Deadline deadline) = 0;

 private:
  struct Transfer;

  [[nodiscard]] boost::asio::awaitable<void> ReadBlocks(Transfer* transfer);
  [[nodiscard]] boost::asio::awaitable<Status> ReadNext(Transfer* transfer);
};

}  // namespace holdfast::transport
