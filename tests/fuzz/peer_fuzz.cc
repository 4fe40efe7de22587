// A whole connection against a hostile peer: hello, then whatever the input says, in pieces,
// through a real channel with its reader, writer and tasks.  It must end, with bounded memory, and
// leave nothing (I9, I12).
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <boost/asio/io_context.hpp>

#include "common/check.h"
#include "common/log.h"
#include "common/task_group.h"
#include "daemon/peers/cluster_view.h"
#include "transport/peer_channel.h"
#include "transport/peer_context.h"
#include "transport/peer_messages.h"
#include "transport/peer_stream.h"

namespace holdfast::transport {
namespace {

namespace asio = boost::asio;

// Gives the input, then the end; takes whatever is written.
class InputStream final : public PeerStream {
 public:
  InputStream(asio::any_io_executor executor, std::string_view input, std::size_t piece)
      : executor_(std::move(executor)), input_(input), piece_(piece) {}

  asio::awaitable<Result<std::string>> Handshake() override { co_return std::string(); }

  asio::awaitable<Result<std::size_t>> ReadSome(MutableByteView room) override {
    const std::size_t count = std::min({room.size(), piece_, input_.size()});
    if (closed_ || count == 0) {
      co_return Error(Errc::kUnavailable, "the end of the input");
    }
    std::memcpy(room.data(), input_.data(), count);
    input_.remove_prefix(count);
    co_return count;
  }

  asio::awaitable<Status> Write(ByteView bytes) override {
    HOLDFAST_CHECK(bytes.size() <= 256 * kKiB);
    co_return Ok();
  }

  asio::awaitable<void> Linger(std::chrono::milliseconds) override { co_return; }

  void Close() override { closed_ = true; }

  asio::any_io_executor Executor() override { return executor_; }

  std::string Remote() const override { return "192.0.2.1:1"; }

  std::string Local() const override { return "192.0.2.2:2"; }

 private:
  const asio::any_io_executor executor_;
  std::string_view input_;
  const std::size_t piece_;
  bool closed_ = false;
};

asio::awaitable<Result<proto::PeerReply>> Refuse(std::shared_ptr<const PeerFacts>,
                                                 proto::PeerRequest request) {
  HOLDFAST_CHECK(CheckRequest(request, request.report().report().node_uuid()).has_value());
  if (request.has_report()) {
    proto::PeerReply reply;
    reply.mutable_report();
    co_return reply;
  }
  co_return Error(Errc::kNotFound, "nothing is kept here");
}

asio::awaitable<void> Converse(std::unique_ptr<PeerStream> stream,
                               PeerContext* context,
                               std::size_t input_bytes) {
  const auto opened = co_await PeerChannel::Open(std::move(stream), context, std::string());
  if (opened.has_value()) {
    (void)co_await opened.value()->Run();
    HOLDFAST_CHECK(opened.value()->ended());
    HOLDFAST_CHECK(opened.value()->served() == 0);
    HOLDFAST_CHECK(opened.value()->calls() == 0);
    HOLDFAST_CHECK(opened.value()->buffered_bytes() <= 4 * input_bytes + 64 * kKiB);
  }
}

void One(std::string_view input) {
  asio::io_context io(1);
  PeerLimits limits;
  limits.max_served = 16;
  PeerContext::Hooks hooks;
  hooks.handler = Refuse;
  PeerContext context(std::string(kUuidBytes, 'n'), 1, nullptr, limits, std::move(hooks));
  const std::size_t piece = static_cast<std::size_t>(static_cast<std::uint8_t>(input[0])) + 1;
  input.remove_prefix(1);
  auto stream = std::make_unique<InputStream>(io.get_executor(), input, piece);
  TaskGroup tasks(io.get_executor(), "fuzz", 1);
  HOLDFAST_CHECK(tasks.Spawn(Converse(std::move(stream), &context, input.size())));
  io.run_for(std::chrono::seconds(30));
  HOLDFAST_CHECK(tasks.size() == 0);
}

// What a node says of itself is looked at beyond its shape before an operator sees it.
void LookAtView(std::string_view input) {
  proto::NodeView view;
  if (view.ParseFromArray(input.data(), static_cast<int>(input.size()))) {
    const Status believed = daemon::CheckView(view.status().node_uuid(), view);
    HOLDFAST_CHECK(!believed.has_value() || view.ByteSizeLong() <= daemon::kMaxViewBytes);
  }
}

}  // namespace
}  // namespace holdfast::transport

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool quiet = [] {
    holdfast::StartLog("peer_fuzz", holdfast::LogLevel::kError);
    return true;
  }();
  if (quiet && size > 0) {
    const std::string_view input(reinterpret_cast<const char*>(data), size);
    holdfast::transport::One(input);
    holdfast::transport::LookAtView(input.substr(1));
  }
  return 0;
}
