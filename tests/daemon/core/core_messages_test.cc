// What Member and Coordinator make of messages that are late, lost, or of another incarnation.

#include <gtest/gtest.h>

#include "daemon/core/coordinator.h"
#include "daemon/core/core_context.h"
#include "daemon/core/job.h"
#include "daemon/core/member.h"

namespace holdfast::daemon {
namespace {

const JobUid kUid = "uid-of-a-job----";
constexpr Epoch kEpoch{2, 77};
constexpr SnapshotKey kId{2, 1};

class CoreMessagesTest : public ::testing::Test {
 protected:
  CoreMessagesTest() {
    job_.record.set_job_uid(kUid);
    job_.record.set_name("train");
    job_.record.set_epoch_number(kEpoch.number);
    job_.record.set_epoch_token(kEpoch.token);
    job_.record.set_world_size(2);
  }

  // The incarnation has restored and trains.
  void Commit() {
    job_.Present()->mutable_decision()->set_attempt(1);
    job_.Present()->mutable_decision()->set_committed(true);
  }

  // Two, but they count as many.
  void SpanManyNodes() {
    context_.options.decide_each_report = 1;
    for (const Rank rank : {0U, 1U}) {
      proto::MemberNode* member = job_.Present()->add_members();
      member->set_node_uuid("n" + std::to_string(rank));
      member->add_ranks(rank);
    }
  }

  static Report ReportOf(const std::string& node, Rank rank, std::uint64_t sequence) {
    Report report;
    report.stamp = {kEpoch, 1, sequence};
    report.node_uuid = node;
    report.answers_attempt = 1;
    report.ranks[rank].connected = true;
    return report;
  }

  static Report Sealed(const std::string& node, Rank rank, std::uint64_t sequence) {
    Report report = ReportOf(node, rank, sequence);
    report.ranks[rank].last_begun = kId.step;
    report.shards.push_back({kId, rank, ShardEntry::State::kSealed});
    return report;
  }

  static Command CommandOf(const Epoch& epoch, std::uint64_t sequence, Phase phase) {
    Command command;
    command.stamp = {epoch, 1, sequence};
    command.phase = phase;
    return command;
  }

  CoreContext context_{CoreOptions{},
                       "node-0----------",
                       SlotTable({"arena-0---------", "boot", 1}, 1 << 30),
                       MonotonicTime{std::chrono::hours(1)},
                       WallTime{},
                       {},
                       1,
                       1};
  Job job_;
};

// I8: lower_epoch_command_changes_nothing.
TEST_F(CoreMessagesTest, ACommandOfALowerEpochIsFencedAndChangesNothing) {
  Member member(&context_, &job_);
  member.StartEpoch();
  ASSERT_TRUE(member.OnCommand(CommandOf(kEpoch, 5, Phase::kCollect)).has_value());
  context_.out = {};
  for (const Phase phase : {Phase::kRun, Phase::kGo, Phase::kError}) {
    Command late = CommandOf({1, 77}, 9, phase);
    late.abandoned[{1, 1}] = "late";
    late.complete.insert({1, 1});
    const Result<bool> obeyed = member.OnCommand(late);
    ASSERT_FALSE(obeyed.has_value());
    EXPECT_EQ(obeyed.error().code, Errc::kFenced);
    EXPECT_TRUE(context_.out.empty());
    EXPECT_EQ(member.command().phase, Phase::kCollect);
    EXPECT_TRUE(member.command().abandoned.empty());
  }
}

// I8: two_starts_with_the_same_number.
TEST_F(CoreMessagesTest, ACommandWithAnotherTokenOfTheSameNumberIsFenced) {
  Member member(&context_, &job_);
  member.StartEpoch();
  const Result<bool> obeyed = member.OnCommand(CommandOf({2, 78}, 9, Phase::kRun));
  ASSERT_FALSE(obeyed.has_value());
  EXPECT_EQ(obeyed.error().code, Errc::kFenced);
}

TEST_F(CoreMessagesTest, ACommandThatWasOvertakenChangesNothing) {
  Member member(&context_, &job_);
  member.StartEpoch();
  ASSERT_TRUE(member.OnCommand(CommandOf(kEpoch, 9, Phase::kPrepare)).has_value());
  const Result<bool> obeyed = member.OnCommand(CommandOf(kEpoch, 8, Phase::kRun));
  ASSERT_TRUE(obeyed.has_value());
  EXPECT_FALSE(obeyed.value());
  EXPECT_EQ(member.command().phase, Phase::kPrepare);
}

// A coordinator that came back counts its messages anew; its boot number is higher.
TEST_F(CoreMessagesTest, ACommandOfALaterBootIsNewerWhateverItsNumber) {
  Member member(&context_, &job_);
  member.StartEpoch();
  ASSERT_TRUE(member.OnCommand(CommandOf(kEpoch, 9, Phase::kPrepare)).has_value());
  Command later = CommandOf(kEpoch, 1, Phase::kGo);
  later.stamp.boot = 2;
  ASSERT_TRUE(member.OnCommand(later).has_value());
  EXPECT_EQ(member.command().phase, Phase::kGo);
}

// I1: complete by reports of all ranks, and only by these.
TEST_F(CoreMessagesTest, ASnapshotIsCompleteWhenEveryRankReportsItSealed) {
  Commit();
  Coordinator coordinator(&context_, &job_);
  coordinator.OnReport(Sealed("n0", 0, 1));
  EXPECT_FALSE(job_.IsComplete(kId));
  coordinator.OnReport(Sealed("n1", 1, 1));
  EXPECT_TRUE(job_.IsComplete(kId));
}

// I4, I10.
TEST_F(CoreMessagesTest, older_report_overtaken_by_newer) {
  Commit();
  Coordinator coordinator(&context_, &job_);
  coordinator.OnReport(ReportOf("n1", 1, 2));  // the shard is not there any more
  coordinator.OnReport(Sealed("n0", 0, 1));
  coordinator.OnReport(Sealed("n1", 1, 1));  // sent before
  EXPECT_FALSE(job_.IsComplete(kId));
  coordinator.OnReport(Sealed("n1", 1, 3));
  EXPECT_TRUE(job_.IsComplete(kId));
}

// I4, I10.
TEST_F(CoreMessagesTest, report_of_a_lost_member_does_not_count) {
  Commit();
  Coordinator coordinator(&context_, &job_);
  coordinator.OnReport(Sealed("n1", 1, 1));
  coordinator.OnMemberLost("n1");
  coordinator.OnReport(Sealed("n0", 0, 1));
  EXPECT_FALSE(job_.IsComplete(kId));
}

// I8.
TEST_F(CoreMessagesTest, AReportOfAnotherEpochDoesNotCount) {
  Commit();
  Coordinator coordinator(&context_, &job_);
  coordinator.OnReport(Sealed("n0", 0, 1));
  for (const Epoch& other : {Epoch{1, 77}, Epoch{2, 78}, Epoch{3, 77}}) {
    Report report = Sealed("n1", 1, 9);
    report.stamp.epoch = other;
    coordinator.OnReport(report);
    EXPECT_FALSE(job_.IsComplete(kId));
  }
}

// I8: same_step_of_two_incarnations_never_mixes.
TEST_F(CoreMessagesTest, TheSameStepOfAnOlderIncarnationDoesNotCount) {
  Commit();
  Coordinator coordinator(&context_, &job_);
  Report old = Sealed("n0", 0, 1);
  old.shards[0].id.incarnation = 1;
  old.ranks[0].last_begun = kNoStep;
  coordinator.OnReport(old);
  coordinator.OnReport(Sealed("n1", 1, 1));
  EXPECT_FALSE(job_.IsComplete(kId));
  EXPECT_FALSE(job_.IsComplete({1, 1}));
}

// A job of many nodes: what completes an id is decided by at once, the rest at the tick.
TEST_F(CoreMessagesTest, OfManyNodesACompleteSnapshotDoesNotWaitForTheTick) {
  Commit();
  SpanManyNodes();
  Coordinator coordinator(&context_, &job_);
  coordinator.OnTick();
  coordinator.OnReport(Sealed("n0", 0, 1));
  EXPECT_FALSE(coordinator.IsDue());
  coordinator.OnReport(Sealed("n1", 1, 1));
  EXPECT_TRUE(job_.IsComplete(kId));
}

TEST_F(CoreMessagesTest, OfManyNodesAMissedSnapshotIsAbandonedAtTheTick) {
  Commit();
  SpanManyNodes();
  Coordinator coordinator(&context_, &job_);
  coordinator.OnTick();
  Report missed = ReportOf("n1", 1, 1);
  missed.ranks[1].last_begun = kId.step;
  coordinator.OnReport(Sealed("n0", 0, 1));
  coordinator.OnReport(missed);
  EXPECT_FALSE(job_.IsAbandoned(kId));
  coordinator.OnTick();
  EXPECT_TRUE(job_.IsAbandoned(kId));
}

// A member that is gone may have had what others count on.
TEST_F(CoreMessagesTest, OfManyNodesTheLossOfAMemberIsDecidedByAtOnce) {
  Commit();
  SpanManyNodes();
  Coordinator coordinator(&context_, &job_);
  coordinator.OnReport(Sealed("n1", 1, 1));
  coordinator.OnTick();
  EXPECT_FALSE(coordinator.IsDue());
  coordinator.OnMemberLost("n1");
  EXPECT_TRUE(coordinator.IsDue());
}

// L: lost_report_is_repaired_by_the_next; old_inventory_does_not_answer_new_attempt.
TEST_F(CoreMessagesTest, TheNextReportBringsWhatALostOneShouldHave) {
  Coordinator coordinator(&context_, &job_);
  Report first = ReportOf("n0", 0, 1);
  first.ranks[0].asked = true;
  coordinator.OnReport(first);
  Report stale = ReportOf("n1", 1, 1);
  stale.ranks[1].asked = true;
  stale.answers_attempt = 0;
  coordinator.OnReport(stale);
  EXPECT_EQ(coordinator.phase(), Phase::kCollect);
  stale.stamp.sequence = 2;
  stale.answers_attempt = coordinator.attempt();
  coordinator.OnReport(stale);
  EXPECT_EQ(coordinator.phase(), Phase::kRun);  // nothing to restore
}

}  // namespace
}  // namespace holdfast::daemon
