// A process that lends memory over a fabric until it is told otherwise, killed or stopped: what the
// tests read from.
//
//   fabric_lender <provider> <bind address> <bytes>
//   says "ready <describe>", then for each line:
//   lend   lends its memory (again), says the region in hexadecimal
//   drop   ends the loan, says "ok"
//   quit   closes the endpoint, in an orderly way, and ends
// The memory is as FillPattern makes it.  The end of its input ends it.
#include <cstdlib>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "common/bytes.h"
#include "tests/support/bulk_bytes.h"
#include "transport/fabric_endpoint.h"

namespace holdfast::transport {
namespace {

int Main(char** arguments) {
  // Outlives the endpoint: tcp goes on sending from it for a moment after a loan has ended.
  std::vector<std::byte> memory(std::strtoull(arguments[3], nullptr, 10));
  boost::asio::io_context io{1};
  FabricOptions options;
  options.providers = {arguments[1]};
  options.bind_address = arguments[2];
  auto endpoint = FabricEndpoint::OpenBlocking(io.get_executor(), options);
  if (!endpoint.has_value()) {
    std::cout << "error " << endpoint.error().ToString() << std::endl;
    return 1;
  }
  FillPattern(memory);
  std::cout << "ready " << endpoint.value()->Describe() << std::endl;
  std::optional<FabricMemory> lent;
  for (std::string line; std::getline(std::cin, line);) {
    lent.reset();
    if (line == "quit") {
      break;
    }
    if (line == "lend") {
      auto made = endpoint.value()->LendBlocking(memory);
      if (!made.has_value()) {
        std::cout << "error " << made.error().ToString() << std::endl;
        continue;
      }
      lent.emplace(std::move(made).value());
      std::cout << ToHex(AsBytes(ToProto(lent->region()).SerializeAsString())) << std::endl;
    } else {
      std::cout << "ok" << std::endl;
    }
  }
  return 0;
}

}  // namespace
}  // namespace holdfast::transport

int main(int count, char** arguments) {
  return count == 4 ? holdfast::transport::Main(arguments) : 2;
}
