// A trainer that dies with copies queued on its GPU, against a real holdfastd: what lands after its
// death lands in a file that nobody else gets (I7), and the next start has the right bytes (I5).
//
// The trainer is this program again, on the simulated runtime: it is killed while the copies of its
// second snapshot wait behind a long kernel, and a forked worker of its data loader lives on.
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/admin_client.h"
#include "holdfast/client.h"
#include "tests/daemon/daemon_process.h"
#include "tests/support/cuda_sim/cuda_sim.h"
#include "tests/support/cuda_sim/gate.h"
#include "tests/support/whole_file.h"

namespace holdfast {
namespace {

constexpr std::uint64_t kElements = 3'000'000;
constexpr std::uint64_t kBytes = kElements * sizeof(float);
constexpr std::uint32_t kTimeoutMs = 30'000;
// From the kill to the moment at which the device has written what was queued.
constexpr std::chrono::milliseconds kLandingDelay{3000};
constexpr int kCannotTrain = 3;

float ValueAt(std::int64_t step, std::size_t index) {
  return static_cast<float>(step) * 1000.0F + static_cast<float>(index % 997);
}

// One tensor in the memory of a device.
class GpuTrainer {
 public:
  GpuTrainer() {
    cuda_sim::Reset(cuda_sim::Options{});
    void* memory = nullptr;
    static_cast<void>(cudaMalloc(&memory, kBytes));
    weights_ = static_cast<float*>(memory);
    static_cast<void>(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  }

  // Empty: well.
  std::string Join(const std::string& socket) {
    hf_incarnation incarnation{};
    Outcome outcome = Client::Connect(socket, DefaultOptions(), kTimeoutMs, &client_);
    if (outcome.ok()) {
      outcome = client_.OpenIncarnation("job", 1, {}, &incarnation);
    }
    if (outcome.ok()) {
      outcome = client_.Join("job", incarnation, 0, 1);
    }
    const std::uint64_t shape[] = {kElements};
    std::vector<hf_tensor> tensors(1);
    tensors[0].name = "weights";
    tensors[0].dtype = HF_F32;
    tensors[0].tensor_class = HF_STABLE;
    tensors[0].global_ndim = 1;
    tensors[0].local_ndim = 1;
    tensors[0].global_shape = shape;
    tensors[0].local_shape = shape;
    tensors[0].on_device = 1;
    if (outcome.ok()) {
      outcome = client_.SetLayout(tensors);
    }
    return outcome.message;
  }

  // The step that came back, or what went wrong.
  std::string Restore(std::int64_t* step) {
    holdfast::Restore restore;
    bool committed = false;
    Outcome outcome = client_.BeginRestore(-1, 0, kTimeoutMs, &restore);
    if (outcome.ok()) {
      *step = restore.Choice().step;
      outcome = restore.Choice().has_choice != 0 ? restore.Load({0}, {weights_}, {kBytes}, 1, {0})
                                                 : Outcome{};
    }
    if (outcome.ok()) {
      outcome = restore.Finish(nullptr, kTimeoutMs, &committed);
    }
    return outcome.ok() && !committed ? "not committed" : outcome.message;
  }

  void Train(std::int64_t step) {
    static_cast<void>(cuda_sim::Launch(stream_, [this, step] {
      auto* const values = cuda_sim::HostViewAs<float>(weights_);
      for (std::size_t i = 0; i < kElements; ++i) {
        values[i] = ValueAt(step, i);
      }
    }));
  }

  [[nodiscard]] bool Holds(std::int64_t step) {
    static_cast<void>(cudaStreamSynchronize(stream_));
    const auto* const values = cuda_sim::HostViewAs<float>(weights_);
    for (std::size_t i = 0; i < kElements; ++i) {
      if (values[i] != ValueAt(step, i)) {
        return false;
      }
    }
    return true;
  }

  // Snapshot and fence; empty: the copies are issued.
  std::string Snapshot(std::int64_t step) {
    hf_begin begin{};
    Outcome outcome = client_.WaitReady(kTimeoutMs);
    if (outcome.ok()) {
      outcome = client_.Snapshot(step, {weights_}, {}, {}, &begin, {hf_stream{0, 0, stream_}});
    }
    if (outcome.ok() && begin.started != 0) {
      outcome = client_.Fence();
    }
    return outcome.ok() && begin.started == 0 ? std::string(begin.reason) : outcome.message;
  }

  std::string SnapshotAndWait(std::int64_t step) {
    std::string wrong = Snapshot(step);
    return wrong.empty() ? client_.WaitSealed(step, kTimeoutMs).message : wrong;
  }

  [[nodiscard]] cudaStream_t Stream() const { return stream_; }

  [[nodiscard]] std::uint64_t PinnedSlots() const {
    hf_stats stats{};
    return client_.Stats(&stats).ok() ? stats.pinned_slots : 0;
  }

 private:
  Client client_;
  float* weights_ = nullptr;
  cudaStream_t stream_ = nullptr;
};

// The trainer that dies: step 1 is sealed, step 2 is on its way.
int TrainAndDie(const std::string& socket, const std::string& worker_file) {
  GpuTrainer trainer;
  std::int64_t step = -1;
  cuda_sim::Gate gate;
  std::string wrong = trainer.Join(socket);
  wrong += wrong.empty() ? trainer.Restore(&step) : "";
  trainer.Train(1);
  wrong += wrong.empty() ? trainer.SnapshotAndWait(1) : "";
  trainer.Train(2);
  // The kernel writes before it waits: what lands after the death is the state at step 2.
  static_cast<void>(cudaStreamSynchronize(trainer.Stream()));
  static_cast<void>(gate.Hold(trainer.Stream()));
  wrong += wrong.empty() ? trainer.Snapshot(2) : "";
  if (!wrong.empty() || trainer.PinnedSlots() < 2) {
    std::fprintf(stderr, "the trainer: %s\n", wrong.c_str());
    return kCannotTrain;
  }
  const pid_t worker = ::fork();
  if (worker == 0) {
    while (true) {
      ::pause();
    }
  }
  std::ofstream(worker_file) << worker << std::endl;
  cuda_sim::DieWithCopiesLanding(kLandingDelay);
}

class CudaTrainerDeathTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(daemon_.StartAndWait()); }

  void TearDown() override {
    if (worker_ > 0) {
      ::kill(worker_, SIGKILL);
    }
    if (HasFailure()) {
      std::fputs(daemon_.Log().c_str(), stderr);
    }
  }

  void RunTheTrainerThatDies() {
    const std::string worker_file = daemon_.folder() + "/worker";
    std::string words[] = {"/proc/self/exe", "--train-and-die", daemon_.socket(), worker_file};
    char* arguments[] = {
        words[0].data(), words[1].data(), words[2].data(), words[3].data(), nullptr};
    pid_t child = -1;
    ASSERT_EQ(::posix_spawn(&child, arguments[0], nullptr, nullptr, arguments, environ), 0);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "it ended with " << WEXITSTATUS(status);
    ASSERT_EQ(WTERMSIG(status), SIGKILL);
    std::ifstream(worker_file) >> worker_;
    ASSERT_GT(worker_, 0);
    ASSERT_EQ(::kill(worker_, 0), 0) << "the worker is gone";
  }

  // Files of the arena that end with the tensor as it was at "step".
  std::vector<std::string> FilesWith(std::int64_t step) const {
    std::vector<float> tensor(kElements);
    for (std::size_t i = 0; i < kElements; ++i) {
      tensor[i] = ValueAt(step, i);
    }
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(daemon_.arena() + "/slots")) {
      const std::string bytes = WholeFile(entry.path());
      // The image's header is short, and a slot a page longer than the image at most.
      for (std::size_t at = 0; at + kBytes <= bytes.size(); at += 8) {
        // NOLINTNEXTLINE(bugprone-suspicious-memory-comparison): the image is asked for these bits
        if (std::memcmp(bytes.data() + at, tensor.data(), kBytes) == 0) {
          found.push_back(entry.path().filename().string());
          break;
        }
      }
    }
    return found;
  }

  std::uint64_t QuarantinedBytes() const {
    auto admin = client::AdminClient::Connect(daemon_.socket(), "test", std::chrono::seconds(10));
    proto::ClientMessage request;
    request.mutable_status();
    auto reply = admin.has_value() ? admin.value()->Call(request, std::chrono::seconds(10))
                                   : Result<client::Reply>(admin.error());
    return reply.has_value() ? reply.value().message.status().arena().quarantined_bytes() : 0;
  }

  template <class Condition>
  static bool Eventually(const Condition& condition) {
    for (int tries = 0; tries < 600; ++tries) {
      if (condition()) {
        return true;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return false;
  }

  tests::DaemonProcess daemon_;
  pid_t worker_ = -1;
};

TEST_F(CudaTrainerDeathTest, WhatLandsLaterLandsInAFileThatNobodyElseGets) {
  ASSERT_NO_FATAL_FAILURE(RunTheTrainerThatDies());
  GpuTrainer next;
  ASSERT_EQ(next.Join(daemon_.socket()), "");
  std::int64_t step = -1;
  ASSERT_EQ(next.Restore(&step), "");
  EXPECT_EQ(step, 1);
  EXPECT_TRUE(next.Holds(1));
  EXPECT_EQ(FilesWith(2).size(), 0U) << "the copies landed too early: nothing is shown";
  EXPECT_GE(QuarantinedBytes(), kBytes);
  // Training goes on beside it, in other slots.
  for (step = 2; step <= 4; ++step) {
    next.Train(step * 10);
    ASSERT_EQ(next.SnapshotAndWait(step), "");
  }
  ASSERT_TRUE(Eventually([&] { return FilesWith(2).size() == 1; })) << "nothing landed";
  EXPECT_GE(QuarantinedBytes(), kBytes) << "somebody may write to it still";
  GpuTrainer last;
  ASSERT_EQ(last.Join(daemon_.socket()), "");
  ASSERT_EQ(last.Restore(&step), "");
  EXPECT_EQ(step, 4);
  EXPECT_TRUE(last.Holds(40));
  // With its last user the file goes, and its memory comes back.
  ::kill(std::exchange(worker_, -1), SIGKILL);
  EXPECT_TRUE(Eventually([&] { return QuarantinedBytes() == 0; }));
  EXPECT_EQ(FilesWith(2).size(), 0U);
}

}  // namespace
}  // namespace holdfast

int main(int count, char** arguments) {
  if (count == 4 && std::string(arguments[1]) == "--train-and-die") {
    return holdfast::TrainAndDie(arguments[2], arguments[3]);
  }
  ::testing::InitGoogleTest(&count, arguments);
  return RUN_ALL_TESTS();
}
