// The copy engines that this library was built with, behind one engine that takes the right one.
//
// Threads:   any.
// Ownership: callers own what is made.
// Errors:    see copy_engine.h: a layout with tensors on devices is refused by Adopt where nothing
//            can copy them, with the reason.
#pragma once

#include <cstdint>
#include <memory>

#include "client/copy_engine.h"
#include "client/load_sink.h"
#include "common/result.h"
#include "common/units.h"

namespace holdfast::client {

struct EngineOptions {
  std::uint32_t threads = 0;  // 0: one for host memory, as many as keep up for devices
  std::uint32_t verify_every = 0;
  double staging_share = 0.5;
  ByteCount most_gathered = 64 * kMiB;
};

[[nodiscard]] std::unique_ptr<CopyEngine> MakeCopyEngine(const EngineOptions& options);

// Threads for a restore to devices, during which nothing else runs.
[[nodiscard]] std::uint32_t DeviceLoadThreads();

// For a restore to devices by "threads" threads.
[[nodiscard]] Result<std::unique_ptr<LoadSink>> MakeDeviceSink(std::uint32_t threads);

}  // namespace holdfast::client
