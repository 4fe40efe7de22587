#include "common/random.h"

#include <sys/random.h>

#include "common/check.h"

namespace holdfast {
namespace {

void Fill(void* to, std::size_t size) {
  // Requests of up to 256 bytes are never cut short once the kernel's pool is initialised.
  HOLDFAST_CHECK(getrandom(to, size, 0) == static_cast<ssize_t>(size));
}

}  // namespace

std::string RandomUid() {
  std::string uid(16, '\0');
  Fill(uid.data(), uid.size());
  return uid;
}

std::uint64_t RandomToken() {
  std::uint64_t token = 0;
  while (token == 0) {
    Fill(&token, sizeof token);
  }
  return token;
}

}  // namespace holdfast
