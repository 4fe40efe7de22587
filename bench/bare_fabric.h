// The ceiling of reads over a fabric: libfabric alone, in the two ways in which its completion
// queue can be read: again and again without a pause, or asleep in fi_cq_sread while nothing is
// there.
//
// Threads:   one for each object.
// Ownership: borrows the memory.
// Errors:    kIoError with libfabric's words.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/bytes.h"
#include "common/result.h"

namespace holdfast::bench {

// What the reader must know of the lender.
struct BareRegion {
  std::string address;
  std::uint64_t key = 0;
  std::uint64_t base = 0;
};

class BareFabric {
 public:
  // Bound to "address" where the provider has addresses of IP.
  [[nodiscard]] static Result<std::unique_ptr<BareFabric>> Open(const std::string& provider,
                                                                const std::string& address,
                                                                bool sleeps);
  ~BareFabric();

  [[nodiscard]] Result<BareRegion> Lend(MutableByteView memory);

  // Progress for readers; returns never.
  [[noreturn]] void Serve();

  [[nodiscard]] Status Connect(const BareRegion& region);

  // All of "into", "block" bytes at a time with "depth" in flight.
  [[nodiscard]] Status Read(MutableByteView into, std::size_t block, std::size_t depth);

 private:
  struct Parts;

  explicit BareFabric(std::unique_ptr<Parts> parts);

  // Completions, up to 16; libfabric's code where there is none.
  [[nodiscard]] long TakeCompletions();

  std::unique_ptr<Parts> parts_;
};

}  // namespace holdfast::bench
