#include "ec/codec.h"

#include <algorithm>
#include <string>
#include <utility>

#include "ec/matrix.h"

namespace holdfast::ec {
namespace {

Status CheckRowLengths(std::span<const ByteView> segments, std::span<const MutableByteView> rows) {
  std::size_t longest = 0;
  for (const ByteView segment : segments) {
    longest = std::max(longest, segment.size());
  }
  for (const MutableByteView row : rows) {
    if (row.size() != longest) {
      return Error(Errc::kInvalidArgument,
                   "a parity row of " + std::to_string(row.size()) +
                       " bytes must be as long as the longest segment, " + std::to_string(longest));
    }
  }
  return Ok();
}

}  // namespace

Decoder::Decoder(Matrix coefficients,
                 std::span<const std::uint32_t> sources,
                 std::span<const std::uint32_t> wanted)
    : sources_(sources.begin(), sources.end()),
      wanted_(wanted.begin(), wanted.end()),
      combination_(std::move(coefficients), static_cast<std::uint32_t>(sources.size())) {}

Status Decoder::Decode(std::span<const ByteView> sources,
                       std::span<const MutableByteView> wanted) const {
  if (wanted.size() != wanted_.size()) {
    return Error(Errc::kInvalidArgument,
                 "a decoder of " + std::to_string(wanted_.size()) + " vectors was given " +
                     std::to_string(wanted.size()) + " outputs");
  }
  return combination_.Apply(0, sources, wanted);
}

Codec::Codec(const CodeParams& code, Matrix coefficients)
    : code_(code), combination_(std::move(coefficients), code.data) {}

Result<Codec> Codec::Make(const CodeParams& code) {
  HF_TRY(Matrix coefficients, ParityMatrix(code));
  return Codec(code, std::move(coefficients));
}

Status Codec::Encode(std::span<const ByteView> segments,
                     std::span<const MutableByteView> rows) const {
  if (rows.size() != code_.parity) {
    return Error(Errc::kInvalidArgument,
                 "a code of " + std::to_string(code_.parity) + " parity rows was given " +
                     std::to_string(rows.size()));
  }
  HF_TRYV(CheckRowLengths(segments, rows));
  return combination_.Apply(0, segments, rows);
}

Status Codec::EncodeRow(std::uint32_t row,
                        std::span<const ByteView> segments,
                        MutableByteView output) const {
  HF_TRYV(CheckRowLengths(segments, {&output, 1}));
  return combination_.Apply(row, segments, {&output, 1});
}

Status Codec::Add(std::uint32_t segment,
                  ByteView bytes,
                  std::span<const MutableByteView> rows) const {
  return combination_.Add(segment, bytes, rows);
}

Result<Decoder> Codec::MakeDecoder(std::span<const std::uint32_t> sources,
                                   std::span<const std::uint32_t> wanted) const {
  HF_TRY(Matrix coefficients, RecoveryMatrix(code_, sources, wanted));
  return Decoder(std::move(coefficients), sources, wanted);
}

}  // namespace holdfast::ec
