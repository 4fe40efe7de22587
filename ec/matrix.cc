#include "ec/matrix.h"

#include <bitset>
#include <string>

#include <isa-l/erasure_code.h>

namespace holdfast::ec {
namespace {

constexpr std::uint32_t kHighestX = 255;
static_assert(kMaxMembers + kMaxParity <= 256, "x and y of the Cauchy matrix must differ");

std::uint8_t CauchyEntry(std::uint32_t row, std::uint32_t column) {
  return gf_inv(static_cast<std::uint8_t>((kHighestX - row) ^ column));
}

std::uint8_t Divide(std::uint8_t a, std::uint8_t b) {
  return gf_mul(a, gf_inv(b));
}

std::uint8_t ScaledEntry(std::uint32_t row, std::uint32_t column) {
  const std::uint8_t in_row = Divide(CauchyEntry(row, column), CauchyEntry(0, column));
  const std::uint8_t first = Divide(CauchyEntry(row, 0), CauchyEntry(0, 0));
  return Divide(in_row, first);
}

// Row "index" of [ I ; C ].
void AppendRow(const CodeParams& code, const Matrix& parity, std::uint32_t index, Matrix* rows) {
  for (std::uint32_t j = 0; j < code.data; ++j) {
    const std::uint8_t identity = index == j ? 1 : 0;
    rows->push_back(index < code.data ? identity
                                      : parity[std::size_t{index - code.data} * code.data + j]);
  }
}

Error Invalid(const std::string& message) {
  return {Errc::kInvalidArgument, message};
}

Status CheckIndices(const CodeParams& code,
                    std::span<const std::uint32_t> sources,
                    std::span<const std::uint32_t> wanted) {
  if (sources.size() != code.data) {
    return Invalid("decoding needs " + std::to_string(code.data) + " sources of a stripe, not " +
                   std::to_string(sources.size()));
  }
  if (wanted.empty() || wanted.size() > code.parity) {
    return Invalid(std::to_string(wanted.size()) + " vectors of a stripe are wanted: 1 to " +
                   std::to_string(code.parity) + " can be decoded");
  }
  std::bitset<kMaxMembers> seen;
  for (const auto& indices : {sources, wanted}) {
    for (const std::uint32_t index : indices) {
      if (index >= code.Members() || seen[index]) {
        return Invalid("index " + std::to_string(index) + " of a stripe of " +
                       std::to_string(code.Members()) +
                       (index < code.Members() ? " is named twice" : " does not exist"));
      }
      seen.set(index);
    }
  }
  return Ok();
}

}  // namespace

Result<Matrix> ParityMatrix(const CodeParams& code) {
  HF_TRYV(ValidateCode(code));
  Matrix matrix;
  matrix.reserve(std::size_t{code.parity} * code.data);
  for (std::uint32_t i = 0; i < code.parity; ++i) {
    for (std::uint32_t j = 0; j < code.data; ++j) {
      matrix.push_back(ScaledEntry(i, j));
    }
  }
  return matrix;
}

Result<Matrix> RecoveryMatrix(const CodeParams& code,
                              std::span<const std::uint32_t> sources,
                              std::span<const std::uint32_t> wanted) {
  HF_TRY(const Matrix parity, ParityMatrix(code));
  HF_TRYV(CheckIndices(code, sources, wanted));
  Matrix known;
  for (const std::uint32_t index : sources) {
    AppendRow(code, parity, index, &known);
  }
  Matrix inverse(known.size());
  if (gf_invert_matrix(known.data(), inverse.data(), static_cast<int>(code.data)) != 0) {
    return Error(Errc::kInternal, "the matrix of the code is not invertible");
  }
  Matrix target;
  for (const std::uint32_t index : wanted) {
    AppendRow(code, parity, index, &target);
  }
  Matrix result(target.size(), 0);
  const std::size_t k = code.data;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    for (std::size_t j = 0; j < k; ++j) {
      for (std::size_t t = 0; t < k; ++t) {
        result[i * k + j] ^= gf_mul(target[i * k + t], inverse[t * k + j]);
      }
    }
  }
  return result;
}

}  // namespace holdfast::ec
