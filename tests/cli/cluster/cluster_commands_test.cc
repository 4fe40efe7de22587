// status, ls, show --cluster and verify --peers as a user runs them, with nodes of fixed answers.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "cli/interrupt.h"
#include "tests/cli/cli_fixture.h"
#include "tests/cli/cluster/four_nodes.h"

namespace holdfast::cli {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

class ClusterCommandsTest : public CliTest {
 protected:
  ClusterCommandsTest() {
    daemon_ = [this](const proto::ClientMessage& request) { return Serve(request); };
  }

  Result<AdminReply> Serve(const proto::ClientMessage& request) {
    AdminReply reply;
    if (request.has_ask_nodes()) {
      Page(request.ask_nodes(), reply.message.mutable_ask_nodes());
      return reply;
    }
    if (!request.has_scrub_nodes()) {
      return Error(Errc::kInternal, "not asked for");
    }
    for (const proto::ScrubPart& part : request.scrub_nodes().parts()) {
      *reply.message.mutable_scrub_nodes()->add_results() = Read(part);
    }
    return reply;
  }

  void Page(const proto::AskNodesRequest& request, proto::AskNodesReply* reply) const {
    for (const proto::NodeAnswer& node : nodes_) {
      if (node.node_uuid() > request.after_node() && (page_ == 0 || reply->nodes_size() < page_)) {
        *reply->add_nodes() = node;
      }
    }
    reply->set_more(reply->nodes_size() > 0 &&
                    reply->nodes().rbegin()->node_uuid() < nodes_.back().node_uuid());
  }

  proto::ScrubResult Read(const proto::ScrubPart& part) const {
    proto::ScrubResult result;
    result.set_bytes(part.key().has_image() ? 3 * kMiB : 2 * kMiB);
    if (part.node_uuid() == rotten_node_ && part.key().has_parity() == rotten_row_ &&
        part.key().parity().row() == 0) {
      result.add_bad_chunks(1);
    }
    if (part.node_uuid() == silent_node_) {
      result.Clear();
      result.set_error_code(static_cast<std::uint32_t>(Errc::kUnavailable));
      result.set_error("the connection ended");
    }
    if (part.node_uuid() == failing_node_ && part.key().has_image()) {
      result.Clear();
      result.set_error_code(static_cast<std::uint32_t>(Errc::kIoError));
      result.set_error("the arena cannot be read");
    }
    return result;
  }

  std::pair<int, json> Json(std::vector<std::string> arguments) {
    arguments.emplace_back("--json");
    const RunResult run = Run(arguments);
    return {run.exit, json::parse(run.out, nullptr, false)};
  }

  std::vector<proto::NodeAnswer> nodes_ = FourNodes();
  int page_ = 0;  // nodes of one answer; 0: all
  std::string rotten_node_;
  bool rotten_row_ = false;
  std::string silent_node_;
  std::string failing_node_;  // its image cannot be read
};

TEST_F(ClusterCommandsTest, StatusShowsNodesJobsRanksGroupsAndTheMargin) {
  const RunResult run = Run({"status", "--cluster"});
  EXPECT_EQ(run.exit, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("cluster of 4 nodes: 4 answered"));
  EXPECT_THAT(run.out, HasSubstr("job my-job: incarnation 7, 4 ranks on 4 nodes, run, live"));
  EXPECT_THAT(run.out, HasSubstr("decided by: node 212121212121"));
  EXPECT_THAT(run.out, HasSubstr("protected: 1200@7, 2 nodes more of each group may be lost"));
  EXPECT_THAT(run.out,
              HasSubstr("group 2+2: 212121212121 323232323232 434343434343 545454545454\n"));
  EXPECT_THAT(run.out, HasSubstr("10.0.0.3:7400"));
  EXPECT_THAT(run.out, Not(HasSubstr("missing")));
  const auto [exit, document] = Json({"status", "--cluster"});
  EXPECT_EQ(exit, 0);
  EXPECT_EQ(document["all_answered"], true);
  EXPECT_THAT(document["nodes"], SizeIs(4));
  EXPECT_EQ(document["nodes"][2]["daemon"]["boot_number"], 3);
  EXPECT_EQ(document["jobs"][0]["decider"], "21212121212121212121212121212121");
  EXPECT_THAT(document["jobs"][0]["ranks"], SizeIs(4));
  EXPECT_EQ(document["jobs"][0]["ranks"][3]["node"], "54545454545454545454545454545454");
}

// Nobody may take a part for the whole: the exit says it, and the node is named with the reason.
TEST_F(ClusterCommandsTest, ASilentNodeIsNamedAndTheRestIsShown) {
  Silence(&nodes_[2]);
  const RunResult run = Run({"status", "--cluster"});
  EXPECT_EQ(run.exit, 7);
  EXPECT_THAT(run.out, HasSubstr("cluster of 4 nodes: 3 answered"));
  EXPECT_THAT(run.out, HasSubstr("unreachable"));
  EXPECT_THAT(run.out, HasSubstr("connection refused"));
  EXPECT_THAT(run.out, HasSubstr("1 node more of each group may be lost"));
  EXPECT_THAT(run.out, HasSubstr("missing: rank 2 of node 434343434343 (unreachable)"));
  EXPECT_THAT(run.out, HasSubstr("434343434343(!)"));
  const auto [exit, document] = Json({"status", "--cluster"});
  EXPECT_EQ(exit, 7);
  EXPECT_EQ(document["all_answered"], false);
  EXPECT_EQ(document["nodes"][2]["answered"], false);
  EXPECT_EQ(document["nodes"][2]["error"]["code"], "unavailable");
  EXPECT_EQ(document["nodes"][2]["daemon"], nullptr);
  EXPECT_THAT(document["jobs"][0]["missing_ranks"], ElementsAre(2));
  for (const char* command : {"ls", "show"}) {
    std::vector<std::string> arguments = {command, "my-job", "--cluster"};
    if (command == std::string("show")) {
      arguments.insert(arguments.begin() + 2, "1200");
    }
    const RunResult other = Run(arguments);
    EXPECT_EQ(other.exit, 7);
    EXPECT_THAT(other.out, HasSubstr("no view of node 434343434343 (unreachable)"));
    EXPECT_THAT(other.out,
                HasSubstr("rank 2: no node that answered can give it; last seen at node "
                          "434343434343 (unreachable); parity brings it back"));
  }
}

TEST_F(ClusterCommandsTest, WhatIsLostIsNotLostForGoodWhileItsNodeIsOnlySilent) {
  for (const std::size_t node : {1U, 2U, 3U}) {
    Silence(&nodes_[node]);
  }
  const RunResult run = Run({"ls", "my-job", "--cluster"});
  EXPECT_EQ(run.exit, 7);
  EXPECT_THAT(run.out,
              HasSubstr("last seen at node 434343434343 (unreachable); nothing brings it back "
                        "unless that node comes back\n"));
}

TEST_F(ClusterCommandsTest, LsSaysWhichNodeHoldsWhat) {
  const RunResult run = Run({"ls", "--cluster"});
  EXPECT_EQ(run.exit, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("1200@7"));
  EXPECT_THAT(run.out, HasSubstr("4/4"));
  EXPECT_THAT(run.out, HasSubstr("545454545454  rank 3; 2 rows; sidecars of 0-2"));
  const auto [exit, document] = Json({"ls", "my-job", "--cluster"});
  EXPECT_EQ(exit, 0);
  ASSERT_THAT(document["snapshots"], SizeIs(1));
  const json& snapshot = document["snapshots"][0];
  EXPECT_EQ(snapshot["margin"], 2);
  EXPECT_EQ(snapshot["margin_seen"], 2);
  EXPECT_EQ(snapshot["bytes"], 12 * kMiB);
  EXPECT_THAT(snapshot["shards"], SizeIs(4));
  EXPECT_EQ(snapshot["sets"][0]["positions"][1]["rows"][0]["stripe"], 1);
  EXPECT_THAT(snapshot["sets"][0]["available_of_stripe"], ElementsAre(4, 4, 4, 4));
}

TEST_F(ClusterCommandsTest, ShowGoesDownToStripesAndRows) {
  Snapshot(&nodes_[1])->mutable_held_rows(0)->mutable_rows()->RemoveLast();
  const RunResult run = Run({"show", "my-job", "newest", "--cluster"});
  EXPECT_EQ(run.exit, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("local rank 0, group 2+2 of incarnation 7, version 1"));
  EXPECT_THAT(run.out, HasSubstr("0:3 1:2")) << "row 0 of stripe 3, row 1 of stripe 2";
  EXPECT_THAT(run.out, HasSubstr("0 1(!)")) << "row 1 of stripe 0 is missing at position 1";
  EXPECT_EQ(Run({"show", "my-job", "7", "--cluster"}).exit, 6);
}

TEST_F(ClusterCommandsTest, AJobThatNobodyKnowsIsNotFound) {
  for (proto::NodeAnswer& node : nodes_) {
    node.mutable_view()->mutable_list()->Clear();
    node.mutable_view()->mutable_status()->clear_jobs();
  }
  const RunResult run = Run({"ls", "other", "--cluster"});
  EXPECT_EQ(run.exit, 6);
  EXPECT_THAT(run.err, HasSubstr("no node of the cluster knows a job other"));
}

TEST_F(ClusterCommandsTest, AllPagesAreAskedForAndTheTimeIsPassedOn) {
  page_ = 1;
  EXPECT_THAT(Run({"status", "--cluster", "--timeout", "0.5"}).out, HasSubstr("4 answered"));
  ASSERT_THAT(requests_, SizeIs(4));
  EXPECT_EQ(requests_[0].ask_nodes().timeout_ms(), 500U);
  EXPECT_EQ(requests_[3].ask_nodes().after_node(), TestNode(2));
}

// A daemon of another version must not make a loop without end.
TEST_F(ClusterCommandsTest, PagesWithoutOrderAreAnError) {
  daemon_ = [this](const proto::ClientMessage&) -> Result<AdminReply> {
    AdminReply reply;
    *reply.message.mutable_ask_nodes()->add_nodes() = nodes_[0];
    reply.message.mutable_ask_nodes()->set_more(true);
    return reply;
  };
  const RunResult run = Run({"status", "--cluster"});
  EXPECT_EQ(run.exit, 1);
  EXPECT_THAT(run.err, HasSubstr("in no order"));
}

TEST_F(ClusterCommandsTest, AViewThatCannotBeIsNoView) {
  Snapshot(&nodes_[1])->mutable_held_rows(0)->mutable_set()->mutable_node_uuids()->RemoveLast();
  nodes_[2].mutable_view()->mutable_status()->mutable_jobs(0)->set_name("a\x1b/b");
  nodes_[3].mutable_view()->mutable_status()->set_node_uuid(TestNode(0));
  const RunResult run = Run({"status", "--cluster"});
  EXPECT_EQ(run.exit, 7);
  EXPECT_THAT(run.out, HasSubstr("1 answered"));
  EXPECT_THAT(run.out, HasSubstr("bad answer"));
}

TEST_F(ClusterCommandsTest, OtherPlacesAndFlagsDoNotGoWithIt) {
  for (const std::vector<std::string>& wrong :
       std::vector<std::vector<std::string>>{{"status", "--cluster", "--root", "/x"},
                                             {"ls", "--cluster", "--state-dir", "/x"},
                                             {"show", "j", "1", "--cluster", "--tensors"},
                                             {"show", "j", "1", "--cluster", "--rank", "1"},
                                             {"verify", "--peers", "--memory"},
                                             {"verify", "j", "1", "--peers"},
                                             {"status", "--timeout", "5"},
                                             {"status", "--cluster", "--timeout", "0"}}) {
    EXPECT_EQ(Run(wrong).exit, 2) << ::testing::PrintToString(wrong);
  }
  EXPECT_THAT(requests_, SizeIs(0));
}

TEST_F(ClusterCommandsTest, VerifyPeersReadsEverythingWhereItLies) {
  const RunResult run = Run({"verify", "--peers"});
  EXPECT_EQ(run.exit, 0) << run.err;
  EXPECT_THAT(run.out, Not(HasSubstr("BAD my-job")));
  const auto [exit, document] = Json({"verify", "my-job", "--peers"});
  EXPECT_EQ(exit, 0);
  EXPECT_EQ(document["ok"], true);
  EXPECT_EQ(document["bytes"], 28 * kMiB);  // four shards of 3 and eight rows of 2
  EXPECT_THAT(document["held"], SizeIs(12));
  EXPECT_EQ(document["nodes"][0]["good"], 3);
}

TEST_F(ClusterCommandsTest, VerifyPeersNamesWhatIsBad) {
  rotten_node_ = TestNode(1);
  RunResult run = Run({"verify", "--peers"});
  EXPECT_EQ(run.exit, 3);
  EXPECT_THAT(run.out, HasSubstr("BAD my-job 1200@7 rank 1 at node 323232323232: chunk 1\n"));
  rotten_row_ = true;
  run = Run({"verify", "--peers"});
  EXPECT_EQ(run.exit, 3);
  EXPECT_THAT(run.out,
              HasSubstr("BAD my-job 1200@7 row 0 of stripe 1 (local rank 0) at node "
                        "323232323232: chunk 1\n"));
  const auto [exit, document] = Json({"verify", "--peers"});
  EXPECT_EQ(exit, 3);
  EXPECT_EQ(document["ok"], false);
  EXPECT_EQ(document["nodes"][1]["bad"], 1);
}

TEST_F(ClusterCommandsTest, VerifyPeersDoesNotCallANodeOkOfWhichNotAllWasRead) {
  failing_node_ = TestNode(1);
  const RunResult run = Run({"verify", "--peers"});
  EXPECT_EQ(run.exit, 1);
  EXPECT_THAT(run.out, HasSubstr("323232323232  not all read"));
  EXPECT_THAT(run.out,
              HasSubstr("NOT READ my-job 1200@7 rank 1 at node 323232323232: the arena cannot be "
                        "read\n"));
}

TEST_F(ClusterCommandsTest, VerifyPeersIsIncompleteWithoutEveryNode) {
  silent_node_ = TestNode(3);
  RunResult run = Run({"verify", "--peers"});
  EXPECT_EQ(run.exit, 7);
  EXPECT_THAT(run.out, HasSubstr("the connection ended"));
  rotten_node_ = TestNode(1);
  EXPECT_EQ(Run({"verify", "--peers"}).exit, 3) << "what is bad goes first";
  silent_node_.clear();
  rotten_node_.clear();
  Silence(&nodes_[0]);
  EXPECT_EQ(Run({"verify", "--peers"}).exit, 7);
}

TEST_F(ClusterCommandsTest, VerifyPeersHearsCtrlC) {
  SetInterrupted(true);
  EXPECT_EQ(Run({"verify", "--peers"}).exit, 130);
}

}  // namespace
}  // namespace holdfast::cli
