// Shard readers of bytes that are stored somewhere as they are.
//
// Threads:   the io thread only; copies and digests on the cpu pool, files on their root's threads.
// Ownership: each shares what it reads from; borrows the pool.
// Errors:    of making: kInvalidArgument where the source is shorter than the bytes.  Of reading:
//            shard_reader.h.
#pragma once

#include <memory>
#include <string>

#include <boost/asio/awaitable.hpp>

#include "daemon/pipeline/shard_reader.h"
#include "daemon/slot_store.h"
#include "daemon/tier.h"
#include "transport/owned_fd.h"
#include "transport/range_reader.h"

namespace holdfast::daemon {

// Own arena: the bytes from "base" on of a slot.  The copy is what is checked: the client that
// filled the slot may still write to it.
class SlotShardReader final : public ShardReader {
 public:
  [[nodiscard]] static Result<std::shared_ptr<ShardReader>> Make(WorkerPool* cpu,
                                                                 SharedDigests what,
                                                                 SharedSlot slot,
                                                                 ByteCount base = 0);

  [[nodiscard]] std::string Describe() const override;

 protected:
  [[nodiscard]] boost::asio::awaitable<Status> ReadBytes(ByteCount offset,
                                                         MutableByteView into,
                                                         ShardReadOptions options) override;

 private:
  SlotShardReader(WorkerPool* cpu, SharedDigests what, SharedSlot slot, ByteCount base);

  const SharedSlot slot_;
  const ByteCount base_;
};

// Peer's arena, through either data plane.  The range reader lends exactly these bytes from its
// offset 0.
class PeerShardReader final : public ShardReader {
 public:
  [[nodiscard]] static Result<std::shared_ptr<ShardReader>> Make(
      WorkerPool* cpu, SharedDigests what, std::shared_ptr<transport::RangeReader> peer);

  [[nodiscard]] std::string Describe() const override { return peer_->Describe(); }

 protected:
  [[nodiscard]] bool Doubt() override { return peer_->Doubt(); }

  [[nodiscard]] boost::asio::awaitable<Status> ReadBytes(ByteCount offset,
                                                         MutableByteView into,
                                                         ShardReadOptions options) override;

 private:
  PeerShardReader(WorkerPool* cpu,
                  SharedDigests what,
                  std::shared_ptr<transport::RangeReader> peer);

  const std::shared_ptr<transport::RangeReader> peer_;
};

// A file of a persistent tier, as OpenShard opened it (open_shard.h).  A file system that hangs may
// write into a buffer long after the read was given up, so each block is read into memory of its
// own and copied: never into "into".  Blocks of one reader are depth * block_bytes of memory.
class FileShardReader final : public ShardReader {
 public:
  // "file" has exactly the length of the bytes: OpenShard has checked it.
  FileShardReader(WorkerPool* cpu,
                  SharedDigests what,
                  std::shared_ptr<Tier> tier,
                  std::shared_ptr<const transport::OwnedFd> file);

  [[nodiscard]] std::string Describe() const override { return "a file on " + tier_->root(); }

 protected:
  [[nodiscard]] boost::asio::awaitable<Status> ReadBytes(ByteCount offset,
                                                         MutableByteView into,
                                                         ShardReadOptions options) override;

 private:
  [[nodiscard]] boost::asio::awaitable<Status> ReadBlock(ByteCount offset,
                                                         MutableByteView into,
                                                         transport::Deadline deadline);

  const std::shared_ptr<Tier> tier_;
  const std::shared_ptr<const transport::OwnedFd> file_;
};

}  // namespace holdfast::daemon
