#include "common/check.h"

#include <cstdio>
#include <cstdlib>

namespace holdfast {

void CheckFailed(const char* expression, const char* file, int line) {
  std::fprintf(stderr, "holdfast: %s:%d: check failed: %s\n", file, line, expression);
  std::abort();
}

}  // namespace holdfast
