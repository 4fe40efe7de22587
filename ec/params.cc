#include "ec/params.h"

#include <string>

namespace holdfast::ec {

Status ValidateCode(const CodeParams& code) {
  const std::uint64_t members = std::uint64_t{code.data} + code.parity;
  if (code.data == 0 || code.parity == 0 || code.parity > kMaxParity || members > kMaxMembers) {
    return Error(Errc::kInvalidArgument,
                 "a code of " + std::to_string(code.data) + "+" + std::to_string(code.parity) +
                     ": there must be 1 segment or more, 1 to " + std::to_string(kMaxParity) +
                     " parity rows, and at most " + std::to_string(kMaxMembers) + " together");
  }
  if (code.matrix_id != kScaledCauchy) {
    return Error(Errc::kVersionMismatch,
                 "code matrix " + std::to_string(code.matrix_id) +
                     " is not known here: this is a record of another version");
  }
  return Ok();
}

}  // namespace holdfast::ec
