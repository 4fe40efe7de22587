#include "daemon/reply_filler.h"

#include <algorithm>
#include <chrono>

#include <unistd.h>

#include "common/log.h"
#include "daemon/pipeline/context.h"

namespace holdfast::daemon {

bool ReplyFiller::AddLayout(proto::Sidecar* sidecar) const {
  if (sidecar->has_layout() || sidecar->layout_hash().empty()) {
    return true;
  }
  const SharedLayout layout = layouts_->Find(sidecar->layout_hash());
  if (layout == nullptr) {
    return false;
  }
  *sidecar->mutable_layout() = *layout;
  return true;
}

void ReplyFiller::Complete(proto::ServerMessage* message) const {
  bool complete = true;
  if (message->has_status()) {
    CompleteStatus(message->mutable_status());
  } else if (message->has_restore() && message->restore().has_sidecar()) {
    complete = AddLayout(message->mutable_restore()->mutable_sidecar());
  } else if (message->has_open_shard() && message->open_shard().has_sidecar()) {
    complete = AddLayout(message->mutable_open_shard()->mutable_sidecar());
  }
  if (complete) {
    return;
  }
  LogError("layout.unknown", "an answer with a sidecar could not be sent: its layout is not known");
  const std::uint64_t request = message->request_id();
  message->Clear();
  message->set_request_id(request);
  message->mutable_error()->set_code(static_cast<std::uint32_t>(Errc::kInternal));
  message->mutable_error()->set_message("the layout of this shard is not known to the daemon");
}

// The core knows of whole shards; how far those under way are, only who writes them.
void ReplyFiller::CompleteTier(const Tier& tier, const JobUid& job, proto::TierStatus* out) {
  if (tier.sickness().has_value()) {
    out->set_healthy(false);
    out->set_last_error(tier.sickness()->message);
  }
  if (out->has_flushing()) {
    const ByteCount moving = tier.BytesWritten(FlushKeyPrefix(job, KeyOf(out->flushing())));
    // A try that was given up may still hold its key beside the next one.
    out->set_flushing_done_bytes(
        std::min(out->flushing_bytes(), out->flushing_done_bytes() + moving));
  }
}

void ReplyFiller::CompleteStatus(proto::StatusReply* status) const {
  const auto uptime = SystemClock().Now() - facts_.started;
  status->set_software_version(facts_.software_version);
  status->set_node_uuid(facts_.node_uuid);
  status->set_boot_number(facts_.boot_number);
  status->set_daemon_pid(::getpid());
  status->set_uptime_seconds(
      static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::seconds>(uptime).count()));
  status->mutable_arena()->set_path(facts_.arena_path);
  status->set_state_dir(facts_.state_dir);
  status->set_metrics_address(facts_.metrics_address);
  for (const std::string& warning : facts_.warnings) {
    status->add_warnings(warning);
  }
  if (const auto error = catalog_error_(); error.has_value()) {
    status->add_warnings("the catalog cannot be written, snapshots wait: " + error->message);
  }
  add_peers_(status);
  for (const auto& [root, tier] : tiers_->all()) {
    if (tier->sickness().has_value()) {
      status->add_warnings(root + ": " + tier->sickness()->message);
    }
  }
  for (proto::JobStatus& job : *status->mutable_jobs()) {
    for (proto::TierStatus& tier : *job.mutable_tiers()) {
      const auto found = tiers_->all().find(tier.root());
      if (found != tiers_->all().end()) {
        CompleteTier(*found->second, job.job_uid(), &tier);
      }
    }
  }
}

}  // namespace holdfast::daemon
