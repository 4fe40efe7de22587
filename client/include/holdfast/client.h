// C++ face of libholdfast: ownership and errors as C++ has them, over the C ABI of holdfast.h.
//
// Header-only, standard library only, so that a trainer of any compiler and standard library can
// use the same libholdfast.so.  What each call does, waits for and promises is written in
// holdfast.h and not repeated here.
//
//   holdfast::Client client;
//   if (auto status = holdfast::Client::Connect(path, {}, 5000, &client); !status.ok()) { ... }
//
// Threads:   as hf_client; a Client object itself is moved and destroyed by one thread at a time.
// Ownership: Client and Restore own their handles; a Restore may outlive its Client, to be freed
// only. Errors:    Outcome: a code and the library's line of text.  Nothing throws but the
// allocator. Lifecycle: as in holdfast.h.
#ifndef HOLDFAST_CLIENT_H_
#define HOLDFAST_CLIENT_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "holdfast/holdfast.h"

namespace holdfast {

struct [[nodiscard]] Outcome {
  int code = HF_OK;
  std::string message;  // empty where ok

  bool ok() const { return code == HF_OK; }

  // Takes the thread's last error along with "result".
  static Outcome Of(int result) {
    return {result, result == HF_OK ? std::string() : std::string(hf_last_error())};
  }
};

inline hf_options DefaultOptions() {
  hf_options options;
  hf_options_init(&options);
  return options;
}

// One attempt of a restore.  Dropped unfinished it counts as failed, so that no rank waits for it.
class Restore {
 public:
  Restore() = default;

  ~Restore() { hf_restore_free(handle_); }

  Restore(Restore&& other) noexcept
      : handle_(std::exchange(other.handle_, nullptr)), choice_(other.choice_) {}

  Restore& operator=(Restore&& other) noexcept {
    std::swap(handle_, other.handle_);
    std::swap(choice_, other.choice_);
    return *this;
  }

  Restore(const Restore&) = delete;
  Restore& operator=(const Restore&) = delete;

  const hf_restore_choice& Choice() const { return choice_; }

  Outcome Sidecar(std::string* json) {
    const char* text = nullptr;
    std::size_t bytes = 0;
    Outcome outcome = Outcome::Of(hf_restore_sidecar(handle_, &text, &bytes));
    if (outcome.ok()) {
      json->assign(text, bytes);
    }
    return outcome;
  }

  // The vectors have one element for each tensor; without "devices" all go to host memory.
  Outcome Load(const std::vector<std::uint32_t>& indices,
               const std::vector<void*>& destinations,
               const std::vector<std::uint64_t>& lengths,
               std::uint32_t threads,
               const std::vector<std::int32_t>& devices = {}) {
    if (indices.size() != destinations.size() || indices.size() != lengths.size() ||
        (!devices.empty() && devices.size() != indices.size())) {
      return {HF_INVALID_ARGUMENT, "indices, destinations, lengths or devices differ in number"};
    }
    return Outcome::Of(hf_restore_load(handle_,
                                       indices.data(),
                                       destinations.data(),
                                       lengths.data(),
                                       devices.empty() ? nullptr : devices.data(),
                                       indices.size(),
                                       threads));
  }

  // "failure" nullptr: this rank has loaded.
  Outcome Finish(const char* failure, std::uint32_t timeout_ms, bool* committed) {
    std::uint32_t value = 0;
    Outcome outcome = Outcome::Of(hf_restore_finish(handle_, failure, timeout_ms, &value));
    *committed = value != 0;
    return outcome;
  }

 private:
  friend class Client;
  hf_restore* handle_ = nullptr;
  hf_restore_choice choice_{};
};

class Client {
 public:
  Client() = default;

  ~Client() { hf_close(handle_); }

  Client(Client&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}

  Client& operator=(Client&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }

  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  static Outcome Connect(const std::string& socket_path,
                         const hf_options& options,
                         std::uint32_t timeout_ms,
                         Client* out) {
    Client client;
    Outcome outcome =
        Outcome::Of(hf_connect(socket_path.c_str(), &options, timeout_ms, &client.handle_));
    if (outcome.ok()) {
      *out = std::move(client);
    }
    return outcome;
  }

  // For calls that this header does not wrap; nullptr before Connect.
  hf_client* Handle() const { return handle_; }

  Outcome OpenIncarnation(const std::string& job_name,
                          std::uint32_t world_size,
                          const std::vector<hf_tier>& tiers,
                          hf_incarnation* out) {
    return Outcome::Of(hf_open_incarnation(
        handle_, job_name.c_str(), world_size, tiers.data(), tiers.size(), 0, out));
  }

  Outcome Join(const std::string& job_name,
               const hf_incarnation& incarnation,
               std::uint32_t rank,
               std::uint32_t world_size) {
    return Outcome::Of(hf_join(handle_, job_name.c_str(), &incarnation, rank, world_size));
  }

  Outcome SetLayout(const std::vector<hf_tensor>& tensors) {
    return Outcome::Of(hf_set_layout(handle_, tensors.data(), tensors.size()));
  }

  Outcome ExpectZero(const std::vector<std::uint32_t>& indices) {
    return Outcome::Of(hf_expect_zero(handle_, indices.data(), indices.size()));
  }

  Outcome WaitReady(std::uint32_t timeout_ms) {
    return Outcome::Of(hf_wait_ready(handle_, timeout_ms));
  }

  // Sources as described for hf_snapshot; "begin" says whether it was started.
  Outcome Snapshot(std::int64_t step,
                   const std::vector<const void*>& pointers,
                   const std::vector<hf_strides>& strides,
                   const std::vector<hf_state_item>& state,
                   hf_begin* begin,
                   const std::vector<hf_stream>& streams = {}) {
    return Outcome::Of(hf_snapshot(handle_,
                                   step,
                                   pointers.data(),
                                   pointers.size(),
                                   strides.data(),
                                   strides.size(),
                                   streams.data(),
                                   streams.size(),
                                   state.data(),
                                   state.size(),
                                   begin));
  }

  Outcome Fence(const std::vector<hf_stream>& streams = {}) {
    return Outcome::Of(hf_fence(handle_, streams.data(), streams.size()));
  }

  Outcome WaitSealed(std::int64_t step, std::uint32_t timeout_ms) {
    return Outcome::Of(hf_wait_sealed(handle_, step, timeout_ms));
  }

  Outcome Stats(hf_stats* out) const { return Outcome::Of(hf_get_stats(handle_, out)); }

  // "named_step" -1: the newest that every rank can get back.
  Outcome BeginRestore(std::int64_t named_step,
                       std::uint32_t after_attempt,
                       std::uint32_t timeout_ms,
                       Restore* out) {
    Restore restore;
    Outcome outcome = Outcome::Of(hf_restore_begin(
        handle_, named_step, 0, after_attempt, timeout_ms, &restore.handle_, &restore.choice_));
    if (outcome.ok()) {
      *out = std::move(restore);
    }
    return outcome;
  }

  Outcome Drain(std::uint32_t timeout_ms, hf_drained* out) {
    return Outcome::Of(hf_drain(handle_, timeout_ms, out));
  }

  Outcome FlushProgress(hf_flushing* out, std::uint32_t capacity, std::uint32_t* count) {
    return Outcome::Of(hf_flush_progress(handle_, out, capacity, count));
  }

  Outcome Finish(std::uint64_t* freed_bytes) {
    return Outcome::Of(hf_finish(handle_, freed_bytes));
  }

 private:
  hf_client* handle_ = nullptr;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_H_
