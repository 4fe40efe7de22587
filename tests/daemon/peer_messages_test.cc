// The core's values over the wire and back.
#include "daemon/peer_messages.h"

#include <gtest/gtest.h>

namespace holdfast::daemon {
namespace {

const SnapshotKey kOne{1, 7};
const SnapshotKey kTwo{2, 0};

const std::string kNode(16, 'n');

CodeSet FullSet() {
  CodeSet set;
  set.local_rank = 1;
  set.epoch = 4;
  set.geometry =
      ec::MakeGeometry(2, {std::string(16, 'a'), std::string(16, 'b')}, {1, 1}, {1 << 20, 0})
          .value();
  set.ranks = {5, 0};
  return set;
}

Report FullReport() {
  Report report;
  report.stamp = MessageStamp{Epoch{3, 99}, 4, 5};
  report.node_uuid = std::string(16, 'n');
  report.answers_attempt = 6;
  RankReport rank;
  rank.last_begun = 8;
  rank.connected = rank.asked = rank.overwritten = rank.drains = true;
  rank.asked_after = 9;
  rank.wish.named_step = 0;
  rank.wish.include_discarded = true;
  rank.prepared = 10;
  rank.loaded = 11;
  report.ranks[0] = rank;
  report.ranks[17] = RankReport();
  report.shards = {{kOne, 0, ShardEntry::State::kFilling, 0, 77},
                   {kOne, 1, ShardEntry::State::kSealed, 2},
                   {kTwo, 1, ShardEntry::State::kPoisoned, 3}};
  report.known_complete = {kOne, kTwo};
  RestoreFailure failure;
  failure.attempt = 2;
  failure.rank = 1;
  failure.id = kTwo;
  failure.source.kind = Source::Kind::kTier;
  failure.source.root = "/a";
  failure.source_is_bad = failure.fatal = true;
  failure.code = Errc::kUnavailable;
  failure.reason = "why";
  report.failures = {failure, RestoreFailure()};
  report.flushed["/a"][kOne] = {0, 1};
  report.flushed["/a"][kTwo] = {};
  report.flushed["/b"][kTwo] = {5};
  report.looked_again[{"/b", kTwo}] = 2;
  report.missed_reasons[{3, 1}] = "busy";
  report.known_nodes[kNode] = {"10.0.0.1:7600", "10.0.1.1:7600"};
  report.decisions = {{Epoch{2, 98}, 4, {}}};
  report.decisions[0].decision.set_attempt(3);
  report.ranks[0].image_bytes = 5;
  report.ranks[0].static_bytes = 6;
  report.shards[1].image_bytes = 7;
  report.shards[1].static_bytes = 8;
  report.failure_domain = "rack 1";
  report.parity_error = "no room";
  report.parity = {{kOne, 77, 1, 2, 3, {0}, FullSet()}, {kTwo, 78, 0, 2, 3, {}, std::nullopt}};
  report.parity[0].shares_static = true;
  report.parity[1].kind = proto::STATIC;
  report.sidecars = {{kOne, 77, {1, 2}}, {kTwo, 78, {}}};
  return report;
}

Command FullCommand() {
  Command command;
  command.stamp = MessageStamp{Epoch{3, 99}, 4, 5};
  command.phase = Phase::kGo;
  command.attempt = 2;
  command.decided = true;
  command.choice = kTwo;
  command.sources[0] = Source();
  command.sources[1].kind = Source::Kind::kTier;
  command.sources[1].root = "/a";
  command.passed_over = {"step 9: gone"};
  command.error = "";
  command.error_code = Errc::kUnavailable;
  command.superseded = "a newer start";
  command.fenced = "another token";
  command.abandoned[kOne] = "torn";
  command.complete = {kOne};
  command.discarded = {kTwo};
  command.flush = {{"/a", kOne, true, 3}, {"/b", kTwo, false, 0}};
  command.durable = {{"/a", kTwo}};
  command.world_size = 2;
  command.owner_uid = 1000;
  command.decision.set_attempt(2);
  command.sources[2] = Source{Source::Kind::kPeer, "", kNode};
  command.sources[3] = Source{Source::Kind::kRebuild, "", ""};
  command.coded = true;
  command.not_coded = "frozen tensors";
  command.group_version = 3;
  command.group = GroupView{{kNode}, 1, 1, true, {"rack 1"}};
  command.protect = ProtectTarget{kOne, 77, {FullSet()}};
  command.protected_id = kTwo;
  command.margins = {{kOne, 0}, {kTwo, 1}};
  command.orders[2] = ShardOrder{9, {kNode}, std::nullopt, std::nullopt};
  const HeldSet held{FullSet(), {{kNode, {}}, {"", {{0, {4, 2}}}}}};
  command.orders[3] = ShardOrder{9, {kNode}, held, std::nullopt};
  command.orders[4] = command.orders[3];
  command.orders[4].static_held = HeldSet{FullSet(), {{kNode, {{0, {3, 1}}}}, {"", {}}}};
  command.orders[4].static_held->set.kind = proto::STATIC;
  command.choice_token = 78;
  command.lost = {kOne, kTwo};
  command.silent = {kNode};
  return command;
}

const std::string kJob(16, 'j');

TEST(PeerMessagesTest, ReportComesBackWhole) {
  const Report report = FullReport();
  const auto sent = ToProto(kJob, "job", report);
  EXPECT_EQ(sent.job_uid(), kJob);
  EXPECT_EQ(sent.job_name(), "job");
  const auto back = FromProto(sent.report());
  ASSERT_TRUE(back.has_value()) << back.error().ToString();
  const Report& got = back.value();
  EXPECT_EQ(got.stamp.epoch, report.stamp.epoch);
  EXPECT_EQ(got.ranks.at(0).wish, report.ranks.at(0).wish);
  EXPECT_EQ(got.ranks.at(17).wish, report.ranks.at(17).wish);
  EXPECT_EQ(got.ranks.at(17).last_begun, kNoStep);
  EXPECT_EQ(got.known_complete, report.known_complete);
  EXPECT_EQ(got.flushed, report.flushed);
  EXPECT_EQ(got.looked_again, report.looked_again);
  EXPECT_EQ(got.missed_reasons, report.missed_reasons);
  EXPECT_EQ(got.failures.at(0).source, report.failures.at(0).source);
  EXPECT_EQ(got.failures.at(1).id, SnapshotKey());
  EXPECT_TRUE(SameContent(got, report));
  // All other fields: what was lost on the way would be missing in the second message.
  EXPECT_EQ(ToProto(kJob, "job", got).SerializeAsString(), sent.SerializeAsString());
}

TEST(PeerMessagesTest, CommandComesBackWhole) {
  const Command command = FullCommand();
  const auto sent = ToProto(kJob, "job", command);
  const auto back = FromProto(sent.command());
  ASSERT_TRUE(back.has_value()) << back.error().ToString();
  const Command& got = back.value();
  EXPECT_EQ(got.phase, Phase::kGo);
  EXPECT_EQ(got.choice, command.choice);
  EXPECT_EQ(got.sources, command.sources);
  EXPECT_EQ(got.error, command.error);
  EXPECT_EQ(got.error_code, command.error_code);
  EXPECT_EQ(got.superseded, command.superseded);
  EXPECT_EQ(got.fenced, command.fenced);
  EXPECT_EQ(got.abandoned, command.abandoned);
  EXPECT_EQ(got.discarded, command.discarded);
  EXPECT_EQ(got.flush, command.flush);
  EXPECT_EQ(got.durable, command.durable);
  EXPECT_TRUE(SameContent(got, command));
  EXPECT_EQ(ToProto(kJob, "job", got).SerializeAsString(), sent.SerializeAsString());
}

TEST(PeerMessagesTest, AbsentChoiceAndErrorStayAbsent) {
  Command command;
  command.stamp.epoch.number = 1;
  const auto back = FromProto(ToProto(kJob, "job", command).command());
  ASSERT_TRUE(back.has_value());
  EXPECT_FALSE(back.value().choice.has_value());
  EXPECT_FALSE(back.value().error.has_value());
}

TEST(PeerMessagesTest, EveryPhaseComesBack) {
  for (const Phase phase :
       {Phase::kCollect, Phase::kPrepare, Phase::kGo, Phase::kRun, Phase::kError}) {
    Command command;
    command.stamp.epoch.number = 1;
    command.phase = phase;
    EXPECT_EQ(FromProto(ToProto(kJob, "job", command).command()).value().phase, phase);
  }
}

TEST(PeerMessagesTest, WhatTheCoreCannotTakeIsRefused) {
  const auto report = ToProto(kJob, "job", FullReport()).report();
  const auto command = ToProto(kJob, "job", FullCommand()).command();
  std::vector<proto::PeerReport> reports(10, report);
  reports[0].mutable_stamp()->set_epoch_number(0);
  reports[1].mutable_shards(0)->set_state(static_cast<proto::ShardState::State>(77));
  reports[2].mutable_shards(0)->mutable_id()->set_step(-1);
  *reports[3].add_ranks() = reports[3].ranks(0);
  reports[4].mutable_failures(0)->mutable_source()->clear_root();
  reports[5].mutable_ranks(0)->set_last_begun(-2);
  reports[6].mutable_known_complete(0)->set_incarnation(0);
  reports[7].mutable_known_nodes(0)->set_node_uuid("short");
  reports[8].mutable_decisions(0)->set_number(0);
  reports[9].mutable_parity(0)->add_rows(1);  // its code has one
  for (const auto& bad : reports) {
    EXPECT_EQ(FromProto(bad).error().code, Errc::kInvalidArgument) << &bad - reports.data();
  }
  std::vector<proto::PeerCommand> commands(7, command);
  commands[0].mutable_stamp()->set_epoch_number(0);
  commands[1].set_phase(static_cast<proto::PeerCommand::Phase>(77));
  commands[2].set_attempt(0);
  commands[3].mutable_choice()->set_step(-1);
  *commands[4].add_sources() = commands[4].sources(0);
  commands[5].mutable_flush(0)->mutable_id()->set_incarnation(0);
  commands[6].mutable_shard_orders(1)->mutable_held()->mutable_holders(1)->mutable_rows(0)->set_row(
      1);
  for (const auto& bad : commands) {
    EXPECT_EQ(FromProto(bad).error().code, Errc::kInvalidArgument) << &bad - commands.data();
  }
  auto strange = command;
  strange.set_error_code(999);
  EXPECT_EQ(FromProto(strange).value().error_code, Errc::kInternal);
}

}  // namespace
}  // namespace holdfast::daemon
