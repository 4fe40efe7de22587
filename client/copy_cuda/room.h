// The device and host memory that one snapshot needs on one device beside its slot, and the work on
// it: gather the small tensors, sample the large ones, digest all.
//
// Threads:   Begin on the trainer's thread, the rest on the engine's copy thread; the host side is
//            read by any thread once the copies have landed.
// Ownership: owns its memory; the plan outlives it.
// Errors:    of the CUDA runtime, as Status.
// Lifecycle: Make -> { Begin -> ReadBack -> SampleAgain -> ReadBackSample } again and again; never
//            for two snapshots at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "client/copy_cuda/device_code.h"
#include "client/copy_cuda/host_buffer.h"
#include "client/copy_cuda/lane_plan.h"
#include "client/copy_cuda/runtime.h"
#include "client/source_view.h"

namespace holdfast::client {

class Room {
 public:
  // On the current device.
  [[nodiscard]] static Result<std::unique_ptr<Room>> Make(const LanePlan& plan);

  // Why its host side is not pinned, so that each copy of it waits for its stream; empty: it is.
  [[nodiscard]] const std::string& WhyUnpinned() const {
    return host_.Pinned() ? host_tables_.WhyNot() : host_.WhyNot();
  }

  // What a snapshot copies into its host side, where that is not pinned.
  [[nodiscard]] ByteCount UnpinnedBytes() const;

  // Gives "stream" the work that must see the state as it is now: gathering and the first sample,
  // and the digests where "sums".  Does not wait.
  [[nodiscard]] Status Begin(std::span<const SourceView> sources,
                             std::int64_t step,
                             bool sums,
                             cudaStream_t stream);

  // Copies what Begin made to the host.
  [[nodiscard]] Status ReadBack(cudaStream_t stream);

  // Reads the sample's places again, and copies them to the host.
  [[nodiscard]] Status SampleAgain(cudaStream_t stream);
  [[nodiscard]] Status ReadBackSample(cudaStream_t stream);

  // The rest is of the host side, after the copies have landed.

  // Bytes of a small tensor.
  [[nodiscard]] const std::byte* Small(ByteCount at) const { return host_.Data() + at; }

  // The digest of segment "index", if Begin was asked for it.
  [[nodiscard]] std::optional<std::uint64_t> Sum(std::size_t index) const;

  // The first tensor of which a sampled block changed between the two reads, or differs from what
  // landed in "slot".
  [[nodiscard]] std::optional<std::size_t> ChangedTensor(const std::byte* slot) const;

  // Every tensor, rising, of which a block as Begin read it differs from what "slot" holds.
  [[nodiscard]] std::vector<std::size_t> DifferingTensors(const std::byte* slot) const;

 private:
  explicit Room(const LanePlan& plan) : plan_(plan) {}

  [[nodiscard]] Status Allocate();
  void FillTables(std::span<const SourceView> sources);
  [[nodiscard]] Status GatherByCopies(std::span<const GatherItem> items, cudaStream_t stream);
  [[nodiscard]] Status UploadTable(const void* first, std::size_t bytes, cudaStream_t stream);
  [[nodiscard]] Status CopyToHost(ByteCount from, ByteCount to, cudaStream_t stream);
  [[nodiscard]] bool Sampled(std::size_t place) const;

  // Tables lie one behind the other: gather before, gather after (the copy thread's), sums.
  [[nodiscard]] std::span<GatherItem> BeforeItems() const;
  [[nodiscard]] std::span<GatherItem> AfterItems() const;
  [[nodiscard]] std::span<SumItem> SumItems() const;
  template <class Item>
  [[nodiscard]] const Item* OnDevice(std::span<Item> items) const;

  const LanePlan& plan_;
  const bool device_code_ = HasDeviceCode();
  DeviceMemory device_;
  HostBuffer host_;
  DeviceMemory device_tables_;
  HostBuffer host_tables_;
  std::int64_t step_ = 0;
  bool sums_ = false;
};

// The rooms of one plan, one for each snapshot that may be under way.
//
// Threads:   Take and Return under the engine's lock, Fill and Clear while no room is taken.
// Ownership: owns its rooms; the plan outlives them.
class RoomPool {
 public:
  // Makes "rooms" of them on the current device; there are none before.
  [[nodiscard]] Status Fill(const LanePlan& plan, std::size_t rooms);

  void Clear();

  // Why the memory of a room is not pinned; empty: all of it is.
  [[nodiscard]] std::string WhyUnpinned() const;

  [[nodiscard]] Room* Take();

  void Return(Room* room) { free_.push_back(room); }

 private:
  std::vector<std::unique_ptr<Room>> rooms_;
  std::vector<Room*> free_;
};

}  // namespace holdfast::client
