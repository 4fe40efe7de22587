#include "cli/cluster/ask_nodes.h"

#include <algorithm>
#include <utility>

#include "cli/interrupt.h"
#include "layout/names.h"

namespace holdfast::cli {
namespace {

constexpr std::size_t kUuidBytes = 16;
// Of a code set; a group of more nodes than bytes can name rows of.
constexpr int kMaxMembers = 256;
// The daemon asks the nodes of one page in two rounds; the rest is for itself.
constexpr std::chrono::milliseconds kOwnTime{15'000};
constexpr int kRoundsOfPage = 2;

bool AreUuids(const google::protobuf::RepeatedPtrField<std::string>& uuids) {
  return std::all_of(uuids.begin(), uuids.end(), [](const std::string& uuid) {
    return uuid.size() == kUuidBytes;
  });
}

bool IsSane(const proto::HeldRows& held) {
  const proto::CodeSetRecord& set = held.set();
  const int count = set.node_uuids_size();
  const bool shape = count >= 2 && count <= kMaxMembers && AreUuids(set.node_uuids()) &&
                     set.shard_bytes_size() == count && set.ranks_size() == count &&
                     set.data_shards() >= 1 && set.parity_shards() >= 1 &&
                     set.data_shards() < static_cast<std::uint32_t>(count) &&
                     set.parity_shards() == static_cast<std::uint32_t>(count) - set.data_shards();
  return shape && std::all_of(held.rows().begin(), held.rows().end(), [&](const auto& row) {
           return row.row() < set.parity_shards() &&
                  row.stripe() < static_cast<std::uint32_t>(count);
         });
}

Status CheckView(const proto::NodeAnswer& answer) {
  const proto::NodeView& view = answer.view();
  bool sane = view.status().node_uuid() == answer.node_uuid();
  for (const proto::JobStatus& job : view.status().jobs()) {
    HF_TRYV(layout::ValidateJobName(job.name()));
    sane = sane && std::all_of(job.members().begin(), job.members().end(), [](const auto& member) {
             return member.node_uuid().size() == kUuidBytes;
           });
    for (const proto::GroupStatus& group : job.groups()) {
      sane = sane && AreUuids(group.node_uuids());
    }
  }
  for (const proto::SnapshotInfo& snapshot : view.list().snapshots()) {
    HF_TRYV(layout::ValidateJobName(snapshot.job_name()));
    HF_TRYV(layout::ValidateSnapshotId(snapshot.id()));
    sane = sane && std::all_of(snapshot.held_rows().begin(), snapshot.held_rows().end(), IsSane);
  }
  return sane ? Status(Ok())
              : Status(Error(Errc::kCorruption, "it names nodes or rows that cannot be"));
}

void Believe(proto::NodeAnswer* answer) {
  if (!answer->has_view()) {
    return;
  }
  if (const Status status = CheckView(*answer); !status) {
    answer->clear_view();
    answer->set_error_code(static_cast<std::uint32_t>(Errc::kCorruption));
    answer->set_error("its answer cannot be believed: " + status.error().message);
  }
}

}  // namespace

Result<std::vector<proto::NodeAnswer>> AskNodes(AdminChannel& channel,
                                                const std::string& job,
                                                std::chrono::milliseconds timeout) {
  if (!job.empty()) {
    HF_TRYV(layout::ValidateJobName(job));
  }
  std::vector<proto::NodeAnswer> nodes;
  bool more = true;
  while (more) {
    if (InterruptFlag()->load()) {
      return Error(Errc::kCancelled, "interrupted");
    }
    proto::ClientMessage request;
    proto::AskNodesRequest* ask = request.mutable_ask_nodes();
    ask->set_job_name(job);
    ask->set_timeout_ms(static_cast<std::uint32_t>(timeout.count()));
    ask->set_after_node(nodes.empty() ? "" : nodes.back().node_uuid());
    HF_TRY(AdminReply reply,
           channel.Call(std::move(request),
                        proto::ServerMessage::kAskNodes,
                        kRoundsOfPage * timeout + kOwnTime));
    proto::AskNodesReply* page = reply.message.mutable_ask_nodes();
    more = page->more();
    for (proto::NodeAnswer& answer : *page->mutable_nodes()) {
      if (answer.node_uuid().size() != kUuidBytes ||
          (!nodes.empty() && answer.node_uuid() <= nodes.back().node_uuid())) {
        return Error(Errc::kInternal, "the daemon listed its nodes in no order");
      }
      Believe(&answer);
      nodes.push_back(std::move(answer));
    }
    if (page->nodes().empty() && more) {
      return Error(Errc::kInternal, "the daemon has more nodes and names none");
    }
  }
  return nodes;
}

bool AllAnswered(const std::vector<proto::NodeAnswer>& nodes) {
  return std::all_of(
      nodes.begin(), nodes.end(), [](const auto& answer) { return answer.has_view(); });
}

}  // namespace holdfast::cli
