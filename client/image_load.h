// Copies tensors out of an image and checks every byte on the way (I5).
//
// A chunk is digested exactly once, however many tensors share it, in the order of its bytes: what
// is wanted is copied and digested in one pass, the rest of the chunk is digested only.  Chunks
// that hold nothing wanted are not read.
//
// Threads:   runs up to "threads" threads of its own, which end before it returns; more of them for
//            a file, where most of them wait for the disk at any time.
// Ownership: source and destinations are borrowed for the call.
// Errors:    kCorruption names the chunks (also in the report); the destinations hold rubbish then.
//            kInvalidArgument for pieces that leave the image, before anything is read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "client/device.h"
#include "client/image_source.h"
#include "client/load_sink.h"
#include "common/result.h"
#include "common/units.h"

namespace holdfast::client {

// Bytes of the image and where they go.  Pieces may be given in any order; two pieces may be the
// same bytes (tied tensors), but not overlap otherwise.
struct LoadPiece {
  ByteCount offset = 0;
  ByteCount length = 0;
  std::byte* destination = nullptr;  // not nullptr where length is not 0
  std::int32_t device = kHostDevice;
};

struct LoadReport {
  std::vector<std::uint64_t> bad_chunks;  // rising; bounded to the first few thousand
  std::uint64_t chunks_digested = 0;
};

// "digests" has one CRC32C for each chunk of the source.  The report is filled in also on failure.
// "sink" takes what goes to devices; nullptr where no piece does.  A device gets no byte of a chunk
// whose digest does not match.
[[nodiscard]] Status LoadPieces(const ImageSource& source,
                                std::span<const std::uint32_t> digests,
                                std::vector<LoadPiece> pieces,
                                std::uint32_t threads,
                                LoadSink* sink,
                                LoadReport* report);

}  // namespace holdfast::client
