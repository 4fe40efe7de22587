// The C ABI: restore.  The contract is holdfast.h.
#include <string>
#include <utility>
#include <vector>

#include "client/capi_internal.h"
#include "client/engine_choice.h"

using namespace holdfast;          // NOLINT: the functions below are the ABI, outside any namespace
using namespace holdfast::client;  // NOLINT

extern "C" {

int hf_restore_begin(hf_client* client,
                     int64_t named_step,
                     uint32_t flags,
                     uint32_t after_attempt,
                     uint32_t timeout_ms,
                     hf_restore** out,
                     hf_restore_choice* choice) {
  return WithSession(SessionOf(client), [&](Session& session) -> Status {
    if (out == nullptr || choice == nullptr || named_step < -1) {
      return Error(Errc::kInvalidArgument, "out or choice is NULL, or the step is negative");
    }
    *out = nullptr;
    *choice = hf_restore_choice{};
    RestoreWish wish;
    if (named_step >= 0) {
      wish.named_step = named_step;
    }
    wish.include_discarded = (flags & HF_RESTORE_INCLUDE_DISCARDED) != 0;
    wish.overwritten = (flags & HF_RESTORE_OVERWRITTEN) != 0;
    wish.after_attempt = after_attempt;
    auto handle = std::make_unique<hf_restore>();
    handle->session = client->session;
    HF_TRY(handle->restore, Restore::Begin(&session, wish, After(timeout_ms)));
    const proto::RestoreReply& reply = handle->restore->Choice();
    for (const std::string& line : reply.passed_over()) {
      handle->log += (handle->log.empty() ? "" : "\n") + line;
    }
    choice->attempt = reply.attempt();
    choice->has_choice = reply.has_choice() ? 1 : 0;
    choice->incarnation = reply.has_choice() ? reply.id().incarnation() : 0;
    choice->step = reply.has_choice() ? reply.id().step() : -1;
    choice->source = reply.source().c_str();
    choice->log = handle->log.c_str();
    *out = handle.release();
    return Ok();
  });
}

int hf_restore_sidecar(hf_restore* restore, const char** json, size_t* json_bytes) {
  return WithSession(SessionOf(restore), [&](Session&) -> Status {
    if (json == nullptr || json_bytes == nullptr) {
      return Error(Errc::kInvalidArgument, "json or json_bytes is NULL");
    }
    HF_TRY(const std::string* text, restore->restore->SidecarJson());
    *json = text->c_str();
    *json_bytes = text->size();
    return Ok();
  });
}

int hf_restore_load(hf_restore* restore,
                    const uint32_t* indices,
                    void* const* destinations,
                    const uint64_t* lengths,
                    const int32_t* devices,
                    size_t count,
                    uint32_t threads) {
  return WithSession(SessionOf(restore), [&](Session&) -> Status {
    if (count > 0 && (indices == nullptr || destinations == nullptr || lengths == nullptr)) {
      return Error(Errc::kInvalidArgument, "indices, destinations or lengths are NULL");
    }
    if (count > layout::kMaxTensors) {
      return Error(Errc::kInvalidArgument, "more than 1,000,000 tensors to load");
    }
    std::vector<LoadTarget> targets;
    targets.reserve(count);
    bool to_device = false;
    for (std::size_t i = 0; i < count; ++i) {
      const std::int32_t device = devices == nullptr ? kHostDevice : devices[i];
      targets.push_back(LoadTarget{indices[i], destinations[i], lengths[i], device});
      to_device = to_device || device != kHostDevice;
    }
    if (!to_device) {
      return restore->restore->Load(targets, threads);
    }
    const std::uint32_t all = threads == 0 ? DeviceLoadThreads() : threads;
    HF_TRY(const auto sink, MakeDeviceSink(all));
    restore->session->NoteRestore(sink->Note());
    return restore->restore->Load(targets, all, sink.get());
  });
}

int hf_restore_finish(hf_restore* restore,
                      const char* failure,
                      uint32_t timeout_ms,
                      uint32_t* committed) {
  return WithSession(SessionOf(restore), [&](Session&) -> Status {
    if (committed == nullptr) {
      return Error(Errc::kInvalidArgument, "committed is NULL");
    }
    *committed = 0;
    HF_TRYV(CheckText(failure == nullptr ? "" : failure, "the failure"));
    const std::string text =
        failure == nullptr ? "" : (*failure == '\0' ? "the rank could not load" : failure);
    HF_TRY(const bool done, restore->restore->Finish(text, After(timeout_ms)));
    *committed = done ? 1 : 0;
    return Ok();
  });
}

int hf_restore_refuse(hf_restore* restore, const char* reason, uint32_t timeout_ms) {
  return WithSession(SessionOf(restore), [&](Session&) -> Status {
    HF_TRYV(CheckText(reason, "the reason"));
    return restore->restore->Refuse(reason, After(timeout_ms));
  });
}

void hf_restore_free(hf_restore* restore) {
  if (restore == nullptr || restore->session->Forked()) {
    return;  // in a fork it is the parent's to end
  }
  const std::unique_ptr<hf_restore> owned(restore);
  Guarded([&]() -> Status {
    owned->restore.reset();
    return Ok();
  });
}

}  // extern "C"
