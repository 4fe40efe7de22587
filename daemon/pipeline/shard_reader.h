// Reads bytes of a shard, wherever they are: the one primitive of protect, rebuild and restore.
//
// Whoever makes one says which bytes they must be, by length and chunk digests (the sidecar's, or a
// parity row's record).  Where they come from is the maker's business: a slot of this node or bytes
// that a peer lends or a file (stored_readers.h), or k others of the group (rebuild_reader.h). Rows
// of parity are read in the same way as images.
//
//   ShardReadOptions options;
//   options.deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
//   HF_CO_TRYV(co_await reader->ReadRange(4 * kMiB, into, options));
//
// What must never happen: a byte is used whose chunk digest does not match (I5).  So only whole
// chunks are read, into memory of the caller's own, and compared *there*, after the last write to
// it: what is in a slot may be changed by its client, what is on the wire by anything.
//
// Threads:   the io thread only; digests on the cpu pool.
// Ownership: borrows the pool; shares the digests; "into" is the caller's until ReadRange returns,
//            and nothing writes to it afterwards, however it ended.
// Errors:    kInvalidArgument: not whole chunks of these bytes; nothing was read.  kCorruption:
//            names source, shard and chunk; all chunks but "bad_chunks" are good.  kTimeout: the
//            deadline.  kCancelled.  Else the source's.  After any other error than kCorruption
//            nothing in "into" may be used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "common/bytes.h"
#include "common/offload.h"
#include "common/result.h"
#include "common/units.h"
#include "proto/manifest.pb.h"
#include "transport/range_reader.h"

namespace holdfast::daemon {

// Which bytes: an image of a shard, or a row of parity.
class DigestedBytes {
 public:
  // "name" for messages: "rank 3 of step 1200 of incarnation 7".  kInvalidArgument where there is
  // not one digest for each kChunkBytes of "length".
  [[nodiscard]] static Result<std::shared_ptr<const DigestedBytes>> Make(
      std::string name, ByteCount length, std::vector<std::uint32_t> chunk_crc32c);

  [[nodiscard]] static Result<std::shared_ptr<const DigestedBytes>> Of(
      std::string name, const proto::ImageDigest& image);

  [[nodiscard]] const std::string& name() const { return name_; }

  [[nodiscard]] ByteCount length() const { return length_; }

  [[nodiscard]] const std::vector<std::uint32_t>& chunk_crc32c() const { return chunk_crc32c_; }

  // The digests of [offset, offset + length): whole chunks of these bytes, else kInvalidArgument.
  [[nodiscard]] Result<std::vector<std::uint32_t>> ChunksOf(ByteCount offset,
                                                            ByteCount length) const;

 private:
  DigestedBytes(std::string name, ByteCount length, std::vector<std::uint32_t> chunk_crc32c);

  const std::string name_;
  const ByteCount length_;
  const std::vector<std::uint32_t> chunk_crc32c_;
};

using SharedDigests = std::shared_ptr<const DigestedBytes>;

struct ShardReadOptions {
  transport::Deadline deadline;  // of the whole read
  std::size_t depth = 4;         // blocks of one source in flight at once, from 1
};

class ShardReader {
 public:
  ShardReader(WorkerPool* cpu, SharedDigests what);
  virtual ~ShardReader() = default;

  ShardReader(const ShardReader&) = delete;
  ShardReader& operator=(const ShardReader&) = delete;

  [[nodiscard]] ByteCount length() const { return what_->length(); }

  [[nodiscard]] const SharedDigests& what() const { return what_; }

  // Where the bytes come from, for messages: "node 0123 over tcp;ofi_rxm".
  [[nodiscard]] virtual std::string Describe() const = 0;

  // Fills "into" with the bytes from "offset" on.  "offset" is a multiple of kChunkBytes, and so is
  // the end of the range unless it is the end of the bytes.  "bad_chunks" (may be null; counted
  // from the start of the bytes, ascending) is written after kCorruption.
  [[nodiscard]] boost::asio::awaitable<Status> ReadRange(
      ByteCount offset,
      MutableByteView into,
      ShardReadOptions options,
      std::vector<std::uint64_t>* bad_chunks = nullptr);

  // The same range without the comparison: for bytes that are passed on together with their
  // digests, to somebody who compares them before they are used (I5).
  [[nodiscard]] boost::asio::awaitable<Status> ReadUnchecked(ByteCount offset,
                                                             MutableByteView into,
                                                             ShardReadOptions options);

 protected:
  // The same unchecked; the range is within the bytes and not empty.
  [[nodiscard]] virtual boost::asio::awaitable<Status> ReadBytes(ByteCount offset,
                                                                 MutableByteView into,
                                                                 ShardReadOptions options) = 0;

  // The bytes do not match: whether to read once more (RangeReader::Doubt).
  [[nodiscard]] virtual bool Doubt() { return false; }

  [[nodiscard]] WorkerPool& cpu() const { return *cpu_; }

 private:
  WorkerPool* const cpu_;
  const SharedDigests what_;
};

// Compares "bytes", whole chunks, with one digest for each, on the pool; gives the numbers of those
// that do not match.  "bytes" stays the caller's until it returns.
[[nodiscard]] boost::asio::awaitable<Result<std::vector<std::uint64_t>>> FindBadChunks(
    WorkerPool* cpu, ByteView bytes, std::vector<std::uint32_t> chunk_crc32c);

}  // namespace holdfast::daemon
