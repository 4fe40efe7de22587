#include <utility>

#include "cli/commands.h"
#include "cli/json_text.h"
#include "cli/source_daemon.h"
#include "common/units.h"
#include "layout/names.h"

namespace holdfast::cli {

ExitCode RunDrop(const Context& context, const DropOptions& options) {
  if (const Status named = layout::ValidateJobName(options.job); !named) {
    return context.console.Fail(named.error());
  }
  auto channel = Connect(context);
  if (!channel.value) {
    return channel.exit;
  }
  proto::ClientMessage request;
  request.mutable_drop()->set_job_name(options.job);
  request.mutable_drop()->set_force(options.force);
  request.mutable_drop()->set_forget(options.forget);
  const auto reply =
      (*channel.value)->Call(std::move(request), proto::ServerMessage::kDrop, kSlowCall);
  if (!reply) {
    // The daemon refuses to drop a live job as "not now"; for a script that is a refusal.
    const bool busy = reply.error().code == Errc::kUnavailable;
    return context.console.Fail(reply.error(),
                                busy ? ExitCode::kRefused : ExitCodeOf(reply.error().code));
  }
  const ByteCount freed = reply.value().message.drop().freed_bytes();
  if (context.console.json) {
    context.console.out << FreedJson(options.job, freed);
  } else {
    context.console.out << "dropped job " << options.job << ": " << FormatBytes(freed)
                        << " of memory are free again (" << freed << " bytes)\n";
  }
  return ExitCode::kOk;
}

}  // namespace holdfast::cli
