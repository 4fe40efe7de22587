// Random identifiers from the kernel.
#pragma once

#include <cstdint>
#include <string>

namespace holdfast {

// 16 random bytes (raw, not text): job_uid, node uuid, arena uuid.
std::string RandomUid();

// 64 random bits, never 0: epoch and session tokens.
std::uint64_t RandomToken();

}  // namespace holdfast
