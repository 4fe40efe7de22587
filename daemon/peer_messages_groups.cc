#include "daemon/peer_messages_groups.h"

#include <algorithm>
#include <string>
#include <utility>

#include "layout/names.h"

namespace holdfast::daemon {
namespace {

constexpr std::size_t kUuidBytes = 16;
constexpr int kMostMembers = 64;
constexpr std::uint32_t kMostRows = 8;
constexpr std::size_t kMostWords = 4'096;

Error Invalid(const std::string& what) {
  return Error(Errc::kInvalidArgument, "a peer's message: " + what);
}

void Fill(const SnapshotKey& key, proto::PeerSnapshotKey* out) {
  out->set_incarnation(key.incarnation);
  out->set_step(key.step);
}

Result<SnapshotKey> KeyOf(const proto::PeerSnapshotKey& key) {
  if (key.incarnation() == 0 || key.step() < 0) {
    return Invalid("parity of no snapshot");
  }
  return SnapshotKey{key.incarnation(), key.step()};
}

Status CheckNode(const std::string& uuid) {
  return uuid.size() == kUuidBytes ? Status(Ok()) : Invalid("a node whose uuid has no 16 bytes");
}

Result<std::set<std::uint32_t>> RowsOf(const google::protobuf::RepeatedField<std::uint32_t>& rows) {
  std::set<std::uint32_t> out;
  for (const std::uint32_t row : rows) {
    if (row >= kMostRows) {
      return Invalid("a row " + std::to_string(row));
    }
    out.insert(row);
  }
  return out;
}

Result<GroupView> GroupOf(const proto::PeerGroup& group) {
  if (group.node_uuids_size() > kMostMembers) {
    return Invalid("a group of " + std::to_string(group.node_uuids_size()) + " nodes");
  }
  for (const std::string& uuid : group.node_uuids()) {
    HF_TRYV(CheckNode(uuid));
  }
  return GroupView{{group.node_uuids().begin(), group.node_uuids().end()},
                   group.data(),
                   group.parity(),
                   group.reduced(),
                   {group.uncovered_domains().begin(), group.uncovered_domains().end()}};
}

void FillHeld(const HeldSet& held, proto::HeldCodeSet* out) {
  *out->mutable_set() = ToProto(held.set);
  for (const CodeHolder& holder : held.holders) {
    proto::PeerHolder* entry = out->add_holders();
    entry->set_shard_node(holder.shard_node);
    for (const auto& [row, groups] : holder.rows) {
      proto::PeerRow* named = entry->add_rows();
      named->set_row(row);
      named->set_group_epoch(groups.epoch);
      named->set_group_version(groups.version);
    }
  }
}

// I9: rows are places in what is decoded from.
Status CheckRow(std::uint32_t row, const CodeSet& set) {
  return row < set.geometry.code.parity
             ? Status(Ok())
             : Invalid("row " + std::to_string(row) + " of a code with " +
                       std::to_string(set.geometry.code.parity));
}

Result<HeldSet> HeldOf(const proto::HeldCodeSet& held) {
  HF_TRY(CodeSet set, FromProto(held.set()));
  if (static_cast<std::uint32_t>(held.holders_size()) != set.Count()) {
    return Invalid("a code set of " + std::to_string(set.Count()) + " members with " +
                   std::to_string(held.holders_size()) + " holders");
  }
  HeldSet out{std::move(set), {}};
  for (const proto::PeerHolder& holder : held.holders()) {
    HF_TRYV(holder.shard_node().empty() ? Status(Ok()) : CheckNode(holder.shard_node()));
    CodeHolder& read = out.holders.emplace_back();
    read.shard_node = holder.shard_node();
    for (const proto::PeerRow& row : holder.rows()) {
      HF_TRYV(CheckRow(row.row(), out.set));
      read.rows[row.row()] = {row.group_epoch(), row.group_version()};
    }
  }
  return out;
}

}  // namespace

Result<std::uint32_t> WorldOf(std::uint32_t size) {
  if (size > layout::kMaxWorldSize) {
    return Invalid("a world of " + std::to_string(size) + " ranks");
  }
  return size;
}

std::string ReasonOf(const std::string& words) {
  return words.substr(0, kMostWords);
}

void FillOrder(const ShardOrder& order, Rank rank, proto::ShardOrder* out) {
  out->set_rank(rank);
  out->set_image_bytes(order.image_bytes);
  out->mutable_sidecar_nodes()->Assign(order.sidecar_nodes.begin(), order.sidecar_nodes.end());
  if (order.held.has_value()) {
    FillHeld(*order.held, out->mutable_held());
  }
  if (order.static_held.has_value()) {
    FillHeld(*order.static_held, out->mutable_static_held());
  }
}

Result<ShardOrder> OrderOf(const proto::ShardOrder& order) {
  ShardOrder out;
  out.image_bytes = order.image_bytes();
  for (const std::string& uuid : order.sidecar_nodes()) {
    HF_TRYV(CheckNode(uuid));
    out.sidecar_nodes.push_back(uuid);
  }
  if (order.has_held()) {
    HF_TRY(out.held, HeldOf(order.held()));
  }
  if (order.has_static_held()) {
    HF_TRY(out.static_held, HeldOf(order.static_held()));
  }
  return out;
}

void FillKnown(const Report& report, proto::PeerReport* out) {
  for (const auto& [uuid, endpoints] : report.known_nodes) {
    proto::KnownNode* node = out->add_known_nodes();
    node->set_node_uuid(uuid);
    node->mutable_endpoints()->Assign(endpoints.begin(), endpoints.end());
  }
  for (const DecisionOf& known : report.decisions) {
    proto::KnownDecision* decision = out->add_decisions();
    decision->set_number(known.epoch.number);
    decision->set_token(known.epoch.token);
    decision->set_world_size(known.world_size);
    *decision->mutable_decision() = known.decision;
  }
}

Status ReadKnown(const proto::PeerReport& message, Report* out) {
  for (const auto& node : message.known_nodes()) {
    if (node.node_uuid().size() != 16) {
      return Invalid("a node whose uuid has no 16 bytes");
    }
    out->known_nodes[node.node_uuid()].assign(node.endpoints().begin(), node.endpoints().end());
  }
  for (const auto& known : message.decisions()) {
    if (known.number() == 0) {
      return Invalid("a decision of no incarnation");
    }
    const Epoch epoch{known.number(), known.token()};
    out->decisions.push_back({epoch, known.world_size(), known.decision()});
  }
  return Ok();
}

void FillGroups(const Report& report, proto::PeerReport* out) {
  out->set_failure_domain(report.failure_domain);
  out->set_parity_error(report.parity_error);
  for (const ParityEntry& entry : report.parity) {
    proto::ParityState* state = out->add_parity();
    Fill(entry.id, state->mutable_id());
    state->set_token(entry.token);
    state->set_local_rank(entry.local_rank);
    state->set_epoch_number(entry.epoch);
    state->set_version(entry.version);
    state->mutable_rows()->Assign(entry.rows.begin(), entry.rows.end());
    state->set_kind(entry.kind);
    state->set_shares_static(entry.shares_static);
    if (entry.set.has_value()) {
      *state->mutable_set() = ToProto(*entry.set);
    }
  }
  for (const SidecarEntry& entry : report.sidecars) {
    proto::SidecarState* state = out->add_sidecars();
    Fill(entry.id, state->mutable_id());
    state->set_token(entry.token);
    state->mutable_ranks()->Assign(entry.ranks.begin(), entry.ranks.end());
  }
}

void FillGroups(const Command& command, proto::PeerCommand* out) {
  out->set_coded(command.coded);
  out->set_not_coded(command.not_coded);
  out->set_group_version(command.group_version);
  out->set_choice_token(command.choice_token);
  if (command.group.has_value()) {
    proto::PeerGroup* group = out->mutable_group();
    group->mutable_node_uuids()->Assign(command.group->nodes.begin(), command.group->nodes.end());
    group->set_data(command.group->data);
    group->set_parity(command.group->parity);
    group->set_reduced(command.group->reduced);
    group->mutable_uncovered_domains()->Assign(command.group->uncovered_domains.begin(),
                                               command.group->uncovered_domains.end());
  }
  if (command.protect.has_value()) {
    proto::ProtectOrder* order = out->mutable_protect();
    Fill(command.protect->id, order->mutable_id());
    order->set_token(command.protect->token);
    for (const CodeSet& set : command.protect->sets) {
      *order->add_sets() = ToProto(set);
    }
  }
  if (command.protected_id.has_value()) {
    Fill(*command.protected_id, out->mutable_protected_id());
  }
  for (const SnapshotKey& id : command.lost) {
    Fill(id, out->add_lost());
  }
  for (const std::string& node : command.silent) {
    out->add_silent(node);
  }
  for (const auto& [id, margin] : command.margins) {
    proto::IdMargin* entry = out->add_margins();
    Fill(id, entry->mutable_id());
    entry->set_margin(margin);
  }
  for (const auto& [rank, order] : command.orders) {
    FillOrder(order, rank, out->add_shard_orders());
  }
}

Status ReadGroups(const proto::PeerReport& message, Report* out) {
  out->failure_domain = message.failure_domain();
  out->parity_error = message.parity_error();
  out->parity.reserve(static_cast<std::size_t>(message.parity_size()));
  for (const proto::ParityState& state : message.parity()) {
    ParityEntry entry;
    HF_TRY(entry.id, KeyOf(state.id()));
    entry.token = state.token();
    entry.local_rank = state.local_rank();
    entry.epoch = state.epoch_number();
    entry.version = state.version();
    HF_TRY(entry.rows, RowsOf(state.rows()));
    entry.kind = state.kind();
    entry.shares_static = state.shares_static();
    if (state.has_set()) {
      HF_TRY(entry.set, FromProto(state.set()));
      for (const std::uint32_t row : entry.rows) {
        HF_TRYV(CheckRow(row, *entry.set));
      }
    }
    out->parity.push_back(std::move(entry));
  }
  out->sidecars.reserve(static_cast<std::size_t>(message.sidecars_size()));
  for (const proto::SidecarState& state : message.sidecars()) {
    SidecarEntry entry;
    HF_TRY(entry.id, KeyOf(state.id()));
    entry.token = state.token();
    entry.ranks.assign(state.ranks().begin(), state.ranks().end());
    std::sort(entry.ranks.begin(), entry.ranks.end());
    entry.ranks.erase(std::unique(entry.ranks.begin(), entry.ranks.end()), entry.ranks.end());
    out->sidecars.push_back(std::move(entry));
  }
  return Ok();
}

Status ReadGroups(const proto::PeerCommand& message, Command* out) {
  out->coded = message.coded();
  out->not_coded = message.not_coded();
  out->group_version = message.group_version();
  out->choice_token = message.choice_token();
  if (message.has_group()) {
    HF_TRY(out->group, GroupOf(message.group()));
  }
  if (message.has_protect()) {
    ProtectTarget target;
    HF_TRY(target.id, KeyOf(message.protect().id()));
    target.token = message.protect().token();
    for (const proto::CodeSetRecord& set : message.protect().sets()) {
      HF_TRY(CodeSet read, FromProto(set));
      target.sets.push_back(std::move(read));
    }
    out->protect = std::move(target);
  }
  if (message.has_protected_id()) {
    HF_TRY(out->protected_id, KeyOf(message.protected_id()));
  }
  for (const proto::PeerSnapshotKey& lost : message.lost()) {
    HF_TRY(const SnapshotKey id, KeyOf(lost));
    out->lost.insert(id);
  }
  out->silent.insert(message.silent().begin(), message.silent().end());
  for (const proto::IdMargin& entry : message.margins()) {
    HF_TRY(const SnapshotKey id, KeyOf(entry.id()));
    out->margins[id] = entry.margin();
  }
  for (const proto::ShardOrder& order : message.shard_orders()) {
    HF_TRY(ShardOrder read, OrderOf(order));
    if (!out->orders.emplace(order.rank(), std::move(read)).second) {
      return Invalid("two orders for rank " + std::to_string(order.rank()));
    }
  }
  return Ok();
}

}  // namespace holdfast::daemon
