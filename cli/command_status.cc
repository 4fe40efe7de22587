#include <utility>

#include "cli/commands.h"
#include "cli/render/render_status.h"
#include "cli/source_daemon.h"

namespace holdfast::cli {

ExitCode RunStatus(const Context& context) {
  auto channel = Connect(context);
  if (!channel.value) {
    return channel.exit;
  }
  proto::ClientMessage request;
  request.mutable_status();
  const auto reply =
      (*channel.value)->Call(std::move(request), proto::ServerMessage::kStatus, kQuickCall);
  if (!reply) {
    return context.console.Fail(reply.error());
  }
  const proto::StatusReply& status = reply.value().message.status();
  context.console.out << (context.console.json ? StatusJson(status) : StatusText(status));
  return ExitCode::kOk;
}

}  // namespace holdfast::cli
