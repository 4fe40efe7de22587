// The version of this build of Holdfast, as every program and message says it.
//
// Threads: a constant.
#pragma once

#include <string_view>

namespace holdfast {

inline constexpr std::string_view kVersion = "0.1.0";

}  // namespace holdfast
