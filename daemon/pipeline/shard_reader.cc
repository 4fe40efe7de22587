#include "daemon/pipeline/shard_reader.h"

#include <algorithm>
#include <utility>

#include "common/crc32c.h"
#include "common/with_timeout.h"

namespace holdfast::daemon {

namespace asio = boost::asio;

namespace {

// One turn of a worker: a long range does not keep others from the pool.
constexpr ByteCount kPieceBytes = 32 * kChunkBytes;

std::vector<std::uint64_t> CompareChunks(ByteView bytes,
                                         const std::vector<std::uint32_t>& chunk_crc32c,
                                         std::uint64_t first_chunk) {
  std::vector<std::uint64_t> bad;
  for (ByteCount at = 0; at < bytes.size(); at += kChunkBytes) {
    const ByteView chunk = bytes.subspan(at, std::min<ByteCount>(kChunkBytes, bytes.size() - at));
    const std::uint64_t number = first_chunk + at / kChunkBytes;
    if (Crc32c(0, chunk) != chunk_crc32c[number]) {
      bad.push_back(number);
    }
  }
  return bad;
}

}  // namespace

DigestedBytes::DigestedBytes(std::string name,
                             ByteCount length,
                             std::vector<std::uint32_t> chunk_crc32c)
    : name_(std::move(name)), length_(length), chunk_crc32c_(std::move(chunk_crc32c)) {}

Result<SharedDigests> DigestedBytes::Make(std::string name,
                                          ByteCount length,
                                          std::vector<std::uint32_t> chunk_crc32c) {
  if (chunk_crc32c.size() != ChunkCount(length)) {
    return Error(Errc::kInvalidArgument,
                 name + ": " + std::to_string(chunk_crc32c.size()) + " digests for " +
                     std::to_string(length) + " bytes");
  }
  return SharedDigests(new DigestedBytes(std::move(name), length, std::move(chunk_crc32c)));
}

Result<SharedDigests> DigestedBytes::Of(std::string name, const proto::ImageDigest& image) {
  if (image.chunk_bytes() != kChunkBytes) {
    return Error(Errc::kInvalidArgument,
                 name + ": digests of " + std::to_string(image.chunk_bytes()) +
                     " bytes; this build knows those of " + std::to_string(kChunkBytes));
  }
  return Make(std::move(name),
              image.length_bytes(),
              {image.chunk_crc32c().begin(), image.chunk_crc32c().end()});
}

Result<std::vector<std::uint32_t>> DigestedBytes::ChunksOf(ByteCount offset,
                                                           ByteCount length) const {
  const bool within = offset <= length_ && length <= length_ - offset;
  const bool whole = offset % kChunkBytes == 0 &&
                     (length % kChunkBytes == 0 || (within && offset + length == length_));
  if (!within || !whole) {
    return Error(Errc::kInvalidArgument,
                 name_ + ": " + std::to_string(length) + " bytes from byte " +
                     std::to_string(offset) + " on are not whole chunks of its " +
                     std::to_string(length_));
  }
  const auto first = chunk_crc32c_.begin() + static_cast<std::ptrdiff_t>(offset / kChunkBytes);
  return std::vector<std::uint32_t>(first, first + static_cast<std::ptrdiff_t>(ChunkCount(length)));
}

asio::awaitable<Result<std::vector<std::uint64_t>>> FindBadChunks(
    WorkerPool* cpu, ByteView bytes, std::vector<std::uint32_t> chunk_crc32c) {
  const auto digests = std::make_shared<const std::vector<std::uint32_t>>(std::move(chunk_crc32c));
  std::vector<std::uint64_t> all;
  for (ByteCount at = 0; at < bytes.size(); at += kPieceBytes) {
    if (co_await Cancelled()) {
      co_return Error(Errc::kCancelled, "cancelled while digests were compared");
    }
    const ByteView part = bytes.subspan(at, std::min<ByteCount>(kPieceBytes, bytes.size() - at));
    auto compare =
        [part, digests, first = at / kChunkBytes]() -> Result<std::vector<std::uint64_t>> {
      return CompareChunks(part, *digests, first);
    };
    HF_CO_TRY(const auto bad, co_await Offload(*cpu, std::move(compare)));
    all.insert(all.end(), bad.begin(), bad.end());
  }
  co_return all;
}

ShardReader::ShardReader(WorkerPool* cpu, SharedDigests what) : cpu_(cpu), what_(std::move(what)) {}

asio::awaitable<Status> ShardReader::ReadRange(ByteCount offset,
                                               MutableByteView into,
                                               ShardReadOptions options,
                                               std::vector<std::uint64_t>* bad_chunks) {
  HF_CO_TRY(const auto digests, what_->ChunksOf(offset, into.size()));
  if (into.empty()) {
    co_return Ok();
  }
  std::vector<std::uint64_t> bad;
  do {
    Status read = co_await ReadBytes(offset, into, options);
    if (!read.has_value()) {
      co_return std::move(read).error().WithContext(what_->name());
    }
    HF_CO_TRY(bad, co_await FindBadChunks(cpu_, into, digests));
    if (bad.empty()) {
      co_return Ok();
    }
  } while (Doubt());
  for (std::uint64_t& chunk : bad) {
    chunk += offset / kChunkBytes;
  }
  Error error(Errc::kCorruption,
              what_->name() + ": chunk " + std::to_string(bad.front()) + " from " + Describe() +
                  " does not match its digest" +
                  (bad.size() == 1 ? std::string()
                                   : ", nor do " + std::to_string(bad.size() - 1) + " others"));
  if (bad_chunks != nullptr) {
    *bad_chunks = std::move(bad);
  }
  co_return error;
}

asio::awaitable<Status> ShardReader::ReadUnchecked(ByteCount offset,
                                                   MutableByteView into,
                                                   ShardReadOptions options) {
  HF_CO_TRYV(what_->ChunksOf(offset, into.size()));
  if (into.empty()) {
    co_return Ok();
  }
  Status read = co_await ReadBytes(offset, into, options);
  if (!read.has_value()) {
    co_return std::move(read).error().WithContext(what_->name());
  }
  co_return Ok();
}

}  // namespace holdfast::daemon
