// The version of the client library, as hf_version and the hello say it.
#pragma once

namespace holdfast::client {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace holdfast::client
