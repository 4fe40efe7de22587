// Words and numbers for people: what is printed must not lie and must not drive the terminal.
//
// Reasons, tensor names and warnings come from other processes and from files that anybody may have
// written.  A control character in one of them could move the cursor over a line that says "bad",
// or run an escape sequence: everything foreign that reaches a terminal passes SafeText.
//
// Threads: any thread; pure.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/units.h"
#include "proto/manifest.pb.h"

namespace holdfast::cli {

// Control characters (also DEL and the C1 range in UTF-8) and bytes that are not UTF-8 become
// "\x1b"; a backslash stays itself.  One line in, one line out.
[[nodiscard]] std::string SafeText(std::string_view text);

// SafeText of at most "limit" characters, cut with "..." (a reason belongs into a table's cell).
[[nodiscard]] std::string ShortText(std::string_view text, std::size_t limit);

// Columns that a terminal needs for valid UTF-8, one for each code point: enough to align what we
// print; wide East Asian characters may still shift a row.
[[nodiscard]] std::size_t DisplayWidth(std::string_view text);

// "42s", "3m 07s", "5h 12m", "2d 03h".
[[nodiscard]] std::string FormatDuration(std::chrono::seconds duration);

// "1200@7": the spelling that commands accept.
[[nodiscard]] std::string IdText(const proto::SnapshotId& id);

// "0123456789ab": the first digits of a node's uuid, as all tables show nodes.
[[nodiscard]] std::string NodeName(std::string_view uuid);

// "2026-11-23 14:05:07 UTC"; "unknown" for 0 and for times after the year 9999.
[[nodiscard]] std::string TimeText(std::uint64_t unix_ms);

// "[####....]" of "width" cells; more used than there is fills it.  Never shows full before full.
[[nodiscard]] std::string Bar(ByteCount used, ByteCount total, std::size_t width);

// "0-7, 9": ranks of a world, in ascending order.
[[nodiscard]] std::string RankRanges(std::vector<std::uint32_t> ranks);

// "; there are a, b": what could have been named instead, the first of many; empty: "".
[[nodiscard]] std::string InsteadText(const std::vector<std::string>& names);

// "1 rank", "2 ranks".
[[nodiscard]] std::string Count(std::uint64_t number, std::string_view singular);

}  // namespace holdfast::cli
