#include "daemon/pipeline/stored_readers.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>
#include <vector>

#include <unistd.h>

#include "daemon/pipeline/windows.h"
#include "storage_tiers/file_system_transfer.h"

namespace holdfast::daemon {

namespace asio = boost::asio;
using std::chrono::milliseconds;

namespace {

constexpr ByteCount kCopyBytes = 16 * kMiB;  // one turn of a worker

Error TooShort(const DigestedBytes& what, const std::string& source, ByteCount length) {
  return Error(Errc::kInvalidArgument,
               what.name() + ": " + source + " has " + std::to_string(length) + " of its " +
                   std::to_string(what.length()) + " bytes");
}

asio::awaitable<Status> CopyOnWorker(WorkerPool& cpu, ByteView from, MutableByteView into) {
  auto copy = [from, into]() -> Status {
    std::memcpy(into.data(), from.data(), from.size());
    return Ok();
  };
  co_return co_await Offload(cpu, std::move(copy));
}

using Block = std::shared_ptr<const std::vector<std::byte>>;

Result<Block> ReadFileBlock(int file, ByteCount offset, ByteCount size) {
  std::vector<std::byte> bytes(size);
  const auto outcome =
      storage_tiers::TransferFully(size, [&](ByteCount done, ByteCount rest) -> std::int64_t {
        return ::pread(file, bytes.data() + done, rest, static_cast<off_t>(offset + done));
      });
  if (outcome.error_number != 0) {
    return ErrnoError(outcome.error_number, "read an image");
  }
  if (outcome.done < size) {
    return Error(Errc::kCorruption,
                 "the file ends at byte " + std::to_string(offset + outcome.done));
  }
  return std::make_shared<const std::vector<std::byte>>(std::move(bytes));
}

}  // namespace

SlotShardReader::SlotShardReader(WorkerPool* cpu,
                                 SharedDigests what,
                                 SharedSlot slot,
                                 ByteCount base)
    : ShardReader(cpu, std::move(what)), slot_(std::move(slot)), base_(base) {}

Result<std::shared_ptr<ShardReader>> SlotShardReader::Make(WorkerPool* cpu,
                                                           SharedDigests what,
                                                           SharedSlot slot,
                                                           ByteCount base) {
  const ByteCount there = slot->capacity() - std::min(slot->capacity(), base);
  if (there < what->length()) {
    return TooShort(*what, "slot " + slot->name().ToString(), there);
  }
  return std::shared_ptr<ShardReader>(
      new SlotShardReader(cpu, std::move(what), std::move(slot), base));
}

std::string SlotShardReader::Describe() const {
  return "slot " + slot_->name().ToString();
}

asio::awaitable<Status> SlotShardReader::ReadBytes(ByteCount offset,
                                                   MutableByteView into,
                                                   ShardReadOptions) {
  for (ByteCount at = 0; at < into.size(); at += kCopyBytes) {
    if (co_await Cancelled()) {
      co_return Error(Errc::kCancelled, "cancelled while a slot was copied");
    }
    const ByteCount size = std::min<ByteCount>(kCopyBytes, into.size() - at);
    HF_CO_TRYV(co_await CopyOnWorker(
        cpu(), slot_->view().subspan(base_ + offset + at, size), into.subspan(at, size)));
  }
  // After reading: a cut before the last read has been seen by then.
  if (slot_->poisoned()) {
    co_return Error(Errc::kCorruption, Describe() + ": the file behind it was cut");
  }
  co_return Ok();
}

PeerShardReader::PeerShardReader(WorkerPool* cpu,
                                 SharedDigests what,
                                 std::shared_ptr<transport::RangeReader> peer)
    : ShardReader(cpu, std::move(what)), peer_(std::move(peer)) {}

Result<std::shared_ptr<ShardReader>> PeerShardReader::Make(
    WorkerPool* cpu, SharedDigests what, std::shared_ptr<transport::RangeReader> peer) {
  if (peer->length() < what->length()) {
    return TooShort(*what, peer->Describe(), peer->length());
  }
  return std::shared_ptr<ShardReader>(new PeerShardReader(cpu, std::move(what), std::move(peer)));
}

asio::awaitable<Status> PeerShardReader::ReadBytes(ByteCount offset,
                                                   MutableByteView into,
                                                   ShardReadOptions options) {
  transport::ReadOptions read;
  read.deadline = options.deadline;
  read.depth = options.depth;
  co_return co_await peer_->Read(offset, into, read);
}

FileShardReader::FileShardReader(WorkerPool* cpu,
                                 SharedDigests what,
                                 std::shared_ptr<Tier> tier,
                                 std::shared_ptr<const transport::OwnedFd> file)
    : ShardReader(cpu, std::move(what)), tier_(std::move(tier)), file_(std::move(file)) {}

asio::awaitable<Status> FileShardReader::ReadBytes(ByteCount offset,
                                                   MutableByteView into,
                                                   ShardReadOptions options) {
  const Windows blocks(into.size(), tier_->options().image.block_bytes);
  auto step = [&](std::uint64_t number) {
    const ByteCount at = blocks.Begin(number);
    return ReadBlock(offset + at, into.subspan(at, blocks.Size(number)), options.deadline);
  };
  co_return co_await ForEachWindow(blocks.Count(), options.depth, step);
}

asio::awaitable<Status> FileShardReader::ReadBlock(ByteCount offset,
                                                   MutableByteView into,
                                                   transport::Deadline deadline) {
  const auto left = std::chrono::floor<milliseconds>(deadline - std::chrono::steady_clock::now());
  if (left.count() <= 0) {
    co_return Error(Errc::kTimeout, Describe() + ": the deadline was over before the read began");
  }
  auto read = [file = file_, offset, size = into.size()](TierFiles&) {
    return ReadFileBlock(file->Get(), offset, size);
  };
  const auto limit = std::min(left, tier_->options().call_limit);
  HF_CO_TRY(const Block block, co_await tier_->Call("read a shard", limit, std::move(read)));
  co_return co_await CopyOnWorker(cpu(), *block, into);
}

}  // namespace holdfast::daemon
