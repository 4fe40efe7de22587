// The C ABI: connection, identity, statistics, end.  The contract is holdfast.h.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "client/build_info.h"
#include "client/capi_internal.h"
#include "client/engine_choice.h"
#include "client/version.h"
#include "common/failpoint.h"
#include "layout/utf8.h"

namespace holdfast::client {
namespace {

constexpr std::uint32_t kMaxCopyThreads = 256;
constexpr std::size_t kMaxTiers = 64;

std::string& LastError() {
  thread_local std::string text;
  return text;
}

Result<hf_options> CheckedOptions(const hf_options* given) {
  hf_options options;
  hf_options_init(&options);
  if (given == nullptr) {
    return options;
  }
  if (given->struct_size != sizeof(hf_options)) {
    return Error(Errc::kVersionMismatch,
                 "hf_options of " + std::to_string(given->struct_size) +
                     " bytes, this library's "
                     "has " +
                     std::to_string(sizeof(hf_options)) +
                     ": call hf_options_init, and build against this library's header");
  }
  options = *given;
  options.request_timeout_ms =
      options.request_timeout_ms == 0 ? 10'000 : options.request_timeout_ms;
  options.sample_fraction =
      options.sample_fraction == 0 ? kDefaultSampleFraction : options.sample_fraction;
  if (options.copy_threads > kMaxCopyThreads || options.slots_wanted == 1 ||
      !(options.sample_fraction > 0 && options.sample_fraction <= 1) ||
      options.staging_percent > 100) {
    return Error(Errc::kInvalidArgument,
                 "hf_options: copy_threads at most 256, slots_wanted 0 or at least 2, "
                 "sample_fraction above 0 and at most 1, staging_percent at most 100");
  }
  return options;
}

SessionOptions ToSessionOptions(const std::string& socket_path, const hf_options& options) {
  SessionOptions session;
  session.connection.socket_path = socket_path;
  session.connection.reply_timeout = std::chrono::milliseconds(options.request_timeout_ms);
  session.slots_wanted = options.slots_wanted;
  session.small_tensor_bytes = options.small_tensor_bytes;
  session.begin_wait = std::chrono::milliseconds(options.begin_wait_ms);
  session.request_timeout = std::chrono::milliseconds(options.request_timeout_ms);
  session.sample_fraction = options.sample_fraction;
  return session;
}

EngineOptions ToEngineOptions(const hf_options& options) {
  EngineOptions engine;
  engine.threads = options.copy_threads;
  engine.verify_every = options.verify_every;
  engine.staging_share = options.staging_percent / 100.0;
  if (options.gather_bytes > 0) {
    engine.most_gathered = options.gather_bytes;
  }
  return engine;
}

std::uint64_t Ns(std::chrono::nanoseconds duration) {
  return static_cast<std::uint64_t>(duration.count());
}

void FillStats(const SessionStats& stats, hf_stats* out) {
  *out = hf_stats{};
  out->begun = stats.begun;
  out->sealed = stats.sealed;
  out->skipped = stats.skipped;
  out->torn = stats.torn;
  out->failed = stats.failed;
  out->copied_bytes = stats.copied_bytes;
  out->static_copied_bytes = stats.static_copied_bytes;
  out->image_bytes = stats.image_bytes;
  out->static_bytes = stats.static_bytes;
  out->copy_ns = Ns(stats.copy);
  out->fence_wait_ns = Ns(stats.fence_wait);
  out->snapshot_ns = Ns(stats.snapshot);
  out->last_copy_ns = Ns(stats.last_copy);
  out->last_fence_wait_ns = Ns(stats.last_fence_wait);
  out->last_snapshot_ns = Ns(stats.last_snapshot);
  out->reconnects = stats.reconnects;
  out->last_begun_step = stats.last_begun_step;
  out->last_sealed_step = stats.last_sealed_step;
  out->last_complete_step = stats.last_complete_step;
  out->last_durable_step = stats.last_durable_step;
  out->device_wait_ns = Ns(stats.device_wait);
  out->last_device_wait_ns = Ns(stats.last_device_wait);
  out->pinned_slots = stats.engine.pinned_slots;
  out->unpinned_slots = stats.engine.unpinned_slots;
  out->unpinned_bytes = stats.engine.unpinned.bytes;
  out->unpinned_copy_ns = Ns(stats.engine.unpinned.took);
  out->connected = stats.connected ? 1 : 0;
  out->fenced = stats.fenced ? 1 : 0;
  CopyText(stats.engine.note, out->note, sizeof out->note);
}

}  // namespace

Status ReadTiers(const hf_tier* tiers,
                 std::size_t count,
                 google::protobuf::RepeatedPtrField<proto::TierPolicy>* policies) {
  if (count > kMaxTiers || (count > 0 && tiers == nullptr)) {
    return Error(Errc::kInvalidArgument, "tiers: NULL, or more than 64");
  }
  for (std::size_t i = 0; i < count; ++i) {
    HF_TRYV(CheckText(tiers[i].root, "the root of a tier"));
    proto::TierPolicy* tier = policies->Add();
    tier->set_root(tiers[i].root);
    tier->set_scope(tiers[i].node_scope != 0 ? proto::NODE : proto::SHARED);
    tier->set_every_steps(tiers[i].every_steps);
    tier->set_every_seconds(tiers[i].every_seconds);
    tier->set_keep_last(tiers[i].keep_last);
    tier->set_keep_every_steps(tiers[i].keep_every_steps);
  }
  return Ok();
}

int Fail(int code, std::string message) {
  LastError() = std::move(message);
  return code;
}

const char* LastErrorText() {
  return LastError().c_str();
}

void CopyText(const std::string& text, char* field, std::size_t field_bytes) {
  std::size_t bytes = std::min(text.size(), field_bytes - 1);
  while (bytes > 0 && bytes < text.size() && (text[bytes] & 0xC0) == 0x80) {
    --bytes;  // not into the middle of a UTF-8 character
  }
  std::memcpy(field, text.data(), bytes);
  field[bytes] = '\0';
}

Status CheckText(const char* text, const char* what) {
  if (text == nullptr || !layout::IsUtf8(text)) {
    return Error(Errc::kInvalidArgument, std::string(what) + " is NULL or not UTF-8");
  }
  return Ok();
}

}  // namespace holdfast::client

using namespace holdfast;          // NOLINT: the functions below are the ABI, outside any namespace
using namespace holdfast::client;  // NOLINT

extern "C" {

uint32_t hf_abi_version(void) {
  return HF_ABI_VERSION;
}

const char* hf_version(void) {
  static const std::string version = std::string(kVersion) + " (" + CopyEngines() + ")";
  return version.c_str();
}

const char* hf_last_error(void) {
  return LastErrorText();
}

int hf_arm_failpoints(const char* specification) {
  return Guarded([&]() -> Status {
    HF_TRYV(CheckText(specification, "the specification"));
    return ArmFailpoints(specification);
  });
}

void hf_options_init(hf_options* options) {
  if (options == nullptr) {
    return;
  }
  *options = hf_options{};
  options->struct_size = sizeof(hf_options);
  options->small_tensor_bytes = 16 * 1024;
  options->request_timeout_ms = 10'000;
  options->sample_fraction = kDefaultSampleFraction;
  options->staging_percent = 50;
}

int hf_connect(const char* socket_path,
               const hf_options* options,
               uint32_t timeout_ms,
               hf_client** out) {
  return Guarded([&]() -> Status {
    if (out == nullptr) {
      return Error(Errc::kInvalidArgument, "out is NULL");
    }
    *out = nullptr;
    HF_TRYV(CheckText(socket_path, "the socket path"));
    HF_TRY(const hf_options checked, CheckedOptions(options));
    auto client = std::make_unique<hf_client>();
    client->session = std::make_shared<Session>(ToSessionOptions(socket_path, checked),
                                                MakeCopyEngine(ToEngineOptions(checked)));
    HF_TRYV(client->session->Connect(After(timeout_ms)));
    *out = client.release();
    return Ok();
  });
}

void hf_close(hf_client* client) {
  if (client == nullptr || client->session->Forked()) {
    return;  // the threads to be joined, and perhaps held locks, are the parent's: leaked here
  }
  const std::unique_ptr<hf_client> owned(client);
  Guarded([&]() -> Status {
    owned->session->Close();
    return Ok();
  });
}

int hf_open_incarnation(hf_client* client,
                        const char* job_name,
                        uint32_t world_size,
                        const hf_tier* tiers,
                        size_t tier_count,
                        uint32_t take_over,
                        hf_incarnation* out) {
  return WithSession(SessionOf(client), [&](Session& session) -> Status {
    proto::OpenIncarnationRequest request;
    HF_TRYV(CheckText(job_name, "the job's name"));
    HF_TRYV(ReadTiers(tiers, tier_count, request.mutable_tiers()));
    if (out == nullptr || world_size == 0) {
      return Error(Errc::kInvalidArgument, "out is NULL, or the world size is 0");
    }
    request.set_job_name(job_name);
    request.set_world_size(world_size);
    request.set_take_over(take_over != 0);
    HF_TRY(const Incarnation opened, session.OpenIncarnation(request));
    *out = hf_incarnation{};
    std::memcpy(out->job_uid, opened.job_uid.data(), sizeof out->job_uid);
    out->number = opened.number;
    out->token = opened.token;
    return Ok();
  });
}

int hf_join(hf_client* client,
            const char* job_name,
            const hf_incarnation* incarnation,
            uint32_t rank,
            uint32_t world_size) {
  return WithSession(SessionOf(client), [&](Session& session) -> Status {
    HF_TRYV(CheckText(job_name, "the job's name"));
    if (incarnation == nullptr) {
      return Error(Errc::kInvalidArgument, "the incarnation is NULL");
    }
    Incarnation joined;
    joined.job_uid.assign(reinterpret_cast<const char*>(incarnation->job_uid),
                          sizeof incarnation->job_uid);
    joined.number = incarnation->number;
    joined.token = incarnation->token;
    return session.Join(job_name, joined, rank, world_size);
  });
}

int hf_get_stats(hf_client* client, hf_stats* out) {
  return WithSession(SessionOf(client), [&](Session& session) -> Status {
    if (out == nullptr) {
      return Error(Errc::kInvalidArgument, "out is NULL");
    }
    FillStats(session.Stats(), out);
    return Ok();
  });
}

int hf_why_away(hf_client* client, char* reason, size_t reason_bytes) {
  return WithSession(SessionOf(client), [&](Session& session) -> Status {
    if (reason == nullptr || reason_bytes == 0) {
      return Error(Errc::kInvalidArgument, "reason is NULL, or has no room");
    }
    CopyText(session.WhyAway(), reason, reason_bytes);
    return Ok();
  });
}

int hf_drain(hf_client* client, uint32_t timeout_ms, hf_drained* out) {
  return WithSession(SessionOf(client), [&](Session& session) -> Status {
    if (out == nullptr) {
      return Error(Errc::kInvalidArgument, "out is NULL");
    }
    *out = hf_drained{};
    out->step = -1;
    HF_TRY(const proto::DrainReply drained, session.Drain(After(timeout_ms)));
    if (drained.has_id()) {
      out->incarnation = drained.id().incarnation();
      out->step = drained.id().step();
    }
    out->durable = drained.durable() ? 1 : 0;
    CopyText(drained.reason(), out->reason, sizeof out->reason);
    return Ok();
  });
}

int hf_flush_progress(hf_client* client, hf_flushing* out, uint32_t capacity, uint32_t* count) {
  return WithSession(SessionOf(client), [&](Session& session) -> Status {
    if (count == nullptr || (out == nullptr && capacity > 0)) {
      return Error(Errc::kInvalidArgument, "out or count is NULL");
    }
    HF_TRY(const std::vector<proto::TierStatus> tiers, session.Tiers());
    *count = static_cast<uint32_t>(tiers.size());
    for (uint32_t i = 0; i < std::min(capacity, *count); ++i) {
      const proto::TierStatus& tier = tiers[i];
      hf_flushing* one = out + i;
      *one = hf_flushing{};
      CopyText(tier.root(), one->root, sizeof one->root);
      CopyText(tier.last_error(), one->last_error, sizeof one->last_error);
      one->incarnation = tier.flushing().incarnation();
      one->step = tier.has_flushing() ? tier.flushing().step() : -1;
      one->bytes = tier.flushing_bytes();
      one->done_bytes = tier.flushing_done_bytes();
    }
    return Ok();
  });
}

int hf_finish(hf_client* client, uint64_t* freed_bytes) {
  return WithSession(SessionOf(client), [&](Session& session) -> Status {
    HF_TRY(const std::uint64_t freed, session.Finish());
    if (freed_bytes != nullptr) {
      *freed_bytes = freed;
    }
    return Ok();
  });
}

}  // extern "C"
