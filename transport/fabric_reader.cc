#include "transport/fabric_reader.h"

#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/with_timeout.h"

namespace holdfast::transport {

namespace asio = boost::asio;

FabricReader::FabricReader(FabricThread* thread,
                           const FabricOptions* options,
                           ByteCount block,
                           std::shared_ptr<FabricEndpoint::Peer> peer,
                           FabricRegion region,
                           std::string name)
    : thread_(thread),
      options_(options),
      block_(block),
      peer_(std::move(peer)),
      region_(std::make_shared<const FabricRegion>(std::move(region))),
      name_(std::move(name)) {}

asio::awaitable<Status> FabricReader::ReadBlock(ByteCount offset,
                                                MutableByteView into,
                                                Deadline deadline) {
  const std::shared_ptr<FabricEndpoint::Peer> peer = peer_;
  if (peer->room.waiting() >= options_->waiting_per_peer) {
    co_return Error(Errc::kUnavailable,
                    name_ + ": " + std::to_string(peer->room.waiting()) + " reads wait already");
  }
  Status turn = co_await peer->room.Acquire(1, deadline);
  if (!turn.has_value()) {
    co_return std::move(turn).error().WithContext(name_);
  }
  auto read = std::make_shared<FabricRead>(
      co_await asio::this_coro::executor, region_, offset, into, deadline, name_);
  Status done = co_await Await(std::move(read));
  peer->room.Release(1);
  co_return done;
}

asio::awaitable<Status> FabricReader::Await(std::shared_ptr<FabricRead> read) {
  if (co_await Cancelled()) {
    co_return Error(Errc::kCancelled, name_ + ": cancelled before it was asked for");
  }
  if (!thread_->Submit(read)) {
    co_return Error(Errc::kCancelled, name_ + ": the fabric was stopped");
  }
  // A cancellation does not end the wait: the buffer is the provider's until the completion thread
  // says that it is not, which it does within cancel_grace.
  while (!read->result.has_value()) {
    (void)co_await read->wake.async_wait(asio::as_tuple(asio::use_awaitable));
    if (!read->result.has_value() && co_await Cancelled() && !read->given_up.exchange(true)) {
      thread_->GiveUp();
    }
  }
  co_return std::move(*read->result);
}

}  // namespace holdfast::transport
