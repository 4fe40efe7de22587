#include "client/build_info.h"

#include "client/version.h"

namespace holdfast::client {

std::string DescribeBuild() {
  return std::string(kVersion) + "\ncopy engines: host";
}

}  // namespace holdfast::client
