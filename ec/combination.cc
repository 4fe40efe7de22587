#include "ec/combination.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include <isa-l/erasure_code.h>
#include <isa-l/raid.h>

#include "common/check.h"

namespace holdfast::ec {
namespace {

constexpr std::size_t kTableBytes = 32;
constexpr std::size_t kXorAlignment = 32;  // raid.h; some of its versions fault otherwise
// ISA-L takes lengths as int.
constexpr std::size_t kLongestCall = std::size_t{1} << 30;

Error Invalid(const std::string& message) {
  return {Errc::kInvalidArgument, message};
}

std::uintptr_t Address(const void* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer);
}

bool Overlap(ByteView a, ByteView b) {
  return !a.empty() && !b.empty() && Address(a.data()) < Address(b.data()) + b.size() &&
         Address(b.data()) < Address(a.data()) + a.size();
}

Status CheckDisjoint(std::span<const ByteView> sources, std::span<const MutableByteView> outputs) {
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const auto overlaps = [&](ByteView other) { return Overlap(outputs[i], other); };
    if (std::any_of(sources.begin(), sources.end(), overlaps) ||
        std::any_of(outputs.begin(), outputs.begin() + static_cast<std::ptrdiff_t>(i), overlaps)) {
      return Invalid("output " + std::to_string(i) + " of a code overlaps another range");
    }
  }
  return Ok();
}

// ISA-L's functions take what they only read without const.
unsigned char* Raw(const std::byte* pointer) {
  return reinterpret_cast<unsigned char*>(const_cast<std::byte*>(pointer));
}

}  // namespace

// Bytes for which all ranges that take part are there, so that they have one length.
struct Combination::Piece {
  std::size_t length = 0;
  std::size_t sources = 0;  // how many of the arrays' entries count
  std::size_t outputs = 0;
  std::array<std::uint32_t, kMaxMembers> columns{};
  std::array<std::uint32_t, kMaxParity> rows{};
  // The outputs follow the sources, as xor_gen wants them.
  std::array<unsigned char*, kMaxMembers + kMaxParity> vectors{};
};

Combination::Combination(Matrix coefficients, std::uint32_t columns)
    : columns_(columns),
      rows_(coefficients.size() / std::max(columns, 1u)),
      coefficients_(std::move(coefficients)),
      tables_(coefficients_.size() * kTableBytes) {
  HOLDFAST_CHECK(columns_ >= 1 && columns_ <= kMaxMembers && rows_ >= 1 && rows_ <= kMaxParity);
  HOLDFAST_CHECK(coefficients_.size() == columns_ * rows_);
  ec_init_tables(
      static_cast<int>(columns_), static_cast<int>(rows_), coefficients_.data(), tables_.data());
}

Status Combination::Apply(std::uint32_t first_row,
                          std::span<const ByteView> sources,
                          std::span<const MutableByteView> outputs) const {
  if (sources.size() != columns_ || first_row > rows_ || outputs.size() > rows_ - first_row) {
    return Invalid("a code of " + std::to_string(columns_) + " sources and " +
                   std::to_string(rows_) + " rows was given " + std::to_string(sources.size()) +
                   " sources, and " + std::to_string(outputs.size()) + " outputs from row " +
                   std::to_string(first_row));
  }
  std::array<std::size_t, kMaxMembers + kMaxParity> borders;
  std::size_t count = 0;
  std::size_t longest = 0;
  for (const ByteView source : sources) {
    borders[count++] = source.size();
    longest = std::max(longest, source.size());
  }
  for (const MutableByteView output : outputs) {
    borders[count++] = output.size();
    if (output.size() > longest) {
      return Invalid("an output of " + std::to_string(output.size()) +
                     " bytes is longer than the longest source, " + std::to_string(longest));
    }
  }
  HF_TRYV(CheckDisjoint(sources, outputs));
  std::sort(borders.begin(), borders.begin() + static_cast<std::ptrdiff_t>(count));
  std::size_t begin = 0;
  for (std::size_t i = 0; i < count; ++i) {
    while (begin < borders[i]) {
      Piece piece;
      piece.length = std::min(borders[i] - begin, kLongestCall);
      for (std::uint32_t c = 0; c < columns_; ++c) {
        if (sources[c].size() > begin) {
          piece.vectors[piece.sources] = Raw(sources[c].data() + begin);
          piece.columns[piece.sources++] = c;
        }
      }
      for (std::uint32_t r = 0; r < outputs.size(); ++r) {
        if (outputs[r].size() > begin) {
          piece.vectors[piece.sources + piece.outputs] = Raw(outputs[r].data() + begin);
          piece.rows[piece.outputs++] = first_row + r;
        }
      }
      ApplyPiece(piece);
      begin += piece.length;
    }
  }
  return Ok();
}

void Combination::ApplyPiece(const Piece& piece) const {
  if (piece.outputs == 0) {
    return;
  }
  bool ones = true;
  for (std::size_t r = 0; r < piece.outputs; ++r) {
    for (std::size_t c = 0; c < piece.sources; ++c) {
      ones = ones && coefficients_[piece.rows[r] * columns_ + piece.columns[c]] == 1;
    }
  }
  if (ones && piece.sources == 1) {
    for (std::size_t r = 0; r < piece.outputs; ++r) {
      std::memcpy(piece.vectors[1 + r], piece.vectors[0], piece.length);
    }
    return;
  }
  if (ones && piece.outputs == 1) {
    const auto* end = piece.vectors.begin() + piece.sources + 1;
    const bool aligned = std::all_of(piece.vectors.begin(), end, [](const unsigned char* vector) {
      return Address(vector) % kXorAlignment == 0;
    });
    std::array<void*, kMaxMembers + 1> vectors;
    std::copy(piece.vectors.begin(), end, vectors.begin());
    if (aligned && xor_gen(static_cast<int>(piece.sources + 1),
                           static_cast<int>(piece.length),
                           vectors.data()) == 0) {
      return;
    }
  }
  Multiply(piece);
}

void Combination::Multiply(const Piece& piece) const {
  // The tables of the rows and columns that take part, closed up.
  std::array<std::uint8_t, kTableBytes * kMaxMembers * kMaxParity> closed;
  const std::uint8_t* tables = tables_.data() + piece.rows[0] * columns_ * kTableBytes;
  const bool rows_follow = piece.rows[piece.outputs - 1] - piece.rows[0] + 1 == piece.outputs;
  if (piece.sources != columns_ || !rows_follow) {
    std::uint8_t* to = closed.data();
    for (std::size_t r = 0; r < piece.outputs; ++r) {
      for (std::size_t c = 0; c < piece.sources; ++c) {
        const std::size_t entry = piece.rows[r] * columns_ + piece.columns[c];
        std::memcpy(to, tables_.data() + entry * kTableBytes, kTableBytes);
        to += kTableBytes;
      }
    }
    tables = closed.data();
  }
  auto vectors = piece.vectors;
  ec_encode_data(static_cast<int>(piece.length),
                 static_cast<int>(piece.sources),
                 static_cast<int>(piece.outputs),
                 const_cast<unsigned char*>(tables),
                 vectors.data(),
                 vectors.data() + piece.sources);
}

Status Combination::Add(std::uint32_t column,
                        ByteView source,
                        std::span<const MutableByteView> outputs) const {
  if (column >= columns_ || outputs.size() != rows_) {
    return Invalid("a code of " + std::to_string(columns_) + " sources and " +
                   std::to_string(rows_) + " rows was given source " + std::to_string(column) +
                   " and " + std::to_string(outputs.size()) + " outputs");
  }
  for (const MutableByteView output : outputs) {
    if (output.size() < source.size()) {
      return Invalid("a source of " + std::to_string(source.size()) +
                     " bytes is longer than an output, " + std::to_string(output.size()));
    }
  }
  HF_TRYV(CheckDisjoint({&source, 1}, outputs));
  for (std::size_t begin = 0; begin < source.size(); begin += kLongestCall) {
    std::array<unsigned char*, kMaxParity> to{};
    for (std::size_t r = 0; r < outputs.size(); ++r) {
      to[r] = Raw(outputs[r].data() + begin);
    }
    ec_encode_data_update(static_cast<int>(std::min(source.size() - begin, kLongestCall)),
                          static_cast<int>(columns_),
                          static_cast<int>(rows_),
                          static_cast<int>(column),
                          const_cast<unsigned char*>(tables_.data()),
                          Raw(source.data() + begin),
                          to.data());
  }
  return Ok();
}

}  // namespace holdfast::ec
