// Requests over a connection that breaks: sent again in order, each ended exactly once.

#include "client/connection.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/clock.h"
#include "common/mutex.h"
#include "tests/client/fake_daemon.h"

namespace holdfast::client {
namespace {

using Body = proto::ClientMessage::BodyCase;
using std::chrono::seconds;

class NoSession final : public ConnectionHandler {
 public:
  std::optional<proto::ClientMessage> MakeResume() override { return std::nullopt; }

  Status OnResumed(Result<Reply>) override { return Ok(); }

  void OnConnected() override {}

  Status OnEvent(Reply) override { return Ok(); }

  void OnLost() override {}

  void OnFenced(const Error&) override { fenced = true; }

  std::atomic<bool> fenced{false};
};

class ConnectionTest : public ::testing::Test {
 protected:
  ConnectionTest() {
    ConnectionOptions options;
    options.socket_path = daemon_.SocketPath();
    connection_ = std::make_unique<Connection>(options, &handler_, &guard_);
  }

  ~ConnectionTest() override {
    connection_->Stop();
    daemon_.Stop();
  }

  static MonotonicTime Soon() { return SystemClock().Now() + seconds(20); }

  void Start() {
    ASSERT_TRUE(connection_->Start().has_value());
    ASSERT_TRUE(connection_->WaitConnected(Soon()).has_value());
  }

  // Leaves requests of this kind without an answer until Release.
  void HoldBack(Body body) {
    daemon_.SetHook([this, body](const proto::ClientMessage& message) {
      MutexLock lock(mutex_);
      return message.body_case() == body && held_back_ ? FakeDaemon::Verdict::kHandled
                                                       : FakeDaemon::Verdict::kDefault;
    });
  }

  void Release() {
    MutexLock lock(mutex_);
    held_back_ = false;
  }

  // A "missed" of that step; its end is counted under the step.
  std::uint64_t SubmitMissed(std::int64_t step) {
    Connection::Request request;
    request.make = [step]() -> std::optional<proto::ClientMessage> {
      proto::ClientMessage message;
      message.mutable_missed()->set_step(step);
      return message;
    };
    request.on_reply = [this, step](const Result<Reply>& reply) {
      MutexLock lock(mutex_);
      ends_[step].push_back(reply.has_value() ? "ok" : std::string(ErrcName(reply.error().code)));
      changed_.NotifyAll();
    };
    const auto ticket = connection_->Submit(std::move(request));
    EXPECT_TRUE(ticket.has_value());
    return ticket.value();
  }

  std::vector<std::string> EndsOf(std::int64_t step) {
    MutexLock lock(mutex_);
    const MonotonicTime limit = Soon();
    while (ends_[step].empty() && changed_.WaitUntil(lock, limit)) {
    }
    return ends_[step];
  }

  std::vector<std::int64_t> StepsReceived() {
    std::vector<std::int64_t> steps;
    for (const proto::ClientMessage& message : daemon_.Received(Body::kMissed)) {
      steps.push_back(message.missed().step());
    }
    return steps;
  }

  const std::vector<std::string> ok_ = {"ok"};
  FakeDaemon daemon_;
  NoSession handler_;
  ForkGuard guard_;
  Mutex mutex_;
  CondVar changed_;
  bool held_back_ = true;
  std::map<std::int64_t, std::vector<std::string>> ends_;
  std::unique_ptr<Connection> connection_;
};

// I12.
TEST_F(ConnectionTest, WhatWasNotAnsweredIsSentAgainInOrderAndEndsOnce) {
  HoldBack(Body::kMissed);
  Start();
  SubmitMissed(1);
  SubmitMissed(2);
  ASSERT_TRUE(daemon_.WaitReceived(Body::kMissed, 2));
  Release();
  daemon_.CutConnections();
  EXPECT_EQ(EndsOf(1), ok_);
  EXPECT_EQ(EndsOf(2), ok_);
  EXPECT_EQ(StepsReceived(), std::vector<std::int64_t>({1, 2, 1, 2}));
}

TEST_F(ConnectionTest, ACancelledRequestEndsAtOnceAndIsNotSentAgain) {
  HoldBack(Body::kMissed);
  Start();
  const std::uint64_t ticket = SubmitMissed(1);
  ASSERT_TRUE(daemon_.WaitReceived(Body::kMissed, 1));
  connection_->Cancel(ticket);
  connection_->Cancel(ticket);
  EXPECT_EQ(EndsOf(1), std::vector<std::string>({"cancelled"}));
  Release();
  daemon_.CutConnections();
  SubmitMissed(2);
  EXPECT_EQ(EndsOf(2), ok_);
  EXPECT_EQ(StepsReceived(), std::vector<std::int64_t>({1, 2}));
}

// I8: an older incarnation does nothing any more, whatever it still had to say.
TEST_F(ConnectionTest, AFencedAnswerEndsEveryRequestAndTheConnection) {
  daemon_.SetHook([this](const proto::ClientMessage& message) {
    if (message.has_missed() && message.missed().step() == 2) {
      daemon_.AnswerError(message, Errc::kFenced, "over");
    }
    return message.has_missed() ? FakeDaemon::Verdict::kHandled : FakeDaemon::Verdict::kDefault;
  });
  Start();
  SubmitMissed(1);
  SubmitMissed(2);
  EXPECT_EQ(EndsOf(1), std::vector<std::string>({"fenced"}));
  EXPECT_EQ(EndsOf(2), std::vector<std::string>({"fenced"}));
  EXPECT_TRUE(handler_.fenced);
  EXPECT_EQ(connection_->Submit({}).error().code, Errc::kFenced);
}

// I9.
TEST_F(ConnectionTest, OneRequestTooManyIsRefusedAndTheOthersEndAtStop) {
  HoldBack(Body::kMissed);
  Start();
  const auto count = static_cast<std::int64_t>(Connection::kMaxRequests);
  for (std::int64_t step = 0; step < count; ++step) {
    SubmitMissed(step);
  }
  EXPECT_EQ(connection_->Submit({}).error().code, Errc::kUnavailable);
  connection_->Stop();
  for (std::int64_t step = 0; step < count; ++step) {
    ASSERT_EQ(EndsOf(step), std::vector<std::string>({"cancelled"}));
  }
}

TEST_F(ConnectionTest, ACallWithoutAnAnswerEndsAtItsDeadlineAndALateAnswerIsDropped) {
  HoldBack(Body::kStatus);
  Start();
  proto::ClientMessage status;
  status.mutable_status();
  const auto reply = connection_->Call(status, SystemClock().Now() + std::chrono::milliseconds(50));
  EXPECT_EQ(reply.error().code, Errc::kTimeout);
  ASSERT_TRUE(daemon_.WaitReceived(Body::kStatus, 1));
  proto::ServerMessage late;
  late.mutable_status();
  daemon_.Answer(daemon_.Received(Body::kStatus).front(), late);
  SubmitMissed(1);
  EXPECT_EQ(EndsOf(1), ok_) << "the connection lives";
}

TEST_F(ConnectionTest, ADaemonOfAnotherVersionIsNotWaitedFor) {
  daemon_.SetHook([this](const proto::ClientMessage& message) {
    if (!message.has_hello()) {
      return FakeDaemon::Verdict::kDefault;
    }
    daemon_.AnswerError(message, Errc::kVersionMismatch, "version 77");
    return FakeDaemon::Verdict::kHandled;
  });
  ASSERT_TRUE(connection_->Start().has_value());
  const auto began = SystemClock().Now();
  const Status status = connection_->WaitConnected(began + seconds(600));
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, Errc::kVersionMismatch);
}

}  // namespace
}  // namespace holdfast::client
