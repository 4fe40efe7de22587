// Digests the bytes of a slot on the worker pool, in pieces and side by side.
//
// Pieces, because eight ranks may seal at the same time: each piece goes to the end of the pool's
// line, so that no rank waits for the whole of another's image; and a cancelled digest ends after
// one piece.
//
// Threads:   called on the io thread; the pieces run on workers.
// Ownership: keeps the slot mapped until the last piece has ended.
// Errors:    kInvalidArgument: more bytes than the slot has.  kCorruption: the file behind the
//            mapping was cut while it was read (the client did it).  kCancelled.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "common/offload.h"
#include "common/result.h"
#include "common/units.h"
#include "storage_tiers/slot_file.h"

namespace holdfast::daemon {

// CRC32C of each chunk of the first "length" bytes.
[[nodiscard]] boost::asio::awaitable<Result<std::vector<std::uint32_t>>> DigestSlotBytes(
    WorkerPool& pool, std::shared_ptr<storage_tiers::SlotFile> slot, ByteCount length);

// The numbers, counted from the start of the slot, of the chunks whose digest is not the expected
// one; empty: all is well (I5).  Reads "length" bytes from "first_chunk" on.  kInvalidArgument
// where "expected" is not one digest for each of these chunks.
[[nodiscard]] boost::asio::awaitable<Result<std::vector<std::uint64_t>>> VerifySlotBytes(
    WorkerPool& pool,
    std::shared_ptr<storage_tiers::SlotFile> slot,
    std::uint64_t first_chunk,
    ByteCount length,
    std::vector<std::uint32_t> expected);

}  // namespace holdfast::daemon
