// One snapshot on its way through the CUDA copy engine; private to copy_cuda*.cc.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "client/copy_cuda/copy_cuda.h"
#include "client/copy_cuda/frozen_flight.h"
#include "client/source_sample.h"
#include "common/crc32c.h"

namespace holdfast::client {

// The one of "streams" that is on "device", which is current from then on.  kInvalidArgument where
// there is none, or where it is being captured into a graph.
[[nodiscard]] Result<cudaStream_t> TrainerStream(std::span<const DeviceStream> streams,
                                                 std::int32_t device);

// On a thread of the engine: a query of ours must not break a graph that another thread captures
// meanwhile.
inline void LeaveCapturesAlone() {
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  static_cast<void>(cudaThreadExchangeStreamCaptureMode(&mode));
}

// The members after "guarded" belong to the engine's lock.  A flight is advanced by the copy thread
// alone; others look into it only after "landed_all" was set under the lock.
struct CudaCopyEngine::Running {
  Running(std::shared_ptr<CopyJob> j, JobDone d, SourceSample s)
      : job(std::move(j)),
        done(std::move(d)),
        sample(std::move(s)),
        chunks(ChunkCount(job->plan->ImageBytes())),
        ranges((chunks + kChunksPerRange - 1) / kChunksPerRange),
        began(SystemClock().Now()) {
    job->outcome = CopyOutcome();
    job->outcome.chunk_crc32c.resize(chunks);
  }

  // What a worker takes at a time.
  static constexpr std::uint64_t kChunksPerRange = 4;
  static constexpr ByteCount kHostPieceBytes = 4 * kMiB;

  [[nodiscard]] ByteCount RangeEnd(std::uint64_t range) const {
    return std::min((range + 1) * kChunksPerRange * kChunkBytes, job->plan->ImageBytes());
  }

  [[nodiscard]] bool HostPiecesLeft() const {
    return !failure.has_value() && next_host_piece < host_pieces.size();
  }

  // The sources in host memory are copied; whether they were left alone must be seen BEFORE the
  // fence opens.
  [[nodiscard]] bool HostCheckDue() const {
    return !failure.has_value() && !host_check_taken && next_host_piece == host_pieces.size() &&
           host_working == 0;
  }

  // How many of "threads" digest a snapshot whose copies still land.  Digests read as much memory
  // as the copies write: where several GPUs write at once, all threads take a seventh of the links'
  // rate away, which the update may wait for; a third of them takes a twentieth, and what they
  // leave is digested in less than 100 ms when all have landed (docs/benchmarks.md).
  [[nodiscard]] static std::uint32_t DigestersBesideCopies(std::uint32_t threads) {
    return std::max(1U, threads / 3);
  }

  [[nodiscard]] bool RangeReady(std::uint32_t threads) const {
    return !failure.has_value() && next_range < ranges && host_done &&
           RangeEnd(next_range) <= landed &&
           (landed_all || digesting < DigestersBesideCopies(threads));
  }

  // Nothing of it is left to be done but its end.
  [[nodiscard]] bool Finishable() const {
    return landed_all && working == 0 && !finishing && frozen_done &&
           (failure.has_value() || (host_done && next_range == ranges));
  }

  [[nodiscard]] bool FenceOpen() const {
    return released && host_working == 0 && frozen_read && (failure.has_value() || host_done);
  }

  const std::shared_ptr<CopyJob> job;
  const JobDone done;
  const SourceSample sample;  // of host tensors
  const std::uint64_t chunks;
  const std::uint64_t ranges;
  const MonotonicTime began;
  std::vector<TensorPiece> host_pieces;          // lazy tensors in host memory
  std::vector<std::unique_ptr<Flight>> flights;  // one a device
  std::vector<const Flight*> flight_of;          // by planned tensor; nullptr: host memory
  std::vector<std::unique_ptr<FrozenFlight>> frozen_flights;  // one a device with frozen tensors
  std::atomic<std::size_t> bad_tensor{kNone};  // that was written, or landed as something else
  static constexpr std::size_t kNone = ~std::size_t{0};

  // guarded
  bool hurry = false;       // its fence waits
  bool released = false;    // nothing reads its sources that the update could not wait for
  bool landed_all = false;  // nothing of it can land any more
  ByteCount landed = 0;     // the image's bytes before it are in the slot or in a room
  bool host_done = false;   // tensors in host memory: copied and checked
  bool host_check_taken = false;
  bool frozen_taken = true;  // by a worker; from the start where the job has no frozen part
  bool frozen_read = true;   // its sources are not read any more
  bool frozen_done = true;
  std::size_t next_host_piece = 0;
  std::size_t host_working = 0;
  std::uint64_t next_range = 0;
  std::uint32_t digesting = 0;  // workers on ranges
  std::size_t working = 0;      // workers on it, host pieces included
  bool finishing = false;
  bool ended = false;
  std::optional<std::string> failure;
  std::vector<HeldBack> held_back;
};

}  // namespace holdfast::client
