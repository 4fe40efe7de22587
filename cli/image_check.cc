#include "cli/image_check.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "cli/interrupt.h"
#include "common/crc32c.h"
#include "common/mutex.h"

namespace holdfast::cli {
namespace {

static_assert(kCheckBlockBytes % kChunkBytes == 0);

struct FreeAligned {
  void operator()(std::byte* memory) const { std::free(memory); }
};

using AlignedBlock = std::unique_ptr<std::byte, FreeAligned>;

Status CheckDigest(const ImageReader& reader, const proto::ImageDigest& digest) {
  const auto chunks = static_cast<std::uint64_t>(digest.chunk_crc32c_size());
  if (digest.chunk_bytes() != kChunkBytes || chunks != ChunkCount(digest.length_bytes())) {
    return Error(Errc::kCorruption,
                 reader.name() + ": " + std::to_string(chunks) + " digests of chunks of " +
                     std::to_string(digest.chunk_bytes()) + " bytes cannot be those of " +
                     std::to_string(digest.length_bytes()) + " bytes");
  }
  // A slot may be larger than its image, never smaller; the rest of it means nothing.
  if (reader.size() < digest.length_bytes()) {
    return Error(Errc::kCorruption,
                 reader.name() + ": has " + std::to_string(reader.size()) +
                     " bytes, its sidecar says " + std::to_string(digest.length_bytes()));
  }
  return Ok();
}

// One pass over an image by several threads.
class Pass {
 public:
  Pass(const ImageReader& reader,
       const proto::ImageDigest& digest,
       Progress* progress,
       const BlockSink& sink)
      : reader_(reader), digest_(digest), progress_(progress), sink_(sink) {}

  Result<std::vector<std::uint64_t>> Run() HF_EXCLUDES(mu_) {
    const ByteCount length = digest_.length_bytes();
    const ByteCount blocks = (length + kCheckBlockBytes - 1) / kCheckBlockBytes;
    const auto cores = std::max(1U, std::thread::hardware_concurrency());
    const auto wanted =
        static_cast<unsigned>(std::min<ByteCount>(blocks, std::min(kCheckThreads, cores)));
    {
      std::vector<std::jthread> threads;
      for (unsigned i = 0; i < wanted; ++i) {
        threads.emplace_back([this] { Work(); });
      }
    }
    const MutexLock lock(mu_);
    if (error_) {
      return *error_;
    }
    std::sort(bad_.begin(), bad_.end());
    return bad_;
  }

 private:
  void Work() HF_EXCLUDES(mu_) {
    const AlignedBlock memory(
        static_cast<std::byte*>(std::aligned_alloc(kDirectAlignment, kCheckBlockBytes)));
    if (memory == nullptr) {
      Fail(Error(Errc::kNoSpace, "no memory for a buffer of 8 MiB"));
      return;
    }
    const MutableByteView room(memory.get(), kCheckBlockBytes);
    while (!stop_.load()) {
      const ByteCount offset = next_.fetch_add(kCheckBlockBytes);
      if (offset >= digest_.length_bytes()) {
        return;
      }
      if (InterruptFlag()->load()) {
        Fail(Error(Errc::kCancelled, "interrupted"));
        return;
      }
      const ByteCount length = std::min(kCheckBlockBytes, digest_.length_bytes() - offset);
      if (const Status status = reader_.Read(offset, length, room); !status) {
        Fail(status.error());
        return;
      }
      Take(offset, room.first(length));
    }
  }

  void Take(ByteCount offset, ByteView block) HF_EXCLUDES(mu_) {
    std::vector<std::uint64_t> bad;
    for (ByteCount at = 0; at < block.size(); at += kChunkBytes) {
      const auto chunk = (offset + at) / kChunkBytes;
      const ByteView bytes = block.subspan(at, std::min<ByteCount>(kChunkBytes, block.size() - at));
      if (Crc32c(0, bytes) != digest_.chunk_crc32c(static_cast<int>(chunk))) {
        bad.push_back(chunk);
      }
    }
    if (progress_ != nullptr) {
      progress_->Add(block.size());
    }
    const MutexLock lock(mu_);
    bad_.insert(bad_.end(), bad.begin(), bad.end());
    if (sink_ == nullptr) {
      return;
    }
    if (!bad.empty()) {
      stop_ = true;
    } else if (!stop_.load()) {
      if (const Status status = sink_(offset, block); !status) {
        error_ = error_ ? error_ : status.error();
        stop_ = true;
      }
    }
  }

  void Fail(const Error& error) HF_EXCLUDES(mu_) {
    const MutexLock lock(mu_);
    error_ = error_ ? error_ : error;
    stop_ = true;
  }

  const ImageReader& reader_;
  const proto::ImageDigest& digest_;
  Progress* const progress_;
  const BlockSink& sink_;

  std::atomic<ByteCount> next_ = 0;
  std::atomic<bool> stop_ = false;
  Mutex mu_;
  std::vector<std::uint64_t> bad_ HF_GUARDED_BY(mu_);
  std::optional<Error> error_ HF_GUARDED_BY(mu_);
};

}  // namespace

Result<std::vector<std::uint64_t>> CheckImage(const ImageReader& reader,
                                              const proto::ImageDigest& digest,
                                              Progress* progress,
                                              const BlockSink& sink) {
  HF_TRYV(CheckDigest(reader, digest));
  Pass pass(reader, digest, progress, sink);
  return pass.Run();
}

}  // namespace holdfast::cli
