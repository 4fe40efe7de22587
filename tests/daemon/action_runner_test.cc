// Actions whose object is gone, and actions that come when the daemon ends: each is still answered.

#include "daemon/action_runner.h"

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>
#include <unistd.h>

#include "storage_tiers/persistent_tier.h"
#include "storage_tiers/posix_file_system.h"
#include "tests/common/run_coroutine.h"
#include "tests/support/temp_folder.h"

namespace holdfast::daemon {
namespace {

using std::chrono::seconds;

class ActionRunnerTest : public ::testing::Test {
 protected:
  ActionRunnerTest() {
    io_thread_.Bind();
    storage_tiers::ArenaOptions options;
    options.folder = folder_;
    options.budget_bytes = 64 * kMiB;
    arena_ = storage_tiers::Arena::Open(options).value();
    slots_ = std::make_unique<SlotStore>(*arena_, pool_);
    runner_ = std::make_unique<ActionRunner>(io_.get_executor(),
                                             PipelineContext{tiers_, *slots_, layouts_},
                                             &pool_,
                                             &gate_,
                                             MakeOutlets());
  }

  ActionRunner::Outlets MakeOutlets() {
    ActionRunner::Outlets outlets;
    outlets.send = [this](SessionId, Outgoing outgoing) { sent_.push_back(std::move(outgoing)); };
    outlets.close = [](SessionId) {};
    return outlets;
  }

  static TierSet::MakeFileSystem Maker() {
    return [] { return std::make_unique<storage_tiers::PosixFileSystem>(); };
  }

  static Send SendOf(RequestId request) {
    Send send;
    send.session = 1;
    send.message.set_request_id(request);
    send.message.mutable_restore();
    send.fd_slot = SlotRef{9, 9};
    return send;
  }

  TempFolder temp_;
  const std::string folder_ = temp_.path();
  boost::asio::io_context io_{1};
  IoThread io_thread_;
  WorkerPool pool_{"cpu", 1};
  std::unique_ptr<storage_tiers::Arena> arena_;
  std::unique_ptr<SlotStore> slots_;
  LayoutStore layouts_;
  TierSet tiers_{io_.get_executor(), TierOptions(), 2, Maker()};
  NodeCore core_{CoreOptions(), RecoveredState(), SystemClock().Now(), SystemClock().WallNow()};
  int wakes_ = 0;
  CoreGate gate_{&io_thread_, &core_, [this] { ++wakes_; }};
  std::vector<Outgoing> sent_;
  std::unique_ptr<ActionRunner> runner_;
};

// L: a client that waits must not wait for ever, and an event without its memory means nothing.
TEST_F(ActionRunnerTest, AnAnswerWhoseSlotIsGoneIsAnErrorAndAnEventIsDropped) {
  runner_->Run(SendOf(7));
  ASSERT_EQ(sent_.size(), 1U);
  EXPECT_EQ(sent_[0].message.request_id(), 7U);
  EXPECT_EQ(sent_[0].message.error().code(), static_cast<std::uint32_t>(Errc::kInternal));
  runner_->Run(SendOf(0));
  EXPECT_EQ(sent_.size(), 1U);
}

TEST_F(ActionRunnerTest, AnAnswerWhoseFileIsClosedIsAnError) {
  runner_->Run(CloseShardFile{3});
  Send send = SendOf(8);
  send.fd_slot.reset();
  send.fd_file = 3;
  runner_->Run(std::move(send));
  ASSERT_EQ(sent_.size(), 1U);
  EXPECT_TRUE(sent_[0].message.has_error());
}

// The choice is written, then the commit: the record must end with the commit though both writes
// are under way at once, and though the tier refused the first.
TEST_F(ActionRunnerTest, AnIncarnationsRecordEndsWithTheLastDecision) {
  const std::string root = folder_ + "/root";
  std::filesystem::create_directory(root);
  storage_tiers::PosixFileSystem base;
  for (std::uint64_t number = 1; number <= 40; ++number) {
    WriteIncarnation write;
    write.job_name = "job";
    write.file.set_format_version(1);
    write.file.set_job_uid(std::string(16, 'j'));
    write.file.set_number(number);
    write.file.set_token(7);
    write.file.set_world_size(1);
    proto::TierPolicy& tier = write.tiers.emplace_back();
    tier.set_root(root);
    tier.set_scope(proto::SHARED);
    for (std::uint32_t attempt = 1; attempt <= 5; ++attempt) {
      write.file.mutable_decision()->set_attempt(attempt);
      write.file.mutable_decision()->set_decided(true);
      write.file.mutable_decision()->set_committed(attempt == 5);
      runner_->Run(write);
    }
    while (runner_->running() > 0) {
      io_.restart();
      io_.run_one_for(seconds(1));
    }
    storage_tiers::PersistentTier files(base, root, storage_tiers::TierScope::kShared);
    const auto record = files.ReadIncarnation("job", number);
    ASSERT_TRUE(record.has_value() && record.value().has_value()) << number;
    ASSERT_TRUE(record.value()->decision().committed()) << number;
  }
}

// The contract of action.h: answered exactly once, also after failure.
TEST_F(ActionRunnerTest, WhatCannotBeDoneIsAnsweredOnceToTheCore) {
  PrepareSlot prepare;
  prepare.slot = {1, 1};
  prepare.capacity_bytes = kMiB;
  prepare.create = true;
  prepare.layout_hash = std::string(16, 'x');
  runner_->Run(prepare);
  runner_->Run(DigestSlot{{9, 9}, 100});
  runner_->Run(FlushShard());
  EXPECT_TRUE(tests::RunCoroutine(io_, runner_->Join(seconds(20))));
  EXPECT_EQ(wakes_, 3);
  EXPECT_EQ(runner_->counters().prepare_failures, 1U);
}

TEST_F(ActionRunnerTest, WhatComesAfterTheEndIsAnsweredAtOnceAndStartsNothing) {
  runner_->Stop();
  runner_->Run(PrepareSlot());
  runner_->Run(DigestSlot());
  runner_->Run(VerifySlot());
  runner_->Run(ClaimIncarnation());
  runner_->Run(ListTier());
  runner_->Run(OpenShardFile());
  runner_->Run(FlushShard());
  runner_->Run(PublishManifest());
  runner_->Run(DeleteDurable());
  EXPECT_EQ(wakes_, 9);
  EXPECT_TRUE(tests::RunCoroutine(io_, runner_->Join(seconds(20))));
}

}  // namespace
}  // namespace holdfast::daemon
