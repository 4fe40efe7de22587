// Linear combinations of byte ranges over GF(2^8): what encoding and decoding both are.
//
// output[r][p] = sum over c of coefficient[r][c] * source[c][p], where a source that is shorter
// than p counts as 0 there.  Nothing is read or written beyond a range's end: where lengths differ,
// the work is cut at each of them and only the ranges that are still there take part.
//
// Threads:   a value; const functions from any thread.
// Ownership: owns coefficients and tables; borrows the ranges for the call.
// Errors:    kInvalidArgument, and then nothing was written.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/bytes.h"
#include "common/result.h"
#include "ec/matrix.h"

namespace holdfast::ec {

class Combination {
 public:
  // "coefficients" are rows of "columns" numbers each; at most kMaxParity rows and kMaxMembers
  // columns.
  Combination(Matrix coefficients, std::uint32_t columns);

  // Writes rows "first_row" and on, one for each output.  There is a source for each column.  An
  // output is at most as long as the longest source, and overlaps no source and no other output;
  // sources may overlap each other.  Any alignment is right; multiples of 32 are fastest.
  [[nodiscard]] Status Apply(std::uint32_t first_row,
                             std::span<const ByteView> sources,
                             std::span<const MutableByteView> outputs) const;

  // Adds coefficient[r][column] * source to output r, for all rows; no output is shorter than the
  // source, and none overlaps it or another output.
  [[nodiscard]] Status Add(std::uint32_t column,
                           ByteView source,
                           std::span<const MutableByteView> outputs) const;

 private:
  struct Piece;

  void ApplyPiece(const Piece& piece) const;
  void Multiply(const Piece& piece) const;

  std::size_t columns_;
  std::size_t rows_;
  Matrix coefficients_;
  std::vector<std::uint8_t> tables_;  // ISA-L's: 32 bytes for each coefficient, in the same order
};

}  // namespace holdfast::ec
