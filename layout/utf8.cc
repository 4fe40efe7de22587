#include "layout/utf8.h"

#include <cstddef>
#include <cstdint>

namespace holdfast::layout {
namespace {

// What the first byte of a sequence says about it.
struct Lead {
  std::size_t continuation_bytes;
  std::uint32_t bits;      // payload of the first byte
  std::uint32_t smallest;  // a smaller code point in this length would be overlong
};

bool ReadLead(std::uint8_t byte, Lead* lead) {
  if (byte < 0x80) {
    *lead = {0, byte, 0};
  } else if ((byte & 0xe0) == 0xc0) {
    *lead = {1, byte & 0x1fu, 0x80};
  } else if ((byte & 0xf0) == 0xe0) {
    *lead = {2, byte & 0x0fu, 0x800};
  } else if ((byte & 0xf8) == 0xf0) {
    *lead = {3, byte & 0x07u, 0x10000};
  } else {
    return false;
  }
  return true;
}

}  // namespace

bool IsUtf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    Lead lead{};
    if (!ReadLead(static_cast<std::uint8_t>(text[i]), &lead) ||
        lead.continuation_bytes >= text.size() - i) {
      return false;
    }
    std::uint32_t code_point = lead.bits;
    for (std::size_t k = 1; k <= lead.continuation_bytes; ++k) {
      const auto byte = static_cast<std::uint8_t>(text[i + k]);
      if ((byte & 0xc0) != 0x80) {
        return false;
      }
      code_point = code_point << 6 | (byte & 0x3fu);
    }
    const bool is_surrogate = code_point >= 0xd800 && code_point <= 0xdfff;
    if (code_point < lead.smallest || code_point > 0x10ffff || is_surrogate) {
      return false;
    }
    i += 1 + lead.continuation_bytes;
  }
  return true;
}

std::string Quoted(std::string_view text) {
  constexpr std::size_t kMostShown = 160;
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out = "\"";
  for (char c : text.substr(0, kMostShown)) {
    const auto byte = static_cast<std::uint8_t>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte >= 0x20 && byte < 0x7f) {
      out += c;
    } else {
      out += "\\x";
      out += kDigits[byte >> 4];
      out += kDigits[byte & 0xf];
    }
  }
  out += '"';
  if (text.size() > kMostShown) {
    out += "... (" + std::to_string(text.size()) + " bytes)";
  }
  return out;
}

}  // namespace holdfast::layout
