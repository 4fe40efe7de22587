// A slot's pages held in memory for a device's own reads and writes.
//
// Slots are files of the daemon's arena; registered once for each process they are as good a target
// as the runtime's own memory.  Registration is slow (about half a second for a GiB of new pages):
// never on the trainer's thread.
//
// Threads:   any.
// Ownership: the registration ends before the mapping does.
// Errors:    kNoSpace or kIoError: the memory lock limit, or a kernel that refuses; copies then go
//            through the runtime's own buffer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "client/slot_mapping.h"
#include "common/result.h"

namespace holdfast::client {

class SlotRegistration final : public SlotPin {
 public:
  ~SlotRegistration() override;

  // Every device of the process may use it; "device" is the one whose context is made for it.
  [[nodiscard]] static Result<std::unique_ptr<SlotPin>> Make(const SlotMapping& slot,
                                                             std::int32_t device);

 private:
  SlotRegistration(std::byte* data, std::int32_t device) : data_(data), device_(device) {}

  std::byte* const data_;
  const std::int32_t device_;
};

}  // namespace holdfast::client
