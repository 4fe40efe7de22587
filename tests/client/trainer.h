// A rank of a training on a fake daemon: what the tests of the session have in common.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "client/copy_host.h"
#include "client/session.h"
#include "common/crc32c.h"
#include "common/failpoint.h"
#include "tests/client/fake_daemon.h"
#include "tests/client/proc_self.h"
#include "tests/client/random_state.h"

namespace holdfast::client {

inline MonotonicTime In(std::int64_t milliseconds) {
  return SystemClock().Now() + std::chrono::milliseconds(milliseconds);
}

// Long enough for a loaded machine; a test that works never waits for it.
inline constexpr std::int64_t kLong = 30'000;

// What a daemon answers whoever restores "state", of step 11: an image of these bytes.
inline proto::ServerMessage RestoreAnswer(const RandomState& state,
                                          const std::string& image_bytes) {
  proto::ServerMessage answer;
  auto* reply = answer.mutable_restore();
  reply->set_attempt(1);
  reply->set_has_choice(true);
  reply->set_has_fd(true);
  reply->set_source("arena");
  auto* id = reply->mutable_id();
  id->set_job_uid(std::string(16, 'u'));
  id->set_incarnation(2);
  id->set_step(11);
  auto* sidecar = reply->mutable_sidecar();
  sidecar->set_format_version(1);
  *sidecar->mutable_id() = *id;
  sidecar->set_job_name("job");
  sidecar->set_rank(0);
  sidecar->set_world_size(2);
  sidecar->set_layout_hash(state.hash);
  *sidecar->mutable_layout() = state.layout;
  auto* image = sidecar->add_images();
  image->set_kind(proto::DYNAMIC);
  image->set_length_bytes(image_bytes.size());
  image->set_chunk_bytes(static_cast<std::uint32_t>(kChunkBytes));
  for (const std::uint32_t crc : ChunkDigests(AsBytes(image_bytes))) {
    image->add_chunk_crc32c(crc);
  }
  return answer;
}

class TrainerTest : public testing::Test {
 protected:
  void TearDown() override {
    ASSERT_FALSE(ArmFailpoints("").has_error());
    session_.reset();
    daemon_.Stop();
  }

  SessionOptions Options() {
    SessionOptions options;
    options.connection.socket_path = daemon_.SocketPath();
    options.connection.backoff_max = std::chrono::milliseconds(50);
    options.close_wait = std::chrono::milliseconds(100);
    return options;
  }

  void Connect(SessionOptions options) {
    session_ = std::make_unique<Session>(options, std::make_unique<HostCopyEngine>(2));
    const Status connected = session_->Connect(In(kLong));
    ASSERT_FALSE(connected.has_error()) << connected.error().ToString();
    ASSERT_FALSE(session_->Join("job", Incarnation{std::string(16, 'u'), 3, 77}, 0, 2).has_error());
  }

  // Connects, registers the state and waits for the first slot.
  void Begin() { Begin(Options()); }

  void Begin(const SessionOptions& options) {
    Connect(options);
    ASSERT_FALSE(session_->SetLayout(state_.specs).has_error());
    const Status ready = session_->WaitReady(In(kLong));
    ASSERT_FALSE(ready.has_error()) << ready.error().ToString();
  }

  Result<SnapshotStart> Snapshot(std::int64_t step) {
    SnapshotInput input;
    input.step = step;
    input.pointers = state_.pointers;
    input.strides = state_.strides;
    input.state.emplace_back().set_name("rng");
    input.state.back().set_json("{}");
    return session_->Snapshot(std::move(input));
  }

  // A whole good snapshot: begun, fenced, sealed, a slot ready for the next one.
  void GoodSnapshot(std::int64_t step) {
    const auto start = Snapshot(step);
    ASSERT_TRUE(start.has_value()) << start.error().ToString();
    ASSERT_TRUE(start.value().started) << start.value().reason;
    const std::string image = state_.ReferenceImage();
    ASSERT_EQ(session_->Fence().kind, CopyOutcome::Kind::kCopied);
    const Status sealed = session_->WaitSealed(step, In(kLong));
    ASSERT_FALSE(sealed.has_error()) << sealed.error().ToString();
    ASSERT_EQ(daemon_.SealedImage(step), image);
    const Status ready = session_->WaitReady(In(kLong));
    ASSERT_FALSE(ready.has_error()) << ready.error().ToString();
  }

  // How many slots this process maps when nobody works on them any more.
  static int SlotsMappedInTheEnd() {
    const MonotonicTime deadline = In(kLong);
    while (MappingsOf("memfd:slot") > 0 && SystemClock().Now() < deadline) {
      std::this_thread::yield();
    }
    return MappingsOf("memfd:slot");
  }

  // A step of training: every tensor changes.
  void Update() {
    for (auto& memory : state_.memory) {
      for (auto& byte : memory) {
        byte ^= std::byte{0x35};
      }
    }
  }

  // For hooks: they run until the daemon has joined its threads, so what they use outlives it.
  std::atomic<int> seen_{0};
  std::vector<proto::ClientMessage> kept_;
  FakeDaemon daemon_;
  RandomState state_ = MakePlainState({{"weight", 600'000}, {"bias", 12}});
  std::unique_ptr<Session> session_;
};

}  // namespace holdfast::client
