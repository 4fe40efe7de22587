// The matrix of the code, and the coefficients that give back what is lost.
//
// A stripe's n = k + m vectors are [ I ; C ] times its k segments, over GF(2^8) with ISA-L's
// polynomial x^8 + x^4 + x^3 + x^2 + 1 (0x11d).  C is a Cauchy matrix, 1 / (x_i + y_j) with
// x_i = 255 - i and y_j = j, of which every square submatrix is invertible (J. Bloemer et al., "An
// XOR-based erasure-resilient coding scheme", ICSI TR-95-048, 1995), so that any k of the n vectors
// give all others.  Scaling columns and rows by numbers that are not 0 keeps this and can make ones
// (J. Plank and L. Xu, "Optimizing Cauchy Reed-Solomon codes for fault-tolerant network storage
// applications", NCA 2006); here each column is divided by its entry in row 0, then each row by its
// entry in column 0:
//
//        | 1  1    1    1   ... |    row 0 is the XOR of the segments
//    C = | 1  c11  c12  c13 ... |    k = 1: every row is a copy (mirrors)
//        | 1  c21  c22  c23 ... |    c_ij does not depend on k or m: smaller codes are the corner
//
// Threads:   pure functions; any thread.
// Errors:    kInvalidArgument, kVersionMismatch (params.h).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/result.h"
#include "ec/params.h"

namespace holdfast::ec {

// Coefficients row by row.
using Matrix = std::vector<std::uint8_t>;

// C: code.parity rows of code.data coefficients.
[[nodiscard]] Result<Matrix> ParityMatrix(const CodeParams& code);

// One row of k coefficients for each of "wanted": what it is in terms of "sources".  Both hold
// indices of a stripe (params.h): exactly k different sources, and 1 to m different ones that are
// wanted and no sources.
[[nodiscard]] Result<Matrix> RecoveryMatrix(const CodeParams& code,
                                            std::span<const std::uint32_t> sources,
                                            std::span<const std::uint32_t> wanted);

}  // namespace holdfast::ec
