// The C ABI as a trainer uses it: bad input, fork, and death in the middle of a copy.
#include <chrono>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/include/holdfast/client.h"
#include "common/clock.h"
#include "common/crc32c.h"
#include "tests/client/fake_daemon.h"
#include "tests/client/proc_self.h"
#include "tests/support/sanitized.h"
#include "transport/messages.h"
#include "transport/owned_fd.h"

namespace holdfast::client {
namespace {

using Body = proto::ClientMessage::BodyCase;

constexpr std::uint32_t kLong = 30'000;

int OpenSockets() {
  int sockets = 0;
  for (int fd = 0; fd < 512; ++fd) {
    struct stat status {};

    sockets += ::fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode) ? 1 : 0;
  }
  return sockets;
}

bool WaitDescriptorsOf(const char* name, int count) {
  const MonotonicTime deadline = SystemClock().Now() + std::chrono::milliseconds(kLong);
  while (DescriptorsOf(name) != count && SystemClock().Now() < deadline) {
    std::this_thread::yield();
  }
  return DescriptorsOf(name) == count;
}

// Whether a fork of this process would have one descriptor of such a file.
bool ChildHasOneOf(const char* name) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::_exit(DescriptorsOf(name) == 1 ? 0 : 1);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

class CapiTest : public testing::Test {
 protected:
  void TearDown() override { hf_arm_failpoints(""); }

  hf_tensor Tensor(const char* name, const std::uint64_t* shape, std::uint32_t dims) {
    hf_tensor tensor{};
    tensor.name = name;
    tensor.dtype = HF_F32;
    tensor.tensor_class = HF_STABLE;
    tensor.global_ndim = tensor.local_ndim = dims;
    tensor.global_shape = tensor.local_shape = shape;
    return tensor;
  }

  void Begin() {
    ASSERT_EQ(Client::Connect(daemon_.SocketPath(), DefaultOptions(), kLong, &client_).message, "");
    hf_incarnation incarnation{};
    ASSERT_TRUE(client_.OpenIncarnation("job", 1, {}, &incarnation).ok());
    EXPECT_EQ(incarnation.number, 3U);
    ASSERT_TRUE(client_.Join("job", incarnation, 0, 1).ok());
    ASSERT_EQ(client_.SetLayout({Tensor("w", shape_, 2), Tensor("b", shape_, 1)}).message, "");
    ASSERT_TRUE(client_.WaitReady(kLong).ok());
  }

  std::vector<const void*> Pointers() { return {weight_.data(), bias_.data()}; }

  FakeDaemon daemon_;
  const std::uint64_t shape_[2] = {1000, 1200};
  std::vector<float> weight_ = std::vector<float>(1000UL * 1200, 1.5F);
  std::vector<float> bias_ = std::vector<float>(1000, 2.5F);
  Client client_;
};

TEST_F(CapiTest, SnapshotFenceAndSeal) {
  Begin();
  hf_begin begin{};
  const hf_state_item state = {"rng", "{\"seed\": 1}", nullptr, 0};
  ASSERT_EQ(client_.Snapshot(1, Pointers(), {}, {state}, &begin).message, "");
  ASSERT_EQ(begin.started, 1U);
  ASSERT_TRUE(client_.Fence().ok());
  ASSERT_TRUE(client_.WaitSealed(1, kLong).ok());
  const std::string image = daemon_.SealedImage(1);
  EXPECT_EQ(daemon_.SealedDigests(1), ChunkDigests(AsBytes(image)));
  hf_stats stats{};
  ASSERT_TRUE(client_.Stats(&stats).ok());
  EXPECT_EQ(stats.sealed, 1U);
  EXPECT_EQ(stats.connected, 1U);
  EXPECT_GT(stats.last_snapshot_ns, 0U);
  hf_drained drained{};
  ASSERT_TRUE(client_.Drain(kLong, &drained).ok());
  EXPECT_EQ(drained.durable, 1U);
}

TEST_F(CapiTest, WhoWaitsInADrainCanSeeHowFarItIs) {
  Begin();
  daemon_.SetHook([this](const proto::ClientMessage& request) {
    if (!request.has_status()) {
      return FakeDaemon::Verdict::kDefault;
    }
    proto::ServerMessage answer;
    proto::JobStatus* job = answer.mutable_status()->add_jobs();
    job->set_name(request.status().job_name());
    proto::TierStatus* tier = job->add_tiers();
    tier->set_root("/checkpoints");
    tier->mutable_flushing()->set_incarnation(7);
    tier->mutable_flushing()->set_step(1200);
    tier->set_flushing_bytes(100);
    tier->set_flushing_done_bytes(25);
    job->add_tiers()->set_last_error("disk full");
    daemon_.Answer(request, answer);
    return FakeDaemon::Verdict::kHandled;
  });
  hf_flushing tiers[2];
  std::uint32_t count = 0;
  ASSERT_EQ(client_.FlushProgress(tiers, 2, &count).message, "");
  ASSERT_EQ(count, 2U);
  EXPECT_STREQ(tiers[0].root, "/checkpoints");
  EXPECT_EQ(tiers[0].step, 1200);
  EXPECT_EQ(tiers[0].incarnation, 7U);
  EXPECT_EQ(tiers[0].bytes, 100U);
  EXPECT_EQ(tiers[0].done_bytes, 25U);
  EXPECT_EQ(tiers[1].step, -1);
  EXPECT_STREQ(tiers[1].last_error, "disk full");
  ASSERT_TRUE(client_.FlushProgress(tiers, 1, &count).ok());
  EXPECT_EQ(count, 2U);
  EXPECT_EQ(client_.FlushProgress(nullptr, 1, &count).code, HF_INVALID_ARGUMENT);
}

TEST_F(CapiTest, TransposedTensorIsTakenInItsOwnOrder) {
  Begin();
  for (std::size_t i = 0; i < weight_.size(); ++i) {
    weight_[i] = static_cast<float>(i);
  }
  const std::int64_t strides[2] = {1, 1000};  // a view of a 1200 x 1000 array
  hf_begin begin{};
  ASSERT_TRUE(client_.Snapshot(1, Pointers(), {hf_strides{0, 2, strides}}, {}, &begin).ok());
  ASSERT_TRUE(client_.Fence().ok());
  ASSERT_TRUE(client_.WaitSealed(1, kLong).ok());
  const std::string image = daemon_.SealedImage(1);
  float second = 0;
  std::memcpy(&second, image.data() + 4096 + 4, 4);
  EXPECT_EQ(second, 1000.0F);
}

TEST_F(CapiTest, BadInputIsACodeAndALineNeverACrash) {
  hf_client* none = nullptr;
  EXPECT_EQ(hf_connect(nullptr, nullptr, 10, &none), HF_INVALID_ARGUMENT);
  EXPECT_EQ(hf_connect("/nowhere", nullptr, 10, nullptr), HF_INVALID_ARGUMENT);
  EXPECT_EQ(hf_fence(nullptr, nullptr, 0), HF_INVALID_ARGUMENT);
  EXPECT_EQ(hf_set_layout(nullptr, nullptr, 0), HF_INVALID_ARGUMENT);
  EXPECT_EQ(hf_restore_sidecar(nullptr, nullptr, nullptr), HF_INVALID_ARGUMENT);
  EXPECT_STRNE(hf_last_error(), "");
  hf_close(nullptr);
  hf_restore_free(nullptr);
  hf_options options = DefaultOptions();
  options.struct_size = 3;
  EXPECT_EQ(hf_connect(daemon_.SocketPath().c_str(), &options, 10, &none), HF_VERSION_MISMATCH);
  options = DefaultOptions();
  options.sample_fraction = 7;
  EXPECT_EQ(hf_connect(daemon_.SocketPath().c_str(), &options, 10, &none), HF_INVALID_ARGUMENT);
  EXPECT_EQ(hf_connect("/nowhere", nullptr, 10, &none), HF_UNAVAILABLE);
  EXPECT_EQ(none, nullptr);
}

TEST_F(CapiTest, BadTensorsAndStateAreRefusedByName) {
  Begin();
  hf_tensor tensor = Tensor("name", shape_, 2);
  tensor.name = nullptr;
  EXPECT_EQ(client_.SetLayout({tensor}).code, HF_INVALID_ARGUMENT);
  tensor = Tensor("name", nullptr, 2);
  EXPECT_EQ(client_.SetLayout({tensor}).code, HF_INVALID_ARGUMENT);
  tensor = Tensor("name", shape_, 2);
  tensor.dtype = 99;
  const Outcome outcome = client_.SetLayout({tensor});
  EXPECT_EQ(outcome.code, HF_INVALID_ARGUMENT);
  EXPECT_NE(outcome.message.find("\"name\""), std::string::npos);
  tensor = Tensor("\xff\xfe", shape_, 1);
  EXPECT_EQ(client_.SetLayout({tensor}).code, HF_INVALID_ARGUMENT);
  tensor = Tensor("many", shape_, 17);
  EXPECT_EQ(client_.SetLayout({tensor}).code, HF_INVALID_ARGUMENT);
  ASSERT_TRUE(client_.SetLayout({Tensor("w", shape_, 2), Tensor("b", shape_, 1)}).ok());
  hf_begin begin{};
  const hf_state_item nameless = {nullptr, "{}", nullptr, 0};
  EXPECT_EQ(client_.Snapshot(1, Pointers(), {}, {nameless}, &begin).code, HF_INVALID_ARGUMENT);
  const std::string large(17 << 20, 'x');
  const hf_state_item huge = {"huge", nullptr, large.data(), large.size()};
  EXPECT_EQ(client_.Snapshot(1, Pointers(), {}, {huge}, &begin).code, HF_INVALID_ARGUMENT);
  EXPECT_EQ(client_.Snapshot(-1, Pointers(), {}, {}, &begin).code, HF_INVALID_ARGUMENT);
  EXPECT_EQ(client_.Snapshot(1, {nullptr, nullptr}, {}, {}, &begin).code, HF_INVALID_ARGUMENT);
  EXPECT_EQ(client_.Snapshot(1, Pointers(), {}, {}, &begin).code, HF_OK) << "nothing was taken";
  EXPECT_EQ(begin.started, 1U);
  EXPECT_TRUE(client_.Fence().ok());
}

TEST_F(CapiTest, TornSnapshotIsHfTorn) {
  Begin();
  ASSERT_EQ(hf_arm_failpoints("client.copy.chunk=stall"), HF_OK);
  hf_begin begin{};
  ASSERT_TRUE(client_.Snapshot(1, Pointers(), {}, {}, &begin).ok());
  for (auto& value : weight_) {
    value += 1;
  }
  ASSERT_EQ(hf_arm_failpoints(""), HF_OK);
  const Outcome fence = client_.Fence();
  EXPECT_EQ(fence.code, HF_TORN);
  EXPECT_NE(fence.message.find("\"w\""), std::string::npos);
}

TEST_F(CapiTest, ForkedChildHasNoClientNoSocketAndDoesNotDisturbItsParent) {
  Begin();
  const int sockets = OpenSockets();
  const pid_t child = ::fork();
  if (child == 0) {
    hf_stats stats{};
    hf_begin begin{};
    const int codes[] = {
        hf_get_stats(client_.Handle(), &stats),
        hf_fence(client_.Handle(), nullptr, 0),
        hf_set_layout(client_.Handle(), nullptr, 0),
        hf_snapshot(client_.Handle(), 1, nullptr, 0, nullptr, 0, nullptr, 0, nullptr, 0, &begin),
        hf_wait_sealed(client_.Handle(), 1, 0)};
    bool sound = true;
    for (const int code : codes) {
      sound = sound && code == HF_FORKED;
    }
    hf_close(client_.Handle());  // neither hangs nor ends the parent's session
    // The fake daemon's own sockets are of this process too; the client's is not any more.
    ::_exit(sound && OpenSockets() == sockets - 1 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  hf_begin begin{};
  ASSERT_TRUE(client_.Snapshot(1, Pointers(), {}, {}, &begin).ok());
  ASSERT_TRUE(client_.Fence().ok());
  EXPECT_TRUE(client_.WaitSealed(1, kLong).ok());
}

// I7: a data loader that outlives its trainer must hold neither a slot nor its descriptor.
TEST_F(CapiTest, ForksWhileSlotsArriveLeakNothingIntoTheChild) {
  Begin();
  const int sockets = OpenSockets();
  for (int round = 0; round < 20; ++round) {
    hf_begin begin{};
    ASSERT_TRUE(client_.Snapshot(round, Pointers(), {}, {}, &begin).ok());
    const pid_t child = ::fork();
    if (child == 0) {
      hf_stats stats{};
      const bool forked = hf_get_stats(client_.Handle(), &stats) == HF_FORKED;
      // The fake daemon is of this process too: the two slots' own descriptors are its.
      const bool clean = DescriptorsOf("memfd:slot") == 2 && MappingsOf("memfd:slot") == 0 &&
                         OpenSockets() == sockets - 1;
      ::_exit(forked && clean ? 0 : 1);
    }
    ASSERT_TRUE(client_.Fence().ok());
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0);
    ASSERT_TRUE(client_.WaitReady(kLong).ok());
  }
}

// The kernel hands a descriptor over before the rest of its message has come; both where the client
// waits for news and where it waits for the answer to its hello.
TEST_F(CapiTest, ADescriptorWhoseMessageIsNotWholeIsNotInherited) {
  Begin();
  const transport::OwnedFd file(::memfd_create("early", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(file.Get(), 4096), 0);
  proto::ServerMessage event;
  event.mutable_grant()->set_slot(500);
  event.mutable_grant()->set_generation(1);
  event.mutable_grant()->set_capacity_bytes(4096);
  event.mutable_grant()->set_layout_generation(1);
  event.mutable_grant()->set_has_fd(true);
  const std::string frame = transport::EncodeFrame(event).value();
  const auto send_half = [&] { daemon_.SendRaw(frame.substr(0, frame.size() / 2), file.Get()); };
  send_half();
  ASSERT_TRUE(WaitDescriptorsOf("memfd:early", 2)) << "one is this test's";
  EXPECT_TRUE(ChildHasOneOf("memfd:early"));
  daemon_.SendRaw(frame.substr(frame.size() / 2));
  ASSERT_TRUE(WaitDescriptorsOf("memfd:early", 1)) << "mapped and closed";
  EXPECT_EQ(MappingsOf("memfd:early"), 1);

  daemon_.SetHook([&](const proto::ClientMessage& message) {
    if (!message.has_hello()) {
      return FakeDaemon::Verdict::kDefault;
    }
    send_half();
    return FakeDaemon::Verdict::kHandled;
  });
  daemon_.CutConnections();
  ASSERT_TRUE(WaitDescriptorsOf("memfd:early", 2));
  EXPECT_TRUE(ChildHasOneOf("memfd:early"));
  daemon_.SetHook(nullptr);
  daemon_.CutConnections();
  ASSERT_TRUE(WaitDescriptorsOf("memfd:early", 1)) << "it goes with its connection";
  EXPECT_TRUE(client_.WaitReady(kLong).ok());
  client_ = Client();
  daemon_.Stop();  // before what the hook used
}

TEST_F(CapiTest, RestoreMayBeFreedAfterItsClient) {
  Begin();
  daemon_.SetHook([&](const proto::ClientMessage& message) {
    if (!message.has_restore()) {
      return FakeDaemon::Verdict::kDefault;
    }
    proto::ServerMessage answer;
    answer.mutable_restore()->set_attempt(1);
    daemon_.Answer(message, answer);
    return FakeDaemon::Verdict::kHandled;
  });
  holdfast::Restore restore;
  ASSERT_TRUE(client_.BeginRestore(-1, 0, kLong, &restore).ok());
  EXPECT_EQ(restore.Choice().has_choice, 0U);
  EXPECT_EQ(restore.Choice().step, -1);
  client_ = Client();
  bool committed = true;
  EXPECT_FALSE(restore.Finish(nullptr, 100, &committed).ok());
  EXPECT_FALSE(committed);
}

TEST_F(CapiTest, VersionsAreSaid) {
  EXPECT_EQ(hf_abi_version(), HF_ABI_VERSION);
  EXPECT_EQ(std::string(hf_version()).rfind("0.1.0 (host", 0), 0U) << hf_version();
}

// Design, section 10: the trainer process is lost in the middle of a copy.
TEST(CapiKillTest, TrainerKilledInTheMiddleOfACopyLeavesAnUnsealedSlot) {
  if (kThreadSanitizer) {
    GTEST_SKIP() << "a process with threads that forks cannot start threads in its child here";
  }
  FakeDaemon daemon;
  const std::string path = daemon.SocketPath();
  const pid_t trainer = ::fork();
  if (trainer == 0) {
    // Only async-signal-safe code is certain here; glibc allows the rest in practice.
    std::vector<float> weight(2'000'000, 1.0F);
    const std::uint64_t shape[1] = {weight.size()};
    hf_tensor tensor{};
    tensor.name = "w";
    tensor.dtype = HF_F32;
    tensor.tensor_class = HF_STABLE;
    tensor.global_ndim = tensor.local_ndim = 1;
    tensor.global_shape = tensor.local_shape = shape;
    Client client;
    hf_incarnation incarnation{};
    hf_begin begin{};
    const bool ready = Client::Connect(path, DefaultOptions(), kLong, &client).ok() &&
                       client.OpenIncarnation("job", 1, {}, &incarnation).ok() &&
                       client.Join("job", incarnation, 0, 1).ok() &&
                       client.SetLayout({tensor}).ok() && client.WaitReady(kLong).ok() &&
                       hf_arm_failpoints("client.copy.chunk=kill@3") == HF_OK &&
                       client.Snapshot(1, {weight.data()}, {}, {}, &begin).ok();
    (void)client.Fence();
    ::_exit(ready ? 1 : 2);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(trainer, &status, 0), trainer);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
  ASSERT_TRUE(daemon.WaitReceived(Body::kRegister, 1));
  EXPECT_TRUE(daemon.Received(Body::kSeal).empty());
}

}  // namespace
}  // namespace holdfast::client
