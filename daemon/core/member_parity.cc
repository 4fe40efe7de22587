// Parity on this node: sidecars first, then the rows of the id that the coordinator protects: which
// are there already, and which are freed again (docs/peers.md).

#include <algorithm>
#include <utility>

#include "daemon/core/member.h"

namespace holdfast::daemon {

void Member::Protect() {
  const bool runs =
      command_.phase == Phase::kRun && command_.protect.has_value() && !job_->record.finished();
  GiveUpOtherRows(runs ? &*command_.protect : nullptr);
  if (!runs) {
    return;
  }
  const ProtectTarget& target = *command_.protect;
  NoteRowBill(target);
  for (const CodeSet& set : target.sets) {
    AdoptRows(target, set);
  }
  // I10: a row without the sidecars could not be told from a wrong one, nor what it decodes used.
  if (!HasSidecars(target)) {
    return;
  }
  for (const CodeSet& set : target.sets) {
    ShareRows(target, set);
    const auto position = set.PositionOfNode(context_->node_uuid);
    for (std::uint32_t row = 0; position.has_value() && row < set.geometry.code.parity; ++row) {
      TryRow(target, set, *position, row);
    }
  }
}

// Rows of the same nodes, ranks and lengths are the same bytes, whichever start made them: after a
// restart on the same nodes nothing is encoded anew.
void Member::AdoptRows(const ProtectTarget& target, const CodeSet& set) {
  const auto by_name = job_->rows.find(target.id);
  if (by_name == job_->rows.end()) {
    return;
  }
  std::vector<RowName> same;
  for (const auto& [name, row] : by_name->second) {
    const bool of_set = name.epoch == set.epoch && name.version == set.geometry.version;
    const RowName wanted = NameOf(set, name.row);
    if (!of_set && row.record.start_token() == target.token && IsSameCode(row.set, set) &&
        !by_name->second.contains(wanted)) {
      same.push_back(name);
    }
  }
  for (const RowName& name : same) {
    Row row = job_->rows.at(target.id).at(name);
    job_->EraseRow(context_, target.id, name);
    row.set = set;
    job_->PutRow(context_, target.id, std::move(row));
  }
}

// Static images that are the same give the same rows: they are made for the first id alone, and all
// others name them too.
void Member::ShareRows(const ProtectTarget& target, const CodeSet& set) {
  const auto lacks = [&](std::uint32_t row) {
    const auto held = job_->rows.find(target.id);
    const auto attempt = row_tries_.find({target.id, NameOf(set, row)});
    const bool is_made = attempt != row_tries_.end() && attempt->second.ticket != 0;
    return !is_made && (held == job_->rows.end() || !held->second.contains(NameOf(set, row)));
  };
  std::vector<Row> shared;
  for (std::uint32_t row = 0; set.kind == proto::STATIC && row < set.geometry.code.parity; ++row) {
    for (auto of_id = job_->rows.rbegin(); of_id != job_->rows.rend() && lacks(row); ++of_id) {
      const auto same = std::find_if(of_id->second.begin(), of_id->second.end(), [&](auto& entry) {
        return entry.first.row == row && IsSameCode(entry.second.set, set);
      });
      if (same != of_id->second.end() &&
          HaveSameStatics(
              set, {of_id->first, same->second.record.start_token()}, {target.id, target.token})) {
        shared.push_back(same->second);
        break;
      }
    }
  }
  for (Row& row : shared) {
    row.set = set;
    row.record.set_start_token(target.token);
    job_->PutRow(context_, target.id, std::move(row));
  }
}

// By the sidecars of both.  Not by the images' owners: of an image that was sealed for a newer id
// first, an older one says that it is its own.
bool Member::HaveSameStatics(const CodeSet& set, const IdOfStart& a, const IdOfStart& b) const {
  const auto image_of = [&](const IdOfStart& of, Rank rank) {
    const proto::Sidecar* sidecar = job_->FindSidecar(of.id, rank, of.token);
    return sidecar == nullptr ? nullptr : ImageOf(*sidecar, proto::STATIC);
  };
  for (std::uint32_t position = 0; position < set.Count(); ++position) {
    if (!set.HasShard(position)) {
      continue;
    }
    const proto::ImageDigest* one = image_of(a, set.ranks[position]);
    const proto::ImageDigest* other = image_of(b, set.ranks[position]);
    if (one == nullptr || other == nullptr || !HaveSameBytes(*one, *other)) {
      return false;
    }
  }
  return true;
}

bool Member::HasSidecars(const ProtectTarget& target) {
  FetchSidecars fetch;
  for (const CodeSet& set : target.sets) {
    for (std::uint32_t position = 0; position < set.Count(); ++position) {
      const Rank rank = set.ranks[position];
      const std::string& node = set.geometry.members[position];
      if (!set.HasShard(position) || node == context_->node_uuid) {
        continue;
      }
      const auto known = job_->sidecars.find(target.id);
      const bool has = known != job_->sidecars.end() && known->second.contains(rank) &&
                       known->second.at(rank).start_token() == target.token;
      if (!has) {
        fetch.from[rank] = {node};
      }
    }
  }
  if (fetch.from.empty()) {
    return true;
  }
  if (sidecar_fetch_.ticket != 0 || context_->now < sidecar_fetch_.retry.not_before) {
    return false;
  }
  fetch.ticket = context_->next_ticket++;
  fetch.job_uid = job_->uid();
  fetch.job_name = job_->record.name();
  fetch.id = target.id;
  sidecar_fetch_.ticket = fetch.ticket;
  sidecar_fetch_.id = target.id;
  sidecar_fetch_.token = target.token;
  context_->Do(std::move(fetch));
  return false;
}

bool Member::OnSidecarsFetched(std::uint64_t ticket, Result<std::vector<proto::Sidecar>> sidecars) {
  if (sidecar_fetch_.ticket != ticket) {
    return OnSidecarOfShard(ticket, std::move(sidecars));
  }
  sidecar_fetch_.ticket = 0;
  bool any = false;
  if (sidecars.has_value()) {
    for (proto::Sidecar& sidecar : sidecars.value()) {
      if (IsSidecarOf(sidecar, sidecar_fetch_.id)) {
        job_->PutSidecar(context_, std::move(sidecar), sidecar_fetch_.token);
        any = true;
      }
    }
  }
  if (any) {
    parity_error_.clear();
    sidecar_fetch_.retry = {};
  } else {
    sidecar_fetch_.retry.Failed(context_->now, context_->options);
    parity_error_ = "sidecars of " + ToText(sidecar_fetch_.id) + ": " +
                    (sidecars.has_value() ? "no node has them" : sidecars.error().message);
  }
  return true;
}

// I4: the rows of an id go with its shards.  Rows of another geometry than the present one go when
// their id is protected by the present one, or when a safer id is kept beside it.
bool Member::MayFreeRow(const SnapshotKey& id, const RowName& name) const {
  if (MayRetire(id, NewestSafe())) {
    return true;
  }
  const bool present =
      name.epoch == job_->record.epoch_number() && name.version == command_.group_version;
  if (!command_.coded || command_.group_version == 0 || present) {
    return false;
  }
  const bool target = command_.protect.has_value() && command_.protect->id == id;
  return id == command_.protected_id || (target && command_.protected_id.has_value()) ||
         job_->HasSaferFallbackThan(id);
}

void Member::FreeRow(const SnapshotKey& id, const RowName& name) {
  const std::optional<SlotRef> ref = job_->rows.at(id).at(name).slot;
  job_->EraseRow(context_, id, name);
  if (ref.has_value() && !job_->HasRowIn(*ref)) {
    Slot* slot = context_->slots.Find(*ref);
    context_->slots.Apply(slot, SlotEvent::kRetire, context_->batch());
  }
}

void Member::DropRow(SlotRef ref, const std::string& reason) {
  std::vector<std::pair<SnapshotKey, RowName>> bad;
  for (const auto& [id, by_name] : job_->rows) {
    for (const auto& [name, row] : by_name) {
      if (row.slot == ref) {
        bad.emplace_back(id, name);
      }
    }
  }
  for (const auto& [id, name] : bad) {
    parity_error_ = "a row of " + ToText(id) + " was bad: " + reason;
    context_->slots.Find(ref)->spoilt = true;
    FreeRow(id, name);
  }
}

void Member::RetireRows() {
  std::vector<std::pair<SnapshotKey, RowName>> victims;
  for (const auto& [id, by_name] : job_->rows) {
    for (const auto& [name, row] : by_name) {
      if (MayFreeRow(id, name)) {
        victims.emplace_back(id, name);
      }
    }
  }
  for (const auto& [id, name] : victims) {
    FreeRow(id, name);
  }
  std::vector<SnapshotKey> gone;
  for (const auto& [id, by_rank] : job_->sidecars) {
    if (!job_->rows.contains(id) && MayRetire(id, NewestSafe())) {
      gone.push_back(id);
    }
  }
  for (const SnapshotKey& id : gone) {
    job_->EraseSidecars(context_, id);
  }
}

void Member::FreeParity(const SnapshotKey& id) {
  while (job_->rows.contains(id)) {
    FreeRow(id, RowName(job_->rows.at(id).begin()->first));
  }
  job_->EraseSidecars(context_, id);
}

}  // namespace holdfast::daemon
