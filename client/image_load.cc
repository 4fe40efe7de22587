#include "client/image_load.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "client/start_thread.h"
#include "client/stream_copy.h"
#include "common/crc32c.h"
#include "common/failpoint.h"
#include "common/mutex.h"

namespace holdfast::client {
namespace {

constexpr std::size_t kMaxBadChunks = 4096;
constexpr std::uint32_t kMaxThreads = 256;
// Reads of a file that are under way at a time: what a disk or a parallel file system needs to give
// all it has (the flush keeps as many).
constexpr std::uint32_t kFileReaders = 8;
// Chunks that a thread takes at a time: what it has for devices fits into one room.
constexpr std::size_t kChunksPerTurn = LoadSink::kRoomChunks;

// A chunk's room in "room" that starts where O_DIRECT can read to; empty where room is.
MutableByteView AlignedScratch(std::vector<std::byte>& room) {
  void* start = room.data();
  std::size_t bytes = room.size();
  if (std::align(ImageSource::kReadAlignment, kChunkBytes, start, bytes) == nullptr) {
    return {};
  }
  return MutableByteView(static_cast<std::byte*>(start), kChunkBytes);
}

// What the threads of one load share.
class Load {
 public:
  Load(const ImageSource& source,
       std::span<const std::uint32_t> digests,
       std::vector<LoadPiece> pieces,
       LoadSink* sink)
      : source_(source), digests_(digests), pieces_(std::move(pieces)), sink_(sink) {
    ListChunks();
  }

  void Run(std::uint32_t threads) {
    const auto useful = (chunks_.size() + kChunksPerTurn - 1) / kChunksPerTurn;
    const std::uint32_t least = source_.Mapped() ? 1 : kFileReaders;
    const auto helpers = std::min<std::size_t>(std::clamp(threads, least, kMaxThreads), useful);
    std::vector<std::thread> running;
    if (helpers > 1) {
      // Fewer do it too.
      static_cast<void>(StartThreads(
          helpers - 1, [this] { Work(); }, &running));
    }
    Work();
    for (std::thread& thread : running) {
      thread.join();
    }
  }

  Status Finish(LoadReport* report) {
    MutexLock lock(mutex_);
    std::sort(bad_chunks_.begin(), bad_chunks_.end());
    report->bad_chunks = bad_chunks_;
    report->chunks_digested = digested_.load(std::memory_order_relaxed);
    if (!bad_chunks_.empty()) {
      return Error(Errc::kCorruption,
                   std::to_string(bad_chunks_.size()) + " of " + std::to_string(digests_.size()) +
                       " chunks do not match their digests, the first at byte " +
                       std::to_string(bad_chunks_.front() * kChunkBytes) + " of the image");
    }
    if (failure_.has_value()) {
      return *failure_;
    }
    return Ok();
  }

 private:
  // The chunks that hold something wanted, each once.
  void ListChunks() {
    for (const LoadPiece& piece : pieces_) {
      const std::uint64_t last = (piece.offset + piece.length - 1) / kChunkBytes;
      for (std::uint64_t chunk = piece.offset / kChunkBytes; chunk <= last; ++chunk) {
        if (chunks_.empty() || chunks_.back() < chunk) {
          chunks_.push_back(chunk);
        }
      }
    }
  }

  void Work() {
    std::vector<std::byte> room(source_.Mapped() ? 0 : kChunkBytes + ImageSource::kReadAlignment);
    const MutableByteView scratch = AlignedScratch(room);
    while (!stop_.load(std::memory_order_relaxed)) {
      const std::size_t first = next_.fetch_add(kChunksPerTurn, std::memory_order_relaxed);
      const std::size_t end = std::min(first + kChunksPerTurn, chunks_.size());
      if (first >= end) {
        break;
      }
      Waiting waiting;
      for (std::size_t i = first; i < end; ++i) {
        waiting.chunk_at = (i - first) * kChunkBytes;
        LoadOne(chunks_[i], scratch, &waiting);
      }
      Send(&waiting);
    }
    EndStreaming();
  }

  // What a turn has for devices: it waits in a room of the sink until its digests are known.
  struct Waiting {
    MutableByteView room;
    std::size_t chunk_at = 0;  // in the room, of the chunk at hand
    std::vector<LoadSink::Part> parts;
    std::vector<const LoadPiece*> pieces;  // that each part is of
  };

  void LoadOne(std::uint64_t chunk, MutableByteView scratch, Waiting* waiting) {
    const std::size_t before = waiting->parts.size();
    const auto crc = LoadChunk(chunk, scratch, waiting);
    if (!Settle(chunk, crc)) {
      waiting->parts.resize(before);
      waiting->pieces.resize(before);
    }
  }

  void Send(Waiting* waiting) {
    if (waiting->room.empty()) {
      return;
    }
    EndStreaming();  // a device reads the room next
    const Status sent = sink_->Send(waiting->room, Joined(*waiting));
    if (sent.has_error()) {
      Stop(sent.error());
    }
  }

  // A tensor's parts of several chunks become one copy.  Never those of two tensors: they may lie
  // side by side in two allocations, which no copy may span.
  static std::vector<LoadSink::Part> Joined(const Waiting& waiting) {
    std::vector<LoadSink::Part> joined;
    for (std::size_t i = 0; i < waiting.parts.size(); ++i) {
      const LoadSink::Part& part = waiting.parts[i];
      const bool same = i > 0 && waiting.pieces[i] == waiting.pieces[i - 1];
      if (same && joined.back().room_offset + joined.back().bytes == part.room_offset) {
        joined.back().bytes += part.bytes;
      } else {
        joined.push_back(part);
      }
    }
    return joined;
  }

  // Where a piece's bytes [at, at + size) are copied to.
  Result<std::byte*> Target(const LoadPiece& piece,
                            ByteCount at,
                            std::size_t size,
                            Waiting* waiting) {
    std::byte* const destination = piece.destination + (at - piece.offset);
    if (piece.device == kHostDevice) {
      return destination;
    }
    if (waiting->room.empty()) {
      HF_TRY(waiting->room, sink_->Borrow());
    }
    const std::size_t room_offset = waiting->chunk_at + static_cast<std::size_t>(at % kChunkBytes);
    waiting->parts.push_back(LoadSink::Part{room_offset, size, piece.device, destination});
    waiting->pieces.push_back(&piece);
    return waiting->room.data() + room_offset;
  }

  // The digest of the chunk's bytes as they were copied.
  Result<std::uint32_t> LoadChunk(std::uint64_t chunk, MutableByteView scratch, Waiting* waiting) {
    HF_TRYV(FailpointStatus("client.restore.chunk"));
    ByteCount at = chunk * kChunkBytes;
    const ByteCount end = std::min(at + kChunkBytes, source_.Size());
    HF_TRY(ByteView bytes, source_.Read(at, static_cast<std::size_t>(end - at), scratch));
    std::uint32_t crc = 0;
    auto piece = std::upper_bound(
        pieces_.begin(), pieces_.end(), at, [](ByteCount value, const LoadPiece& candidate) {
          return value < candidate.offset + candidate.length;
        });
    for (; piece != pieces_.end() && piece->offset < end; ++piece) {
      if (piece->offset > at) {
        const auto gap = static_cast<std::size_t>(piece->offset - at);
        crc = Crc32c(crc, bytes.first(gap));
        bytes = bytes.subspan(gap);
        at += gap;
      }
      const auto size = static_cast<std::size_t>(std::min(end, piece->offset + piece->length) - at);
      HF_TRY(std::byte* const target, Target(*piece, at, size, waiting));
      const bool near = piece->device != kHostDevice;  // a room is read by its device next
      crc = (near ? CopyNearAndDigest : CopyAndDigest)(crc, target, bytes.data(), size);
      bytes = bytes.subspan(size);
      at += size;
    }
    return Crc32c(crc, bytes);
  }

  // Whether the chunk is good.
  bool Settle(std::uint64_t chunk, const Result<std::uint32_t>& crc) {
    digested_.fetch_add(1, std::memory_order_relaxed);
    if (crc.has_value() && crc.value() == digests_[chunk]) {
      return true;
    }
    if (crc.has_error() && crc.error().code != Errc::kCorruption) {
      Stop(crc.error());
      return false;
    }
    MutexLock lock(mutex_);
    if (bad_chunks_.size() < kMaxBadChunks) {
      bad_chunks_.push_back(chunk);
    }
    return false;
  }

  void Stop(const Error& error) {
    MutexLock lock(mutex_);
    failure_ = error;
    stop_.store(true, std::memory_order_relaxed);
  }

  const ImageSource& source_;
  const std::span<const std::uint32_t> digests_;
  const std::vector<LoadPiece> pieces_;  // by offset, without overlap, none empty
  LoadSink* const sink_;
  std::vector<std::uint64_t> chunks_;
  std::atomic<std::size_t> next_{0};
  std::atomic<bool> stop_{false};
  std::atomic<std::uint64_t> digested_{0};
  Mutex mutex_;
  std::vector<std::uint64_t> bad_chunks_ HF_GUARDED_BY(mutex_);
  std::optional<Error> failure_ HF_GUARDED_BY(mutex_);
};

// Sorts "pieces", takes empty ones out, and moves those whose bytes an earlier piece has to
// "twins".
Status Arrange(ByteCount image_bytes,
               std::vector<LoadPiece>* pieces,
               std::vector<std::pair<LoadPiece, const std::byte*>>* twins) {
  for (const LoadPiece& piece : *pieces) {
    if (piece.length > image_bytes || piece.offset > image_bytes - piece.length ||
        (piece.length > 0 && piece.destination == nullptr)) {
      return Error(Errc::kInvalidArgument,
                   "a tensor of " + std::to_string(piece.length) + " bytes at " +
                       std::to_string(piece.offset) + " has no destination or is not in the image");
    }
  }
  std::erase_if(*pieces, [](const LoadPiece& piece) { return piece.length == 0; });
  std::stable_sort(pieces->begin(), pieces->end(), [](const LoadPiece& a, const LoadPiece& b) {
    return a.offset < b.offset;
  });
  std::vector<LoadPiece> single;
  single.reserve(pieces->size());
  for (const LoadPiece& piece : *pieces) {
    const bool overlaps =
        !single.empty() && piece.offset < single.back().offset + single.back().length;
    if (!overlaps) {
      single.push_back(piece);
    } else if (piece.offset == single.back().offset && piece.length == single.back().length) {
      twins->emplace_back(piece, single.back().destination);
    } else {
      return Error(Errc::kInvalidArgument, "two tensors to load share only a part of their bytes");
    }
  }
  *pieces = std::move(single);
  return Ok();
}

}  // namespace

Status LoadPieces(const ImageSource& source,
                  std::span<const std::uint32_t> digests,
                  std::vector<LoadPiece> pieces,
                  std::uint32_t threads,
                  LoadSink* sink,
                  LoadReport* report) {
  *report = LoadReport();
  if (digests.size() != ChunkCount(source.Size())) {
    return Error(Errc::kCorruption, "the sidecar's digests do not cover the image");
  }
  std::vector<std::pair<LoadPiece, const std::byte*>> twins;
  HF_TRYV(Arrange(source.Size(), &pieces, &twins));
  Load load(source, digests, std::move(pieces), sink);
  load.Run(threads);
  const Status arrived = sink == nullptr ? Ok() : sink->Finish();
  HF_TRYV(load.Finish(report));
  HF_TRYV(arrived);
  // From the first copy, whose bytes were checked, not from the image again.
  for (const auto& [twin, copied] : twins) {
    if (twin.destination == copied) {
      continue;
    }
    if (sink == nullptr) {
      std::memcpy(twin.destination, copied, twin.length);
    } else {
      HF_TRYV(sink->Duplicate(twin.destination, twin.device, copied, twin.length));
    }
  }
  return Ok();
}

}  // namespace holdfast::client
