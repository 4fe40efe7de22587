// A slot of the daemon's arena, mapped into this process to be filled.
//
// The slot is the daemon's memory and outlives this process.  The mapping is writable only while
// the slot is this client's to fill: a sealed image that a stray pointer of the trainer could still
// change would fail its digests when it is needed most (I2).  A forked child gets no mapping: a
// data-loader worker that outlives its trainer must not hold the slot.
//
// Threads:   Bytes() by any thread; SetWritable and Populate by one thread at a time, and never
//            while others copy.
// Ownership: owns the mapping, which ends with the object; shared by the slot table and the copy
//            under way, so that a revoked slot stays mapped until its last copy has ended.
// Errors:    kInvalidArgument where the descriptor is no file of that size, else the errno's code.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "common/bytes.h"
#include "common/result.h"
#include "common/units.h"
#include "transport/owned_fd.h"

namespace holdfast::client {

// That a device may read and write a mapping by itself.  Ends the right when it is destroyed.
class SlotPin {
 public:
  virtual ~SlotPin() = default;
};

class SlotMapping {
 public:
  ~SlotMapping();
  SlotMapping(const SlotMapping&) = delete;
  SlotMapping& operator=(const SlotMapping&) = delete;

  // Maps "bytes" of "fd", writable, not inherited by fork; the descriptor is closed.  The file must
  // be that long: a shorter one would kill the trainer with SIGBUS in the middle of a copy.
  [[nodiscard]] static Result<std::shared_ptr<SlotMapping>> Map(transport::OwnedFd fd,
                                                                ByteCount bytes);

  // The same, never writable: "fd" may be read-only.
  [[nodiscard]] static Result<std::shared_ptr<SlotMapping>> MapReadOnly(transport::OwnedFd fd,
                                                                        ByteCount bytes);

  // Makes the page tables, so that the first copy does not stop at every page.  The pages
  // themselves are there: the daemon made them.  Slow (0.1 s for some GiB): for a copy thread.
  [[nodiscard]] Status Populate();

  // Takes or gives back the right to write.
  [[nodiscard]] Status SetWritable(bool writable);

  // Keeps "pin" for as long as the mapping is there; nullptr: it could not be had.  Before the slot
  // counts as ready.
  void SetPin(std::unique_ptr<SlotPin> pin) {
    pin_ = std::move(pin);
    pin_tried_ = true;
  }

  [[nodiscard]] bool Pinned() const { return pin_ != nullptr; }

  // Whether a pin was ever asked for; while the slot is not being prepared.
  [[nodiscard]] bool PinTried() const { return pin_tried_; }

  [[nodiscard]] std::byte* Data() const { return data_; }

  [[nodiscard]] ByteCount Size() const { return bytes_; }

 private:
  [[nodiscard]] static Result<std::shared_ptr<SlotMapping>> MapAs(transport::OwnedFd fd,
                                                                  ByteCount bytes,
                                                                  int protection);

  SlotMapping(std::byte* data, ByteCount bytes) : data_(data), bytes_(bytes) {}

  std::byte* const data_;
  const ByteCount bytes_;
  std::unique_ptr<SlotPin> pin_;
  bool pin_tried_ = false;
};

}  // namespace holdfast::client
