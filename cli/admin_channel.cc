#include "cli/admin_channel.h"

#include <utility>

#include "client/admin_client.h"

namespace holdfast::cli {
namespace {

constexpr std::chrono::milliseconds kConnectTimeout{5'000};

class SocketChannel final : public AdminChannel {
 public:
  explicit SocketChannel(std::unique_ptr<client::AdminClient> client)
      : client_(std::move(client)) {}

  Result<AdminReply> Call(proto::ClientMessage request,
                          proto::ServerMessage::BodyCase expected,
                          std::chrono::milliseconds timeout) override {
    HF_TRY(client::Reply reply, client_->Call(std::move(request), timeout));
    if (reply.message.body_case() != expected) {
      return Error(Errc::kVersionMismatch,
                   "the daemon answered with message " + std::to_string(reply.message.body_case()) +
                       " where " + std::to_string(expected) +
                       " was due: is it of another version?");
    }
    AdminReply answer;
    answer.descriptor = storage_tiers::Descriptor(reply.fd.Release());
    answer.message = std::move(reply.message);
    return answer;
  }

 private:
  const std::unique_ptr<client::AdminClient> client_;
};

// What a socket without daemon behind it says; anything else is told as it is.
bool Nobody(Errc code) {
  return code == Errc::kUnavailable || code == Errc::kNotFound;
}

}  // namespace

Result<std::unique_ptr<AdminChannel>> ConnectToDaemon(const std::vector<std::string>& sockets) {
  std::string tried;
  for (const std::string& socket : sockets) {
    auto client = client::AdminClient::Connect(socket, "cli", kConnectTimeout);
    if (client) {
      return std::unique_ptr<AdminChannel>(
          std::make_unique<SocketChannel>(std::move(client).value()));
    }
    // A derived path that is too long for a socket is one where no daemon can be.
    const bool derived = sockets.size() > 1;
    if (!Nobody(client.error().code) &&
        !(derived && client.error().code == Errc::kInvalidArgument)) {
      return client.error();
    }
    tried += (tried.empty() ? "" : " or ") + socket;
  }
  return Error(Errc::kUnavailable,
               "no daemon answers at " + tried +
                   ": start it (systemctl start holdfastd, or holdfastd --user), name its socket "
                   "(--socket, HOLDFAST_SOCKET), or look without it (--root, --state-dir)");
}

}  // namespace holdfast::cli
