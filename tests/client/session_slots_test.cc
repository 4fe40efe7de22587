// What a session says of its slots: to the daemon, where they should be; to its trainer, why none
// is ready yet.
#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <sys/mman.h>
#include <unistd.h>

#include "client/copy_host.h"
#include "client/session.h"
#include "common/mutex.h"
#include "layout/image.h"
#include "tests/client/trainer.h"

namespace holdfast::client {
namespace {

using testing::HasSubstr;
using Body = proto::ClientMessage::BodyCase;

class FakePin final : public SlotPin {};

// The host engine, as slow with new slots and next to such a node as a test wants; as one for
// devices it pins them too.
class SlowEngine final : public CopyEngine {
 public:
  // What tests keep of it, since a session owns its engine.
  struct Control {
    Mutex mutex;
    bool held HF_GUARDED_BY(mutex) = false;
    std::vector<std::pair<std::shared_ptr<SlotMapping>, SlotReady>> waiting HF_GUARDED_BY(mutex);
    std::int32_t node = kAnyNumaNode;
    std::atomic<bool> pins = false;
    std::atomic<bool> refuses_pins = false;
    std::atomic<int> adopted = 0;
    std::atomic<int> prepared = 0;
    std::atomic<int> pinned = 0;
  };

  explicit SlowEngine(std::shared_ptr<Control> control) : control_(std::move(control)) {}

  [[nodiscard]] Status Adopt(std::shared_ptr<const CopyPlan> plan) override {
    ++control_->adopted;
    return control_->pins ? Ok() : host_.Adopt(std::move(plan));  // memory that plays a device's
  }

  [[nodiscard]] Status Prepare(std::shared_ptr<SlotMapping> slot, SlotReady ready) override {
    MutexLock lock(control_->mutex);
    if (control_->held) {
      control_->waiting.emplace_back(std::move(slot), std::move(ready));
      return Ok();
    }
    ++control_->prepared;
    if (control_->pins) {
      const bool pinned = !control_->refuses_pins;
      slot->SetPin(pinned ? std::make_unique<FakePin>() : nullptr);
      control_->pinned += pinned ? 1 : 0;
    }
    return host_.Prepare(std::move(slot), std::move(ready));
  }

  [[nodiscard]] bool Pins() const override { return control_->pins; }

  [[nodiscard]] Status Start(std::shared_ptr<CopyJob> job, JobDone done) override {
    return host_.Start(std::move(job), std::move(done));
  }

  [[nodiscard]] std::string Busy() const override { return host_.Busy(); }

  bool WaitFence(std::span<const DeviceStream> streams) override {
    return host_.WaitFence(streams);
  }

  [[nodiscard]] std::int32_t NumaNode() const override { return control_->node; }

  void Stop() override { host_.Stop(); }

 private:
  const std::shared_ptr<Control> control_;
  HostCopyEngine host_{1};
};

class SessionSlotsTest : public TrainerTest {
 protected:
  void Join() {
    session_ = std::make_unique<Session>(Options(), std::make_unique<SlowEngine>(control_));
    ASSERT_FALSE(session_->Connect(In(kLong)).has_error());
    ASSERT_FALSE(session_->Join("job", Incarnation{std::string(16, 'u'), 3, 77}, 0, 2).has_error());
  }

  void Register() {
    ASSERT_NO_FATAL_FAILURE(Join());
    ASSERT_FALSE(session_->SetLayout(state_.specs).has_error());
  }

  void Hold(bool held) {
    MutexLock lock(control_->mutex);
    control_->held = held;
  }

  // Lets the first slot that waits become ready, pinned.
  void ReleaseOne() {
    std::pair<std::shared_ptr<SlotMapping>, CopyEngine::SlotReady> first;
    {
      MutexLock lock(control_->mutex);
      first = std::move(control_->waiting.front());
      control_->waiting.erase(control_->waiting.begin());
    }
    first.first->SetPin(std::make_unique<FakePin>());
    first.second(Ok());
  }

  // Lets the slots that wait become ready.
  void Release() {
    std::vector<std::pair<std::shared_ptr<SlotMapping>, CopyEngine::SlotReady>> waiting;
    {
      MutexLock lock(control_->mutex);
      control_->held = false;
      waiting.swap(control_->waiting);
    }
    for (auto& [slot, ready] : waiting) {
      ready(Ok());
    }
  }

  std::string WhySkipped(std::int64_t step) {
    const auto start = Snapshot(step);
    EXPECT_TRUE(start.has_value());
    EXPECT_FALSE(start.value().started);
    return start.value().reason;
  }

  std::string WaitForWaiting() {
    const MonotonicTime deadline = In(kLong);
    while (SystemClock().Now() < deadline) {
      MutexLock lock(control_->mutex);
      if (!control_->waiting.empty()) {
        return "";
      }
    }
    return "no slot came";
  }

  std::shared_ptr<SlowEngine::Control> control_ = std::make_shared<SlowEngine::Control>();
};

// Registering memory with a GPU takes half a second a GiB: a snapshot before its end says that it
// waits for it, and how far it is, not that some disk is slow.
TEST_F(SessionSlotsTest, ASnapshotBeforeASlotIsReadySaysHowFarItIs) {
  Hold(true);
  daemon_.SetSlots(2);
  Register();
  ASSERT_EQ(WaitForWaiting(), "");
  const std::string why = WhySkipped(1);
  EXPECT_THAT(why, HasSubstr("a new slot is being mapped: 0 of 2 slots of 2.29 MiB so far, for "));
  EXPECT_EQ(session_->Stats().skipped, 1U);
  ASSERT_TRUE(daemon_.WaitReceived(Body::kMissed, 1));
  EXPECT_EQ(daemon_.Received(Body::kMissed).front().missed().reason(), why);  // `holdfast status`
  const Status late = session_->WaitReady(In(1));
  ASSERT_TRUE(late.has_error());
  EXPECT_THAT(late.error().message, HasSubstr("0 of 2 slots"));
  Release();
  ASSERT_FALSE(session_->WaitReady(In(kLong)).has_error());
  ASSERT_NO_FATAL_FAILURE(GoodSnapshot(2));
}

TEST_F(SessionSlotsTest, ASnapshotBeforeTheDaemonHasMadeASlotSaysSo) {
  daemon_.SetSlots(0);
  Register();
  EXPECT_THAT(WhySkipped(1), HasSubstr("holdfastd is making the slots of this layout: none of "));
}

TEST_F(SessionSlotsTest, TheDaemonIsToldTheNodeOfTheDevice) {
  control_->node = 1;
  Register();
  const auto received = daemon_.Received(Body::kRegister);
  ASSERT_FALSE(received.empty());
  EXPECT_TRUE(received.back().register_().has_numa_node());
  EXPECT_EQ(received.back().register_().numa_node(), 1);
}

// A model that moves to a GPU after its layout was registered: the layout is the same, and so are
// its slots, those that are the daemon's at that time too.
TEST_F(SessionSlotsTest, SlotsOfAStateThatMovesToADeviceArePinned) {
  daemon_.SetSlots(2);
  Register();
  ASSERT_FALSE(session_->WaitReady(In(kLong)).has_error());
  ASSERT_NO_FATAL_FAILURE(GoodSnapshot(1));
  EXPECT_EQ(control_->pinned, 0);
  control_->pins = true;
  ASSERT_FALSE(session_->SetLayout(state_.specs).has_error());
  ASSERT_FALSE(session_->WaitReady(In(kLong)).has_error());
  EXPECT_EQ(control_->pinned, 1) << "the one that is granted";
  for (std::int64_t step = 2; step <= 5; ++step) {
    ASSERT_NO_FATAL_FAILURE(GoodSnapshot(step));
  }
  EXPECT_EQ(control_->pinned, 2);
  EXPECT_EQ(control_->prepared, 4);
}

// What a slot waits for on a machine with GPUs takes long, and is named; how many are done rises.
TEST_F(SessionSlotsTest, SlotsForADeviceAreSaidToBeRegisteredWithCuda) {
  control_->pins = true;
  Hold(true);
  daemon_.SetSlots(2);
  Register();
  const std::vector<std::int32_t> devices(state_.specs.size(), 0);
  ASSERT_FALSE(session_->SetLayout(state_.specs, std::nullopt, devices).has_error());
  ASSERT_EQ(WaitForWaiting(), "");
  const auto why_not_ready = [&] {
    const Status late = session_->WaitReady(In(1));
    return late.has_error() ? late.error().message : "it is";
  };
  EXPECT_THAT(
      why_not_ready(),
      HasSubstr("a new slot is being registered with CUDA: 0 of 2 slots of 2.29 MiB so far, for "));
  ReleaseOne();
  ASSERT_FALSE(session_->WaitReady(In(kLong)).has_error());
  SnapshotInput input;
  input.step = 1;
  input.pointers = state_.pointers;
  input.streams = {DeviceStream{0, nullptr}};
  const auto start = session_->Snapshot(std::move(input));
  ASSERT_TRUE(start.has_value()) << start.error().ToString();
  ASSERT_TRUE(start.value().started) << start.value().reason;
  EXPECT_EQ(session_->Fence().kind, CopyOutcome::Kind::kCopied);
  ASSERT_EQ(WaitForWaiting(), "");  // the daemon has the first slot, and grants the second one
  EXPECT_THAT(why_not_ready(),
              HasSubstr("a new slot is being registered with CUDA: 1 of 2 slots of 2.29 MiB"));
  Release();
  ASSERT_FALSE(session_->WaitReady(In(kLong)).has_error());
}

TEST_F(SessionSlotsTest, ASlotThatWasBeingPreparedWhenTheStateMovedIsPinned) {
  Hold(true);
  daemon_.SetSlots(1);
  Register();
  ASSERT_EQ(WaitForWaiting(), "");
  control_->pins = true;
  ASSERT_FALSE(session_->SetLayout(state_.specs).has_error());
  Release();
  ASSERT_FALSE(session_->WaitReady(In(kLong)).has_error());
  EXPECT_EQ(control_->pinned, 1);
}

TEST_F(SessionSlotsTest, TheSlotOfFrozenTensorsIsPinnedToo) {
  state_.specs[1].tensor_class = proto::CONSTANT;
  state_.specs[1].image = proto::STATIC;
  state_.layout = layout::PlanImage(state_.specs).value();
  const std::uint64_t bytes = layout::ImageBytes(state_.layout, proto::STATIC);
  const transport::OwnedFd file(::memfd_create("static", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(file.Get(), static_cast<off_t>(bytes)), 0);
  daemon_.SetHook([&](const proto::ClientMessage& request) {
    if (!request.has_register_()) {
      return FakeDaemon::Verdict::kDefault;
    }
    proto::ServerMessage answer;
    answer.mutable_register_()->set_session_token(99);
    answer.mutable_register_()->set_layout_generation(1);
    answer.mutable_register_()->set_newest_complete_step(-1);
    answer.mutable_register_()->set_static_image_bytes(bytes);
    daemon_.Answer(request, answer);
    proto::ServerMessage event;
    auto* grant = event.mutable_grant();
    grant->set_slot(50);
    grant->set_generation(1);
    grant->set_capacity_bytes(bytes);
    grant->set_layout_generation(1);
    grant->set_has_fd(true);
    grant->set_image(proto::STATIC);
    daemon_.Send(event, file.Get());
    return FakeDaemon::Verdict::kHandled;
  });
  Hold(true);
  Register();
  ASSERT_EQ(WaitForWaiting(), "");
  Release();
  EXPECT_EQ(control_->pinned, 0);
  control_->pins = true;
  ASSERT_FALSE(session_->SetLayout(state_.specs).has_error());
  EXPECT_EQ(control_->pinned, 1);
  session_.reset();
  daemon_.Stop();  // before what the hook uses
}

TEST_F(SessionSlotsTest, ASlotThatCannotBePinnedIsTriedOnce) {
  control_->pins = true;
  control_->refuses_pins = true;
  daemon_.SetSlots(2);
  Register();
  for (std::int64_t step = 1; step <= 5; ++step) {
    ASSERT_FALSE(session_->WaitReady(In(kLong)).has_error());
    ASSERT_NO_FATAL_FAILURE(GoodSnapshot(step));
    ASSERT_FALSE(session_->SetLayout(state_.specs).has_error());
  }
  EXPECT_EQ(control_->prepared, 2);
}

// L: a trainer asks for its layout at every snapshot until the daemon answers.  An engine for
// devices waits for all bytes under way and makes its memory anew each time that it adopts one.
TEST_F(SessionSlotsTest, ALayoutIsAdoptedOnceHoweverOftenItIsAskedFor) {
  daemon_.SetHook([](const proto::ClientMessage& request) {
    return request.has_register_() ? FakeDaemon::Verdict::kHandled : FakeDaemon::Verdict::kDefault;
  });
  ASSERT_NO_FATAL_FAILURE(Join());
  const auto few = std::chrono::milliseconds(10);
  for (int snapshot = 0; snapshot < 3; ++snapshot) {
    EXPECT_EQ(session_->SetLayout(state_.specs, few).error().code, Errc::kTimeout);
  }
  EXPECT_EQ(control_->adopted, 1);
  ASSERT_TRUE(daemon_.WaitReceived(Body::kRegister, 1));
  daemon_.SetHook(nullptr);
  daemon_.Default(daemon_.Received(Body::kRegister).front());
  ASSERT_FALSE(session_->SetLayout(state_.specs).has_error());
  EXPECT_EQ(control_->adopted, 1);
  ASSERT_FALSE(session_->WaitReady(In(kLong)).has_error());
  ASSERT_NO_FATAL_FAILURE(GoodSnapshot(1));
  control_->pins = true;
  const std::vector<std::int32_t> devices(state_.specs.size(), 0);
  for (int times = 0; times < 2; ++times) {
    ASSERT_FALSE(session_->SetLayout(state_.specs, std::nullopt, devices).has_error());
    EXPECT_EQ(control_->adopted, 2) << "the state has moved, once";
  }
  state_ = MakePlainState({{"weight", 700'000}});
  ASSERT_FALSE(session_->SetLayout(state_.specs).has_error());
  EXPECT_EQ(control_->adopted, 3);
}

TEST_F(SessionSlotsTest, NoNodeIsNamedWhereNoneIsKnown) {
  Register();
  EXPECT_FALSE(daemon_.Received(Body::kRegister).back().register_().has_numa_node());
}

}  // namespace
}  // namespace holdfast::client
