// What the tests of the fabric share: lenders in processes of their own, and an endpoint that
// reads.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/this_coro.hpp>
#include <gtest/gtest.h>
#include <sys/types.h>

#include "common/task_group.h"
#include "transport/fabric_endpoint.h"

namespace holdfast::transport {

// A fabric_lender.  Killed with its object.
class Lender {
 public:
  Lender(const std::string& provider, const std::string& address, ByteCount bytes);
  ~Lender();

  Lender(const Lender&) = delete;
  Lender& operator=(const Lender&) = delete;

  [[nodiscard]] FabricRegion Lend();
  void Drop();
  void Signal(int number) const;
  void KillAndWait();
  // Its exit status after an orderly end, as waitpid has it.
  [[nodiscard]] int Quit();

  [[nodiscard]] const std::string& greeting() const { return greeting_; }

 private:
  void Say(const std::string& line) const;
  [[nodiscard]] std::string Hear();

  pid_t pid_ = -1;
  int to_ = -1;
  int from_ = -1;
  std::string greeting_;
};

class FabricTest : public testing::Test {
 protected:
  ~FabricTest() override;

  void Open(FabricOptions options);
  [[nodiscard]] FabricOptions OptionsOf(const std::string& provider) const;

  [[nodiscard]] std::unique_ptr<RangeReader> ReaderOf(const FabricRegion& region);

  // Starts a read; "out" has its result once it has ended.
  void StartRead(RangeReader* reader,
                 ByteCount offset,
                 MutableByteView into,
                 std::chrono::milliseconds limit,
                 std::optional<Status>* out);

  [[nodiscard]] Status ReadAll(RangeReader* reader,
                               ByteCount offset,
                               MutableByteView into,
                               std::chrono::milliseconds limit = std::chrono::seconds(20));

  // False after 30 s.
  [[nodiscard]] bool RunUntil(const std::function<bool()>& done);

  boost::asio::io_context io_{1};
  TaskGroup tasks_{io_.get_executor(), "test", 1'000};
  std::unique_ptr<FabricEndpoint> endpoint_;
};

}  // namespace holdfast::transport
