// This node's place on a fabric: lends memory to peers, and reads theirs, by one-sided reads.
//
//   HF_TRY(auto fabric, FabricEndpoint::OpenBlocking(executor, options));
//
//   HF_TRY(auto lent, fabric->LendBlocking(image));             the holder: as long as "lent" lives
//   ToProto(lent.region())                                      goes to peers over their connection
//
//   HF_TRY(auto reader, fabric->Reader(region, "node 0123"));   the reader
//   HF_CO_TRYV(co_await reader->Read(offset, into, options));
//
// Threads:   the io thread, but for what is named ...Blocking: a worker, or start-up; libfabric's
//            descriptions of cards are read, connections of the system opened, and memory pinned.
// Ownership: owns its thread; readers and targets borrow it.  Lent memory keeps what it needs.
// Errors:    kUnavailable: no libfabric, no provider of the list that has the address.
//            kInvalidArgument: an option, or a descriptor of another provider or kind of address.
// Lifecycle: OpenBlocking -> Lend, Prepare, Reader -> Stop (reads that run end with kCancelled)
//            -> destroy, before the io_context of its executor.
#pragma once

#include <map>
#include <memory>
#include <string>

#include <boost/asio/any_io_executor.hpp>

#include "common/bytes.h"
#include "common/result.h"
#include "transport/fabric_options.h"
#include "transport/fabric_region.h"
#include "transport/fabric_stats.h"
#include "transport/range_reader.h"

namespace holdfast::transport {

class FabricDomain;
class FabricThread;
class FabricTargets;

// Memory that peers with its region may read, and nothing else: not write, not beside it.
//
// When it is destroyed, no further read begins.  With providers that answer from software (tcp) one
// that has begun may go on sending from the memory for a moment: the reader's digests show it if
// the memory is used anew meanwhile, and memory that is unmapped only ends that connection.
//
// Threads:   destroyed on a worker where it is large: unpinning takes time.
// Ownership: borrows the memory, which stays mapped until it is destroyed, and for the reason above
//            until a Settle that comes after; pages must be there (FI_MR_ALLOCATED), as those of
//            slots are.
class FabricMemory {
 public:
  FabricMemory(FabricMemory&& other) noexcept;
  FabricMemory& operator=(FabricMemory&& other) noexcept;
  ~FabricMemory();

  [[nodiscard]] const FabricRegion& region() const { return region_; }

 private:
  friend class FabricEndpoint;
  struct Registration;

  FabricMemory(FabricRegion region, std::unique_ptr<Registration> registration);

  FabricRegion region_;
  std::unique_ptr<Registration> registration_;
};

// Memory that is often read into, registered once.  Memory that is none of these can be read into
// as well; with verbs each block then pays for its own registration.
//
// Threads:   made and destroyed on a worker.
// Ownership: borrows memory and endpoint; outlives the reads into it.
class FabricTarget {
 public:
  FabricTarget(FabricTarget&& other) noexcept;
  FabricTarget& operator=(FabricTarget&&) = delete;
  ~FabricTarget();

 private:
  friend class FabricEndpoint;

  FabricTarget(FabricTargets* targets, MutableByteView memory)
      : targets_(targets), memory_(memory) {}

  FabricTargets* targets_;
  MutableByteView memory_;
};

class FabricEndpoint {
 public:
  // What all reads from one peer share.  Public for its readers alone.
  struct Peer;

  [[nodiscard]] static Result<std::unique_ptr<FabricEndpoint>> OpenBlocking(
      boost::asio::any_io_executor executor, FabricOptions options);

  ~FabricEndpoint();

  FabricEndpoint(const FabricEndpoint&) = delete;
  FabricEndpoint& operator=(const FabricEndpoint&) = delete;

  [[nodiscard]] Result<FabricMemory> LendBlocking(ByteView memory) const;
  [[nodiscard]] Result<FabricTarget> PrepareBlocking(MutableByteView memory);

  // "peer": who lent it, for messages.  kInvalidArgument: it is not of this provider.
  // kUnavailable: max_peers are being read from.
  [[nodiscard]] Result<std::unique_ptr<RangeReader>> Reader(const FabricRegion& region,
                                                            const std::string& peer);

  [[nodiscard]] const std::string& provider() const;
  // Raw bytes, as in hello and regions.
  [[nodiscard]] const std::string& address() const;
  // "tcp;ofi_rxm at fi_sockaddr_in://10.0.0.7:41235 (eth0)": to be logged at start.
  [[nodiscard]] std::string Describe() const;

  [[nodiscard]] FabricStats stats() const;

  // Memory whose FabricMemory went some turns of the fabric's thread ago may be freed after it:
  // whatever that thread still sent of it is sent, unless a reader's connection stands still; that
  // connection ends.
  void Settle() const;

  void Stop();

 private:
  FabricEndpoint(boost::asio::any_io_executor executor,
                 FabricOptions options,
                 std::shared_ptr<FabricDomain> domain);

  const boost::asio::any_io_executor executor_;
  const FabricOptions options_;
  const std::shared_ptr<FabricDomain> domain_;
  FabricCounters counters_;
  std::unique_ptr<FabricTargets> targets_;
  std::unique_ptr<FabricThread> thread_;
  std::map<std::string, std::weak_ptr<Peer>> peers_;  // by address; at most max_peers
};

}  // namespace holdfast::transport
