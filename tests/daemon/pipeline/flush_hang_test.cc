// A flush into a file system that does not answer: it costs a limit for each stage, and a
// cancellation gives the slot back at once.

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "daemon/pipeline/flush.h"
#include "layout/image.h"
#include "tests/common/run_coroutine.h"
#include "tests/daemon/pipeline/pipeline_node.h"

namespace holdfast::daemon {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using tests::RunCoroutine;

class FlushHangTest : public PipelineNodeTest {
 protected:
  FlushHangTest() : PipelineNodeTest(Options(milliseconds(4'000))) {
    tier_ = tiers_.Open(Root(), proto::SHARED).value();
    faults_->HangMatching([](const auto&) { return true; });
  }

  ~FlushHangTest() override {
    faults_->Clear();
    faults_->Release();
    while (tiers_.pending() > 0) {
      std::this_thread::yield();
    }
  }

  static TierOptions Options(milliseconds limit) {
    TierOptions options;
    options.call_limit = limit;
    return options;
  }

  FlushShard Action() {
    std::vector<layout::TensorSpec> specs(1);
    specs[0].name = "weights";
    specs[0].dtype = proto::U8;
    specs[0].global_shape = {kMiB};
    specs[0].local_shape = specs[0].global_shape;
    specs[0].tensor_class = proto::STABLE;
    const auto layout = std::make_shared<const proto::Layout>(layout::PlanImage(specs).value());
    const ByteCount bytes = layout->dynamic_image_bytes();
    FlushShard action;
    action.job_name = "job";
    action.job_uid = std::string(16, 'u');
    action.tier.set_root(folder_ + "/root");
    action.tier.set_scope(proto::SHARED);
    action.id = {1, 1};
    action.slot = {1, 1};
    EXPECT_TRUE(RunCoroutine(io_, slots_->Prepare(action.slot, bytes, true, layout)).has_value());
    layouts_.Stage(1, "hash------------", layout);
    action.sidecar.set_layout_hash("hash------------");
    proto::ImageDigest* image = action.sidecar.add_images();
    image->set_kind(proto::DYNAMIC);
    image->set_length_bytes(bytes);
    return action;
  }

  Status RunFlush(const FlushShard& action, bool cancelled_soon) {
    auto cancel = std::make_shared<std::atomic<bool>>(false);
    std::thread soon([&] {
      if (cancelled_soon) {
        EXPECT_TRUE(faults_->WaitUntilHanging(seconds(10)));
        cancel->store(true);
      }
    });
    proto::ImageKind bad_image = proto::DYNAMIC;
    Status status = RunCoroutine(io_, Flush(*context_, action, cancel, &bad_image));
    soon.join();
    return status;
  }

  std::shared_ptr<Tier> tier_;
};

// I12: the pin of the slot ends with the flush; the worker that is stuck keeps the key.
TEST_F(FlushHangTest, ACancelledFlushLeavesAStuckWorkerBehind) {
  const FlushShard action = Action();
  const auto began = std::chrono::steady_clock::now();

  const Status status = RunFlush(action, /*cancelled_soon=*/true);

  EXPECT_EQ(status.error().code, Errc::kCancelled);
  EXPECT_LT(std::chrono::steady_clock::now() - began, milliseconds(3'500));
  EXPECT_TRUE(tier_->sickness().has_value());
  EXPECT_EQ(RunFlush(action, false).error().code, Errc::kUnavailable);
}

// L: a call that a healthy file system answers at once has the limit of such a call.
TEST_F(FlushHangTest, AFlushThatHangsBeforeItsTransferEndsAtTheLimitOfASmallCall) {
  const auto began = std::chrono::steady_clock::now();
  const Status status = RunFlush(Action(), /*cancelled_soon=*/false);
  EXPECT_EQ(status.error().code, Errc::kTimeout);
  EXPECT_LT(std::chrono::steady_clock::now() - began, seconds(20));
  EXPECT_TRUE(tier_->sickness().has_value());
}

}  // namespace
}  // namespace holdfast::daemon
