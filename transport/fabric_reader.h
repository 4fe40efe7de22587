// Reads over a fabric, as fabric_endpoint.h hands them out.  For transport/fabric_* only.
//
// Threads:   the io thread.
// Ownership: shares the peer's admission; borrows the completion thread.
// Errors:    range_reader.h.
#pragma once

#include <memory>
#include <string>

#include "transport/admission.h"
#include "transport/fabric_endpoint.h"
#include "transport/fabric_read.h"
#include "transport/fabric_thread.h"
#include "transport/range_reader.h"

namespace holdfast::transport {

struct FabricEndpoint::Peer {
  Peer(const boost::asio::any_io_executor& executor, std::size_t reads) : room(executor, reads) {}

  Admission room;  // reads that the completion thread has at once
};

class FabricReader final : public RangeReader {
 public:
  FabricReader(FabricThread* thread,
               const FabricOptions* options,
               ByteCount block,
               std::shared_ptr<FabricEndpoint::Peer> peer,
               FabricRegion region,
               std::string name);

  [[nodiscard]] ByteCount length() const override { return region_->length; }

  [[nodiscard]] std::string Describe() const override { return name_; }

 protected:
  [[nodiscard]] ByteCount block_bytes() const override { return block_; }

  [[nodiscard]] boost::asio::awaitable<Status> ReadBlock(ByteCount offset,
                                                         MutableByteView into,
                                                         Deadline deadline) override;

 private:
  [[nodiscard]] boost::asio::awaitable<Status> Await(std::shared_ptr<FabricRead> read);

  FabricThread* const thread_;
  const FabricOptions* const options_;
  const ByteCount block_;
  const std::shared_ptr<FabricEndpoint::Peer> peer_;
  const std::shared_ptr<const FabricRegion> region_;
  const std::string name_;
};

}  // namespace holdfast::transport
