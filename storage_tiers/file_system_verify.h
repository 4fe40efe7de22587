// Image transfers that check every chunk against its digest on the way.
//
// I5: no byte is published or handed to a trainer whose chunk digest does not match.  Checking
// beside the transfer costs no second pass over memory: the block is in the cache anyway.
//
// Threads:   the calling worker thread.
// Ownership: borrows all arguments for the call; see FileSystem::ReadImage for the destination.
// Errors:    kCorruption with the chunks that do not match; kInvalidArgument where the number of
//            digests does not fit the length; else what the transfer returned.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/bytes.h"
#include "common/result.h"
#include "storage_tiers/file_system.h"

namespace holdfast::storage_tiers {

// Writes "image" under a name that must be free and syncs it.  Each chunk is checked before it is
// submitted; the first mismatch ends the transfer, and the file, which then holds a part of the
// image, must be unlinked by the caller as after any error.
[[nodiscard]] Status VerifyingWrite(FileSystem& fs,
                                    const std::string& path,
                                    ByteView image,
                                    std::span<const std::uint32_t> digests,
                                    const ImageIoOptions& options);

// Fills "destination".  Does not stop at a mismatch: all chunks are read, so that the bad ones
// alone can be fetched from another source.  *bad_chunks gets their numbers in ascending order;
// with any, the result is kCorruption, and the bytes of all other chunks are good.  After any other
// error nothing in the destination may be used.
[[nodiscard]] Status VerifyingRead(FileSystem& fs,
                                   const std::string& path,
                                   MutableByteView destination,
                                   std::span<const std::uint32_t> digests,
                                   const ImageIoOptions& options,
                                   std::vector<std::uint64_t>* bad_chunks);

}  // namespace holdfast::storage_tiers
