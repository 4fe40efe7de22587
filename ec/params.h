// The size of a code: how many segments a stripe has, how many parity rows, by which matrix.
//
// Threads:   value types; any thread.
// Errors:    kInvalidArgument names the number and its bounds; kVersionMismatch for a matrix that
//            this build does not know.
#pragma once

#include <cstdint>

#include "common/result.h"

namespace holdfast::ec {

// Members of a group, so segments and rows of a stripe together.
inline constexpr std::uint32_t kMaxMembers = 64;
// Parity rows of a stripe.
inline constexpr std::uint32_t kMaxParity = 8;

// Matrix ids are part of the geometry record: 0 is none, so that a field that was never set is
// refused.  An id never gets another matrix.
inline constexpr std::uint32_t kScaledCauchy = 1;  // matrix.h

// Within a stripe, segments have the indices 0 to data - 1 and parity rows data to data + parity
// - 1.
struct CodeParams {
  std::uint32_t data = 0;    // k, segments of a stripe
  std::uint32_t parity = 0;  // m, parity rows of a stripe
  std::uint32_t matrix_id = kScaledCauchy;

  [[nodiscard]] std::uint32_t Members() const { return data + parity; }

  bool operator==(const CodeParams&) const = default;
};

// data from 1, parity from 1 to kMaxParity, both together at most kMaxMembers, a known matrix.
[[nodiscard]] Status ValidateCode(const CodeParams& code);

}  // namespace holdfast::ec
