// verify --peers: every node of the cluster reads again what it holds.

#include <algorithm>
#include <utility>

#include "cli/cluster/ask_nodes.h"
#include "cli/cluster/scrub_plan.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/render/render_scrub.h"

namespace holdfast::cli {
namespace {

// What the daemon takes in one request.
constexpr std::size_t kNodesOfRequest = 64;
// Of one part, beside the time of each node: reading it, and giving way to other work meanwhile.
constexpr std::chrono::milliseconds kPartTime{120'000};
constexpr std::chrono::milliseconds kOwnTime{15'000};

// What each request asks ends when it is answered, so that an interrupted scrub leaves nothing.
Status ReadAll(AdminChannel& channel,
               std::chrono::milliseconds limit,
               ScrubPlan* plan,
               Progress* progress) {
  while (true) {
    if (InterruptFlag()->load()) {
      return Error(Errc::kCancelled, "interrupted");
    }
    proto::ClientMessage request;
    *request.mutable_scrub_nodes() = plan->Next(kNodesOfRequest);
    if (request.scrub_nodes().parts().empty()) {
      return Ok();
    }
    request.mutable_scrub_nodes()->set_timeout_ms(static_cast<std::uint32_t>(limit.count()));
    HF_TRY(const AdminReply reply,
           channel.Call(std::move(request), proto::ServerMessage::kScrubNodes, limit + kOwnTime));
    progress->Add(plan->Take(reply.message.scrub_nodes()));
  }
}

}  // namespace

ExitCode RunVerifyPeers(const Context& context, const VerifyOptions& options) {
  const Console& console = context.console;
  const auto channel = Connect(context);
  if (!channel.value) {
    return channel.exit;
  }
  auto nodes = AskNodes(**channel.value, options.job, options.cluster.timeout());
  if (!nodes) {
    return console.Fail(nodes.error());
  }
  ScrubPlan plan(nodes.value(), options.job);
  Progress progress(console.err, console.err_is_terminal, "verify the cluster", plan.total_bytes());
  const std::chrono::milliseconds limit = std::max(options.cluster.timeout(), kPartTime);
  const Status read = ReadAll(**channel.value, limit, &plan, &progress);
  progress.Finish();
  if (!read) {
    return console.Fail(read.error());
  }
  const ScrubReport report{nodes.value(), plan.items(), plan.gone()};
  if (plan.items().empty() && AllAnswered(nodes.value()) && !options.job.empty()) {
    return console.Fail(Error(
        Errc::kNotFound,
        "no node of the cluster holds anything of job " + options.job + ": nothing was verified"));
  }
  console.out << (console.json ? ScrubJson(report) : ScrubText(report));
  return ScrubExit(report);
}

}  // namespace holdfast::cli
