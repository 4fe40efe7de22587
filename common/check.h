// HOLDFAST_CHECK: a broken invariant ends the process, in every build.
//
// For contracts between our own functions only.  Bytes from a socket, a file or a catalog are
// checked with Result: hostile input must never reach a CHECK.
#pragma once

namespace holdfast {

[[noreturn]] void CheckFailed(const char* expression, const char* file, int line);

}  // namespace holdfast

#define HOLDFAST_CHECK(expression) \
  ((expression) ? void(0) : ::holdfast::CheckFailed(#expression, __FILE__, __LINE__))
