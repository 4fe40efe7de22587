#include "daemon/peers/cluster_scrub.h"

#include <utility>
#include <vector>

#include "common/crc32c.h"
#include "common/with_timeout.h"
#include "daemon/peers/cluster_view.h"
#include "daemon/peers/fan_out.h"
#include "transport/peer_messages.h"

namespace holdfast::daemon {

namespace asio = boost::asio;

namespace {

// Scrubs at one time: more would only wait for each other at the nodes.
constexpr std::size_t kMaxScrubs = 2;

proto::PeerRequest RequestOf(const proto::ScrubPart& part, const proto::AskingUser& user) {
  proto::PeerRequest request;
  *request.mutable_scrub()->mutable_key() = part.key();
  *request.mutable_scrub()->mutable_user() = user;
  request.mutable_scrub()->set_first_chunk(part.first_chunk());
  request.mutable_scrub()->set_chunks(part.chunks());
  return request;
}

Status CheckAsk(const proto::ScrubNodesRequest& request, const proto::AskingUser& user) {
  if (request.parts().empty() || request.parts_size() > kMaxScrubParts) {
    return Error(Errc::kInvalidArgument,
                 "a scrub of " + std::to_string(request.parts_size()) + " parts; 1 to " +
                     std::to_string(kMaxScrubParts));
  }
  if (request.timeout_ms() == 0 || request.timeout_ms() > kMaxNodeTimeout.count()) {
    return Error(Errc::kInvalidArgument,
                 "a time of " + std::to_string(request.timeout_ms()) + " ms for each part; 1 to " +
                     std::to_string(kMaxNodeTimeout.count()));
  }
  for (const proto::ScrubPart& part : request.parts()) {
    if (part.node_uuid().size() != transport::kUuidBytes) {
      return Error(Errc::kInvalidArgument, "a node's uuid of another length than 16 bytes");
    }
    proto::PeerRequest sent = RequestOf(part, user);
    sent.set_deadline_ms(request.timeout_ms());
    HF_TRYV(transport::CheckRequest(sent, ""));
  }
  return Ok();
}

// A node may be of another version, or broken.
Status CheckReply(const proto::ScrubPart& part, const proto::ScrubReply& reply) {
  bool sane = reply.bytes() <= part.chunks() * kChunkBytes &&
              static_cast<std::uint64_t>(reply.bad_chunks_size()) <= part.chunks();
  for (const std::uint64_t chunk : reply.bad_chunks()) {
    sane = sane && chunk >= part.first_chunk() && chunk - part.first_chunk() < part.chunks();
  }
  return sane ? Status(Ok())
              : Status(Error(Errc::kInternal,
                             "its answer cannot be believed: it names what was not asked for"));
}

}  // namespace

ClusterScrub::ClusterScrub(const asio::any_io_executor& executor,
                           std::string node_uuid,
                           Hooks hooks)
    : executor_(executor),
      node_uuid_(std::move(node_uuid)),
      hooks_(std::move(hooks)),
      tasks_(executor, "cluster scrub", kMaxScrubs) {}

void ClusterScrub::Ask(proto::ScrubNodesRequest request, proto::AskingUser user, Done done) {
  if (const Status status = CheckAsk(request, user); !status.has_value()) {
    done(status.error());
    return;
  }
  if (!tasks_.Spawn(Run(std::move(request), std::move(user), done))) {
    done(Error(Errc::kUnavailable, "others verify through this daemon already; try again"));
  }
}

asio::awaitable<void> ClusterScrub::Run(proto::ScrubNodesRequest request,
                                        proto::AskingUser user,
                                        Done done) {
  const std::chrono::milliseconds limit(request.timeout_ms());
  std::vector<proto::ScrubResult> results(static_cast<std::size_t>(request.parts_size()));
  const auto work = [&](std::size_t i) {
    return ScrubOne(request.parts(static_cast<int>(i)), user, limit, &results[i]);
  };
  co_await FanOut(executor_, results.size(), results.size(), work);
  if (co_await Cancelled()) {
    done(Error(Errc::kCancelled, "the daemon is ending"));
    co_return;
  }
  proto::ScrubNodesReply reply;
  for (proto::ScrubResult& result : results) {
    *reply.add_results() = std::move(result);
  }
  done(std::move(reply));
}

asio::awaitable<void> ClusterScrub::ScrubOne(const proto::ScrubPart& part,
                                             const proto::AskingUser& user,
                                             std::chrono::milliseconds limit,
                                             proto::ScrubResult* result) {
  auto scrubbed = co_await Send(part.node_uuid(), RequestOf(part, user), limit);
  Status status = Ok();
  if (scrubbed.has_value()) {
    status = CheckReply(part, scrubbed.value());
  } else {
    status = scrubbed.error();
  }
  if (!status.has_value()) {
    result->set_error_code(static_cast<std::uint32_t>(status.error().code));
    result->set_error(status.error().message);
    co_return;
  }
  result->set_bytes(scrubbed.value().bytes());
  *result->mutable_bad_chunks() = scrubbed.value().bad_chunks();
}

asio::awaitable<Result<proto::ScrubReply>> ClusterScrub::Send(std::string node,
                                                              proto::PeerRequest request,
                                                              std::chrono::milliseconds limit) {
  if (node == node_uuid_) {
    co_return co_await WithTimeout(limit, hooks_.own(request.scrub()));
  }
  if (hooks_.call == nullptr) {
    co_return Error(Errc::kUnavailable, "the daemon that was asked has no peers (peer.listen)");
  }
  HF_CO_TRY(proto::PeerReply reply, co_await hooks_.call(node, std::move(request), limit));
  co_return std::move(*reply.mutable_scrub());
}

}  // namespace holdfast::daemon
