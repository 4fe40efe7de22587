// Values of the configuration from text, in the notation of the file.  Private to config*.cc.
//
// Threads: pure functions; any thread.
// Errors:  kInvalidArgument shows the text and what is accepted.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace holdfast::daemon {

[[nodiscard]] Result<std::uint64_t> ParseCount(std::string_view text);
// Lists are separated by commas.
[[nodiscard]] Result<std::vector<std::uint32_t>> ParseUids(std::string_view text);
[[nodiscard]] Result<std::vector<std::string>> ParsePaths(std::string_view text);
// At most 128 printable bytes; "off" is empty.
[[nodiscard]] Result<std::string> ParseName(std::string_view text);
// ADDRESS:PORT with an IPv4 address, or an IPv6 address in brackets; "off" is empty.
[[nodiscard]] Result<std::string> ParseAddress(std::string_view text);
[[nodiscard]] Result<std::vector<std::string>> ParseAddresses(std::string_view text);
// "tls" and names of providers of libfabric, each once.
[[nodiscard]] Result<std::vector<std::string>> ParsePlanes(std::string_view text);

}  // namespace holdfast::daemon
