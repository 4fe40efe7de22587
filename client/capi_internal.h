// What the files of the C ABI share: handles, the last error, and the guard of every entry.
//
// Threads: the last error is thread-local; handles as in holdfast.h.
// Errors:  no exception leaves the library: what a third party or the allocator throws becomes a
// code.
#pragma once

#include <exception>
#include <memory>
#include <new>
#include <string>
#include <type_traits>

#include "client/include/holdfast/holdfast.h"
#include "client/restore.h"
#include "client/session.h"
#include "common/result.h"
#include "proto/catalog.pb.h"

// Restores keep the session alive, so that hf_close before hf_restore_free is no crash.
struct hf_client {
  std::shared_ptr<holdfast::client::Session> session;
};

struct hf_restore {
  std::shared_ptr<holdfast::client::Session> session;
  std::unique_ptr<holdfast::client::Restore> restore;
  std::string log;
};

namespace holdfast::client {

// Keeps "message" as this thread's last error and gives "code" back.
int Fail(int code, std::string message);

inline int Fail(const Error& error) {
  return Fail(static_cast<int>(error.code), error.message);
}

[[nodiscard]] const char* LastErrorText();

// Copies text into a fixed field, cut at a character where it is too long, ended by 0.
void CopyText(const std::string& text, char* field, std::size_t field_bytes);

// kInvalidArgument where "text" is NULL or no UTF-8: Protobuf would refuse it only at the daemon.
[[nodiscard]] Status CheckText(const char* text, const char* what);

// Appends to "policies".
[[nodiscard]] Status ReadTiers(const hf_tier* tiers,
                               std::size_t count,
                               google::protobuf::RepeatedPtrField<proto::TierPolicy>* policies);

[[nodiscard]] inline MonotonicTime After(std::uint32_t timeout_ms) {
  return SystemClock().Now() + std::chrono::milliseconds(timeout_ms);
}

// Runs the body of an entry that takes a client.  "body" gives a Status or an int of its own.
template <class Body>
int Guarded(Body body) {
  try {
    if constexpr (std::is_same_v<decltype(body()), int>) {
      return body();
    } else {
      const Status status = body();
      return status.has_error() ? Fail(status.error()) : static_cast<int>(HF_OK);
    }
  } catch (const std::bad_alloc&) {
    return Fail(HF_NO_SPACE, "this process is out of memory");
  } catch (const std::exception& error) {
    return Fail(HF_INTERNAL, std::string("unexpected: ") + error.what());
  }
}

// The same, after the checks that every call on a client makes.
template <class Body>
int WithSession(const std::shared_ptr<Session>* session, Body body) {
  if (session == nullptr) {
    return Fail(HF_INVALID_ARGUMENT, "the handle is NULL");
  }
  if ((*session)->Forked()) {
    return Fail(HF_FORKED,
                "this process is a fork of the one that connected: connect a client of its own");
  }
  return Guarded([&] { return body(**session); });
}

inline const std::shared_ptr<Session>* SessionOf(const hf_client* client) {
  return client == nullptr ? nullptr : &client->session;
}

inline const std::shared_ptr<Session>* SessionOf(const hf_restore* restore) {
  return restore == nullptr ? nullptr : &restore->session;
}

}  // namespace holdfast::client
