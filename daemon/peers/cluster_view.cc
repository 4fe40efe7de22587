#include "daemon/peers/cluster_view.h"

#include <algorithm>
#include <utility>

#include "common/with_timeout.h"
#include "daemon/core/code_set.h"
#include "daemon/peers/fan_out.h"
#include "layout/names.h"
#include "transport/peer_messages.h"

namespace holdfast::daemon {

namespace asio = boost::asio;

namespace {

Error Unbelievable(const std::string& what) {
  return Error(Errc::kCorruption, "its answer cannot be believed: " + what);
}

bool IsUuid(const std::string& text) {
  return text.size() == transport::kUuidBytes;
}

Status CheckJob(const proto::JobStatus& job) {
  HF_TRYV(layout::ValidateJobName(job.name()));
  const bool members = std::all_of(job.members().begin(), job.members().end(), [](const auto& m) {
    return IsUuid(m.node_uuid());
  });
  const bool groups = std::all_of(job.groups().begin(), job.groups().end(), [](const auto& group) {
    return std::all_of(group.node_uuids().begin(), group.node_uuids().end(), IsUuid);
  });
  return IsUuid(job.job_uid()) && members && groups
             ? Status(Ok())
             : Status(Error(Errc::kCorruption, "a uuid of another length than 16 bytes"));
}

Status CheckSnapshot(const proto::SnapshotInfo& snapshot) {
  HF_TRYV(layout::ValidateJobName(snapshot.job_name()));
  HF_TRYV(layout::ValidateSnapshotId(snapshot.id()));
  for (const proto::HeldRows& held : snapshot.held_rows()) {
    HF_TRY(const CodeSet set, FromProto(held.set()));
    for (const proto::HeldRow& row : held.rows()) {
      if (row.row() >= set.geometry.code.parity || row.stripe() >= set.Count()) {
        return Error(Errc::kCorruption, "a row that its group does not have");
      }
    }
  }
  return Ok();
}

Status CheckAsk(const proto::AskNodesRequest& request) {
  if (request.timeout_ms() == 0 || request.timeout_ms() > kMaxNodeTimeout.count()) {
    return Error(Errc::kInvalidArgument,
                 "a time of " + std::to_string(request.timeout_ms()) + " ms for each node; 1 to " +
                     std::to_string(kMaxNodeTimeout.count()));
  }
  if (!request.after_node().empty() && !IsUuid(request.after_node())) {
    return Error(Errc::kInvalidArgument, "the node to go on after has no uuid of 16 bytes");
  }
  return request.job_name().empty() ? Status(Ok()) : layout::ValidateJobName(request.job_name());
}

void SetError(const Error& error, proto::NodeAnswer* answer) {
  answer->set_error_code(static_cast<std::uint32_t>(error.code));
  answer->set_error(error.message);
}

}  // namespace

Status CheckView(const std::string& node, const proto::NodeView& view) {
  if (view.ByteSizeLong() > kMaxViewBytes) {
    return Error(Errc::kNoSpace,
                 "its answer has " + FormatBytes(view.ByteSizeLong()) + ", more than " +
                     FormatBytes(kMaxViewBytes) + ": ask for one job");
  }
  if (view.status().node_uuid() != node) {
    return Unbelievable("it is that of another node");
  }
  for (const proto::JobStatus& job : view.status().jobs()) {
    if (const Status status = CheckJob(job); !status.has_value()) {
      return Unbelievable(status.error().message);
    }
  }
  for (const proto::SnapshotInfo& snapshot : view.list().snapshots()) {
    if (const Status status = CheckSnapshot(snapshot); !status.has_value()) {
      return Unbelievable(status.error().message);
    }
  }
  return Ok();
}

ClusterView::ClusterView(const asio::any_io_executor& executor,
                         std::string node_uuid,
                         Hooks hooks,
                         Limits limits)
    : executor_(executor),
      node_uuid_(std::move(node_uuid)),
      hooks_(std::move(hooks)),
      limits_(limits),
      tasks_(executor, "cluster view", limits.asks) {}

void ClusterView::Ask(proto::AskNodesRequest request, proto::AskingUser user, Done done) {
  if (const Status status = CheckAsk(request); !status.has_value()) {
    done(status.error());
    return;
  }
  if (!tasks_.Spawn(Run(std::move(request), std::move(user), done))) {
    done(Error(Errc::kUnavailable,
               "the nodes are being asked for " + std::to_string(tasks_.size()) +
                   " others already; try again"));
  }
}

asio::awaitable<void> ClusterView::Run(proto::AskNodesRequest request,
                                       proto::AskingUser user,
                                       Done done) {
  done(co_await Collect(std::move(request), std::move(user)));
}

std::vector<proto::NodeAnswer> ClusterView::PageAfter(const std::string& after, bool* more) const {
  NodeHints known = hooks_.nodes();
  known[node_uuid_];
  std::vector<proto::NodeAnswer> page;
  for (auto it = known.upper_bound(after); it != known.end(); ++it) {
    if (page.size() == limits_.nodes_of_page) {
      *more = true;
      break;
    }
    proto::NodeAnswer& answer = page.emplace_back();
    answer.set_node_uuid(it->first);
    answer.mutable_endpoints()->Assign(it->second.begin(), it->second.end());
  }
  return page;
}

asio::awaitable<Result<proto::AskNodesReply>> ClusterView::Collect(proto::AskNodesRequest request,
                                                                   proto::AskingUser user) {
  proto::AskNodesReply reply;
  bool more = false;
  std::vector<proto::NodeAnswer> page = PageAfter(request.after_node(), &more);
  const auto work = [&](std::size_t i) { return AskOne(request, user, &page[i]); };
  co_await FanOut(executor_, page.size(), limits_.nodes_at_once, work);
  if (co_await Cancelled()) {
    co_return Error(Errc::kCancelled, "the daemon is ending");
  }
  ByteCount bytes = 0;
  for (proto::NodeAnswer& answer : page) {
    bytes += answer.ByteSizeLong();
    if (bytes > limits_.page_bytes && reply.nodes_size() > 0) {
      more = true;
      break;
    }
    *reply.add_nodes() = std::move(answer);
  }
  reply.set_more(more);
  co_return reply;
}

asio::awaitable<void> ClusterView::AskOne(const proto::AskNodesRequest& request,
                                          const proto::AskingUser& user,
                                          proto::NodeAnswer* answer) {
  if (answer->node_uuid() == node_uuid_) {
    *answer->mutable_view() = hooks_.own(request.job_name(), user);
    const auto& endpoints = answer->view().status().peer_endpoints();
    answer->mutable_endpoints()->Assign(endpoints.begin(), endpoints.end());
    if (const Status status = CheckView(node_uuid_, answer->view()); !status.has_value()) {
      answer->clear_view();
      SetError(status.error(), answer);
    }
    co_return;
  }
  proto::PeerRequest ask;
  ask.mutable_view()->set_job_name(request.job_name());
  *ask.mutable_view()->mutable_user() = user;
  auto view = co_await Fetch(
      answer->node_uuid(), std::move(ask), std::chrono::milliseconds(request.timeout_ms()));
  if (view.has_value()) {
    *answer->mutable_view() = std::move(view).value();
  } else {
    SetError(view.error(), answer);
  }
}

asio::awaitable<Result<proto::NodeView>> ClusterView::Fetch(std::string node,
                                                            proto::PeerRequest request,
                                                            std::chrono::milliseconds limit) {
  if (hooks_.call == nullptr) {
    co_return Error(Errc::kUnavailable, "the daemon that was asked has no peers (peer.listen)");
  }
  HF_CO_TRY(proto::PeerReply reply, co_await hooks_.call(node, std::move(request), limit));
  HF_CO_TRYV(CheckView(node, reply.view().view()));
  co_return std::move(*reply.mutable_view()->mutable_view());
}

}  // namespace holdfast::daemon
