// Encodes and decodes the vectors of one stripe: k segments and m parity rows (stripe.h).
//
// The code works on each byte offset by itself, so every function takes any window of a stripe:
// give the same range of every vector, cut where a vector ends.  A segment that ends before or in
// the window is given by a shorter range, down to an empty one; the missing bytes count as zeros
// and are neither read nor sent.  Lost bytes are decoded in the same way: to have 1 MiB of a lost
// segment, give that MiB of k others.
//
//   window [a, b) of a stripe whose row has R bytes:      a         b
//     segment 0   ..........................................#########...   whole range
//     segment 1   ..............................................####       ends in the window
//     segment 2   ...........                                              empty range
//     row         ..........................................#########...   b <= R, always whole
//
// Threads:   values; const functions from any thread.
// Ownership: own their tables (32 bytes for each coefficient: 512 for 8+2), so keep them; borrow
// the
//            ranges for the call.
// Errors:    kInvalidArgument (counts, indices, lengths, overlapping ranges), and then nothing was
//            written; kVersionMismatch for an unknown matrix.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/bytes.h"
#include "common/result.h"
#include "ec/combination.h"
#include "ec/params.h"

namespace holdfast::ec {

// Makes vectors of a stripe out of k others, always the same ones.
class Decoder {
 public:
  // Indices as they were asked for.
  [[nodiscard]] const std::vector<std::uint32_t>& Sources() const { return sources_; }

  [[nodiscard]] const std::vector<std::uint32_t>& Wanted() const { return wanted_; }

  // One range for each of Sources() and one for each of Wanted(), in that order.  An output may be
  // shorter than the window (a lost segment that ends in it), never longer than the longest source:
  // there is always a source as long as the row.
  [[nodiscard]] Status Decode(std::span<const ByteView> sources,
                              std::span<const MutableByteView> wanted) const;

 private:
  friend class Codec;

  Decoder(Matrix coefficients,
          std::span<const std::uint32_t> sources,
          std::span<const std::uint32_t> wanted);

  std::vector<std::uint32_t> sources_;
  std::vector<std::uint32_t> wanted_;
  Combination combination_;
};

class Codec {
 public:
  [[nodiscard]] static Result<Codec> Make(const CodeParams& code);

  [[nodiscard]] const CodeParams& Code() const { return code_; }

  // All m rows of a window from its k segments.  Each row is as long as the longest segment.
  [[nodiscard]] Status Encode(std::span<const ByteView> segments,
                              std::span<const MutableByteView> rows) const;

  // The same for one row; row 0 is a plain XOR, which is faster than the others.
  [[nodiscard]] Status EncodeRow(std::uint32_t row,
                                 std::span<const ByteView> segments,
                                 MutableByteView output) const;

  // Adds one segment's part to all m rows, so that segments can be taken as they arrive, in any
  // order, and no more than one is held at a time: less memory, at half of Encode's speed.  Rows
  // must be zeros before the first; after all k they are what Encode gives.  A row may be longer
  // than the segment.  Adding the same segment again takes it out.
  [[nodiscard]] Status Add(std::uint32_t segment,
                           ByteView bytes,
                           std::span<const MutableByteView> rows) const;

  // "sources": k different indices; "wanted": 1 to m others.  Segments and rows alike.
  [[nodiscard]] Result<Decoder> MakeDecoder(std::span<const std::uint32_t> sources,
                                            std::span<const std::uint32_t> wanted) const;

 private:
  Codec(const CodeParams& code, Matrix coefficients);

  CodeParams code_;
  Combination combination_;
};

}  // namespace holdfast::ec
