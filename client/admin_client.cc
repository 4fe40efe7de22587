#include "client/admin_client.h"

#include <algorithm>
#include <utility>

#include "client/protocol.h"
#include "client/version.h"
#include "common/clock.h"
#include "transport/messages.h"

namespace holdfast::client {

AdminClient::AdminClient(std::unique_ptr<transport::UnixSocket> socket)
    : socket_(std::move(socket)) {}

Result<std::unique_ptr<AdminClient>> AdminClient::Connect(const std::string& socket_path,
                                                          const std::string& program,
                                                          std::chrono::milliseconds timeout) {
  const MonotonicTime deadline = SystemClock().Now() + timeout;
  HF_TRY(auto socket, transport::UnixSocket::Connect(socket_path, timeout));
  std::unique_ptr<AdminClient> client(new AdminClient(std::move(socket)));
  proto::ClientMessage message;
  *message.mutable_hello() = MakeHello(program);
  HF_TRY(
      const Reply reply,
      client->Call(std::move(message), std::max(TimeLeft(deadline), std::chrono::milliseconds(1))));
  HF_TRYV(CheckHello(reply.message));
  client->daemon_ = reply.message.hello();
  return client;
}

Result<Reply> AdminClient::Call(proto::ClientMessage request, std::chrono::milliseconds timeout) {
  const MonotonicTime deadline = SystemClock().Now() + timeout;
  const std::uint64_t id = next_id_++;
  request.set_request_id(id);
  HF_TRY(const std::string frame, transport::EncodeFrame(request));
  HF_TRYV(socket_->Send(AsBytes(frame), -1, timeout));
  while (true) {
    HF_TRY(const ByteView payload, socket_->Receive(TimeLeft(deadline)));
    Reply reply;
    HF_TRY(reply.message, transport::ParseServerMessage(payload));
    if (transport::CarriesFd(reply.message)) {
      HF_TRY(reply.fd, socket_->TakeFd());
    }
    if (reply.message.request_id() != id) {
      continue;
    }
    if (reply.message.has_error()) {
      return DaemonError(reply.message.error());
    }
    return reply;
  }
}

}  // namespace holdfast::client
