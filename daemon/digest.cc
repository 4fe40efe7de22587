#include "daemon/digest.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include <boost/asio/this_coro.hpp>

#include "common/crc32c.h"
#include "common/task_group.h"
#include "common/with_timeout.h"

namespace holdfast::daemon {
namespace {

namespace asio = boost::asio;
using storage_tiers::SlotFile;

constexpr std::uint64_t kChunksInPiece = 32;

// Shared by the lanes of one digest.  Lanes run on the io thread, pieces on workers; no two pieces
// share a digest.  Chunks are counted from the start of the part that is digested.
struct Work {
  Work(std::shared_ptr<SlotFile> s, ByteCount start, ByteCount length)
      : slot(std::move(s)),
        part(slot->view().subspan(start, length)),
        digests(ChunkCount(length)) {}

  const std::shared_ptr<SlotFile> slot;
  const ByteView part;
  std::vector<std::uint32_t> digests;
  std::uint64_t next_chunk = 0;
  std::optional<Error> error;
};

void DigestPiece(Work& work, std::uint64_t first_chunk, std::uint64_t end_chunk) {
  for (std::uint64_t chunk = first_chunk; chunk < end_chunk; ++chunk) {
    const ByteCount offset = chunk * kChunkBytes;
    const ByteCount size = std::min<ByteCount>(kChunkBytes, work.part.size() - offset);
    work.digests[chunk] = Crc32c(0, work.part.subspan(offset, size));
  }
}

asio::awaitable<void> Lane(WorkerPool& pool, std::shared_ptr<Work> work) {
  while (work->next_chunk < work->digests.size() && !work->error.has_value()) {
    if (co_await Cancelled()) {
      work->error = Error(Errc::kCancelled, "the digest of a slot was cancelled");
      break;
    }
    const std::uint64_t first = work->next_chunk;
    const std::uint64_t end = std::min<std::uint64_t>(first + kChunksInPiece, work->digests.size());
    work->next_chunk = end;
    auto piece = [work, first, end]() -> Status {
      DigestPiece(*work, first, end);
      return Ok();
    };
    const Status status = co_await Offload(pool, std::move(piece));
    if (!status.has_value()) {
      work->error = status.error();
    }
  }
}

asio::awaitable<Result<std::vector<std::uint32_t>>> DigestPart(WorkerPool& pool,
                                                               std::shared_ptr<SlotFile> slot,
                                                               ByteCount start,
                                                               ByteCount length) {
  if (start > slot->capacity() || length > slot->capacity() - start) {
    co_return Error(Errc::kInvalidArgument,
                    "slot " + slot->name().ToString() + " has " + std::to_string(slot->capacity()) +
                        " bytes, " + std::to_string(length) + " from byte " +
                        std::to_string(start) + " on were to be digested");
  }
  auto work = std::make_shared<Work>(std::move(slot), start, length);
  TaskGroup lanes(co_await asio::this_coro::executor, "digest", pool.size());
  while (lanes.size() < pool.size()) {
    (void)lanes.Spawn(Lane(pool, work));
  }
  co_await lanes.Finish();
  if (work->error.has_value()) {
    co_return *work->error;
  }
  // After reading: a cut before the last read has been seen by then.
  if (work->slot->poisoned()) {
    co_return Error(
        Errc::kCorruption,
        "slot " + work->slot->name().ToString() + ": the file behind it was cut while it was read");
  }
  co_return std::move(work->digests);
}

}  // namespace

asio::awaitable<Result<std::vector<std::uint32_t>>> DigestSlotBytes(WorkerPool& pool,
                                                                    std::shared_ptr<SlotFile> slot,
                                                                    ByteCount length) {
  return DigestPart(pool, std::move(slot), 0, length);
}

asio::awaitable<Result<std::vector<std::uint64_t>>> VerifySlotBytes(
    WorkerPool& pool,
    std::shared_ptr<SlotFile> slot,
    std::uint64_t first_chunk,
    ByteCount length,
    std::vector<std::uint32_t> expected) {
  if (expected.size() != ChunkCount(length)) {
    co_return Error(
        Errc::kInvalidArgument,
        std::to_string(expected.size()) + " digests for " + std::to_string(length) + " bytes");
  }
  const ByteCount start = first_chunk * kChunkBytes;
  HF_CO_TRY(const auto found, co_await DigestPart(pool, std::move(slot), start, length));
  std::vector<std::uint64_t> bad_chunks;
  for (std::uint64_t chunk = 0; chunk < expected.size(); ++chunk) {
    if (found[chunk] != expected[chunk]) {
      bad_chunks.push_back(first_chunk + chunk);
    }
  }
  co_return bad_chunks;
}

}  // namespace holdfast::daemon
