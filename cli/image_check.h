// Reads a whole image and compares every chunk with its digest (I5), in bounded memory.
//
// One pass serves verification (nobody keeps the bytes) and export (each good block is handed on):
// what is written to a file is exactly what was checked, never a second read of it.
//
// Threads:   runs kCheckThreads threads inside the call; "sink" is called by one at a time.
// Ownership: borrows everything for the call.
// Errors:    kCorruption where length or digests cannot be those of the image; kCancelled after
//            Ctrl-C; else what reading or the sink returned.  Bad chunks are a result, not an
//            error.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "cli/image_reader.h"
#include "cli/progress.h"
#include "common/bytes.h"
#include "common/result.h"
#include "proto/manifest.pb.h"

namespace holdfast::cli {

// Blocks in memory at a time, one a thread; a multiple of the digest chunk.
inline constexpr ByteCount kCheckBlockBytes = 8 * kMiB;
inline constexpr unsigned kCheckThreads = 4;

// Gets each block, in any order, if all of its chunks are good.
using BlockSink = std::function<Status(ByteCount offset, ByteView block)>;

// The numbers of the chunks that do not match, ascending.  With a sink the first bad chunk ends the
// work, since the copy is then worth nothing; without, all are looked at.  "progress" may be null.
[[nodiscard]] Result<std::vector<std::uint64_t>> CheckImage(const ImageReader& reader,
                                                            const proto::ImageDigest& digest,
                                                            Progress* progress,
                                                            const BlockSink& sink = nullptr);

}  // namespace holdfast::cli
