// How a connection begins: TLS, hellos, and the refusal of who is not who it should be.
#include <utility>

#include "common/log.h"
#include "common/with_timeout.h"
#include "transport/peer_channel.h"

namespace holdfast::transport {

namespace asio = boost::asio;

namespace {

constexpr std::chrono::milliseconds kLingerLimit{500};

// A TLS record of a handshake: version 3.x.
bool LooksLikeTls(const Error& error) {
  return error.code == Errc::kCorruption &&
         error.message.find("magic is 1603") != std::string::npos;
}

Refusal RefusalOf(const Error& error) {
  switch (error.code) {
    case Errc::kVersionMismatch:
      return Refusal::kVersion;
    case Errc::kPermission:
      return Refusal::kIdentity;
    case Errc::kFenced:
      return Refusal::kStale;
    default:
      return Refusal::kGarbage;
  }
}

// Without its port, which is another at each try.
std::string AddressOf(const std::string& remote) {
  return remote.substr(0, remote.rfind(':'));
}

proto::PeerMessage RefusalMessage(const Error& why) {
  proto::PeerMessage message;
  const proto::PeerError error = ToPeerError(why);
  message.mutable_refusal()->set_code(error.code());
  message.mutable_refusal()->set_message(error.message());
  return message;
}

}  // namespace

asio::awaitable<Result<std::shared_ptr<PeerChannel>>> PeerChannel::Open(
    std::unique_ptr<PeerStream> stream, PeerContext* context, std::string wanted_uuid) {
  auto channel = std::make_shared<PeerChannel>(Private(), std::move(stream), context);
  const PeerLimits& limits = context->limits();
  Status greeted =
      co_await WithTimeout(limits.hello_timeout, channel->Greet(std::move(wanted_uuid)));
  if (greeted.has_value()) {
    co_return channel;
  }
  Error why = greeted.error();
  if (why.code == Errc::kTimeout) {
    why = Error(Errc::kTimeout,
                channel->stream_->Remote() + " did not say hello within " +
                    std::to_string(limits.hello_timeout.count()) + " ms");
  }
  if (!co_await Cancelled()) {
    co_await channel->stream_->Linger(kLingerLimit);
  }
  channel->Close(why);
  co_return why;
}

asio::awaitable<Status> PeerChannel::Greet(std::string wanted_uuid) {
  const std::string address = AddressOf(stream_->Remote());
  const auto certified = co_await stream_->Handshake();
  if (!certified.has_value()) {
    if (certified.error().code == Errc::kPermission) {
      context_->refusals().Add(Refusal::kTls, address, certified.error());
    }
    co_return certified.error();
  }
  const auto hello = co_await ExchangeHellos(wanted_uuid);
  Status accepted = hello.has_value() ? Accept(hello.value(), certified.value(), wanted_uuid)
                                      : Status(hello.error());
  if (accepted.has_value()) {
    decoder_.SetMaxPayload(context_->limits().max_frame_bytes);
    slots_.SetCapacity(
        std::min<std::uint64_t>(context_->limits().max_requests, hello.value().max_requests()));
    co_return Ok();
  }
  const Error why = accepted.error();
  if (why.code == Errc::kUnavailable || why.code == Errc::kCancelled) {
    co_return why;
  }
  const bool by_certificate = why.code == Errc::kPermission && !hello.has_value();
  context_->refusals().Add(by_certificate ? Refusal::kTls : RefusalOf(why), address, why);
  if (!by_certificate) {
    const auto frame = EncodePeerFrame(RefusalMessage(why));
    if (frame.has_value()) {
      (void)co_await stream_->Write(AsBytes(frame.value()));
    }
  }
  co_return why;
}

asio::awaitable<Result<proto::PeerHello>> PeerChannel::ExchangeHellos(
    const std::string& wanted_uuid) {
  proto::PeerMessage own;
  *own.mutable_hello() = context_->Hello();
  own.mutable_hello()->set_wanted_node(wanted_uuid);
  HF_CO_TRY(const std::string frame, EncodePeerFrame(own));
  // A failed write still leaves the peer's words to be read: they say why.
  const Status written = co_await stream_->Write(AsBytes(frame));
  while (true) {
    auto payload = decoder_.Next();
    if (!payload.has_value()) {
      if (LooksLikeTls(payload.error())) {
        co_return Error(Errc::kCorruption,
                        stream_->Remote() +
                            " speaks TLS, this node does not: configure certificates on both "
                            "nodes, or on none");
      }
      co_return payload.error();
    }
    if (payload.value().has_value()) {
      HF_CO_TRY(proto::PeerMessage message, ParsePeerMessage(*payload.value()));
      if (message.has_refusal()) {
        const Error told = FromPeerError(message.refusal().code(), message.refusal().message());
        co_return Error(Errc::kUnavailable,
                        stream_->Remote() + " refuses this node (" +
                            std::string(ErrcName(told.code)) + "): " + told.message);
      }
      if (!message.has_hello()) {
        co_return Error(Errc::kCorruption, "the first message of a peer must be hello");
      }
      co_return std::move(*message.mutable_hello());
    }
    const MutableByteView room = decoder_.Space();
    const auto count = co_await stream_->ReadSome(room);
    if (!count.has_value()) {
      co_return written.has_value() || count.error().code == Errc::kPermission ? count.error()
                                                                               : written.error();
    }
    decoder_.Commit(count.value());
  }
}

Status PeerChannel::Accept(const proto::PeerHello& hello,
                           const std::string& certified_uuid,
                           const std::string& wanted_uuid) {
  HF_TRYV(CheckHello(hello));
  const std::string& uuid = hello.node_uuid();
  if (!certified_uuid.empty() && uuid != certified_uuid) {
    return Error(Errc::kPermission,
                 stream_->Remote() + " says that it is node " + UuidText(uuid) +
                     ", its certificate is of node " + UuidText(certified_uuid) +
                     ": give each node its own certificate");
  }
  if (!wanted_uuid.empty() && uuid != wanted_uuid) {
    return Error(Errc::kPermission,
                 stream_->Remote() + " is node " + UuidText(uuid) + ", not " +
                     UuidText(wanted_uuid) + ": the address belongs to another node now");
  }
  if (!hello.wanted_node().empty() && hello.wanted_node() != context_->node_uuid()) {
    // Said here too, so that whoever knocks for a node that is gone never counts as connected.
    return Error(Errc::kPermission,
                 stream_->Remote() + " looks for node " + UuidText(hello.wanted_node()) +
                     ", this is " + UuidText(context_->node_uuid()) +
                     ": the address belongs to another node now");
  }
  HF_TRYV(context_->NoteBoot(uuid, hello.boot_number()));
  auto facts = std::make_shared<PeerFacts>();
  facts->node_uuid = uuid;
  facts->boot = hello.boot_number();
  facts->software_version = hello.software_version().substr(0, 64);
  facts->planes.assign(hello.planes().begin(), hello.planes().end());
  facts->authenticated = !certified_uuid.empty();
  facts->remote = stream_->Remote();
  facts->local = stream_->Local();
  facts_ = std::move(facts);
  return Ok();
}

}  // namespace holdfast::transport
