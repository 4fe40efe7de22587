// Who may connect, and which folders another user may have the daemon write to.

#include <chrono>
#include <string>
#include <thread>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/admin_client.h"
#include "tests/daemon/daemon_process.h"
#include "tests/daemon/raw_client.h"
#include "tests/support/unique_name.h"

namespace holdfast {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using tests::DaemonProcess;
using tests::kLimit;
using tests::RawClient;

// Runs "body" in a child of another uid; its exit code.
template <class Body>
int InChildOf(uid_t uid, Body body) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::_exit(::setuid(uid) == 0 ? body() : 99);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int TryConnect(const std::string& path) {
  const auto client = client::AdminClient::Connect(path, "test", kLimit);
  if (client.has_value()) {
    return 0;
  }
  return static_cast<int>(client.error().code);
}

TEST(SessionUidTest, AStrangerIsRefusedAndANamedUserServed) {
  if (InChildOf(4321, [] { return 0; }) != 0) {
    GTEST_SKIP() << "needs root outside of a user namespace to become other users";
  }
  DaemonProcess daemon;
  DaemonProcess::Start start;
  // A socket where others can reach it.
  const std::string path = tests::UniqueName("/tmp/hfd-uid") + ".sock";
  start.config = "[clients]\nallowed_uids = [1234]\nsocket = \"" + path + "\"\n";
  daemon.Spawn(start);
  const auto deadline = std::chrono::steady_clock::now() + seconds(30);
  while (TryConnect(path) != 0 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(milliseconds(10));
  }
  EXPECT_EQ(InChildOf(1234, [&] { return TryConnect(path); }), 0) << daemon.Log();
  EXPECT_NE(InChildOf(4321, [&] { return TryConnect(path); }), 0);
  EXPECT_NE(daemon.Log().find("uid 4321 may not use this daemon"), std::string::npos)
      << daemon.Log();
  EXPECT_TRUE(daemon.Alive());
}

TEST(SessionUidTest, AUserSeesTheJobsOfNobodyElse) {
  if (InChildOf(4321, [] { return 0; }) != 0) {
    GTEST_SKIP() << "needs root outside of a user namespace to become other users";
  }
  DaemonProcess daemon;
  DaemonProcess::Start start;
  const std::string path = tests::UniqueName("/tmp/hfd-see") + ".sock";
  start.config = "[clients]\nsocket = \"" + path + "\"\n";
  daemon.Spawn(start);
  const auto deadline = std::chrono::steady_clock::now() + seconds(30);
  while (TryConnect(path) != 0 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(milliseconds(10));
  }
  const auto open = [&] {
    RawClient client(path);
    client.Hello();
    proto::ClientMessage message;
    message.mutable_open_incarnation()->set_job_name("secret");
    message.mutable_open_incarnation()->set_world_size(1);
    return client.Call(message).has_error() ? 1 : 0;
  };
  const auto jobs_seen = [&] {
    RawClient client(path);
    client.Hello();
    proto::ClientMessage status;
    status.mutable_status();
    proto::ClientMessage named;
    named.mutable_status()->set_job_name("secret");
    return client.Call(status).status().jobs_size() * 10 + client.Call(named).status().jobs_size();
  };
  ASSERT_EQ(InChildOf(1234, open), 0) << daemon.Log();
  EXPECT_EQ(InChildOf(1234, jobs_seen), 11);
  EXPECT_EQ(InChildOf(0, jobs_seen), 11);
  EXPECT_EQ(InChildOf(4321, jobs_seen), 0);
}

TEST(SessionUidTest, AnotherUserNamesNoRootOutsideOfTheAllowedFolders) {
  if (InChildOf(4321, [] { return 0; }) != 0) {
    GTEST_SKIP() << "needs root outside of a user namespace to become other users";
  }
  DaemonProcess daemon;
  DaemonProcess::Start start;
  const std::string path = tests::UniqueName("/tmp/hfd-root") + ".sock";
  const std::string link = daemon.root() + "/link";
  ASSERT_EQ(::symlink("/etc", link.c_str()), 0);
  start.config = "[clients]\nsocket = \"" + path + "\"\nroots = [\"" + daemon.root() + "\"]\n";
  daemon.Spawn(start);
  const auto deadline = std::chrono::steady_clock::now() + seconds(30);
  while (TryConnect(path) != 0 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(milliseconds(10));
  }
  const auto open_with = [&](const std::string& root) {
    RawClient client(path);
    client.Hello();
    proto::ClientMessage open;
    open.mutable_open_incarnation()->set_job_name("job");
    open.mutable_open_incarnation()->set_world_size(1);
    proto::TierPolicy* tier = open.mutable_open_incarnation()->add_tiers();
    tier->set_root(root);
    tier->set_scope(proto::SHARED);
    tier->set_keep_last(1);
    return static_cast<int>(client.Call(open).error().code());
  };
  const int refused = static_cast<int>(Errc::kPermission);
  EXPECT_EQ(InChildOf(4321, [&] { return open_with("/etc"); }), refused);
  EXPECT_EQ(InChildOf(4321, [&] { return open_with(link); }), refused);
  EXPECT_EQ(InChildOf(4321, [&] { return open_with(daemon.root() + "x"); }), refused);
  EXPECT_EQ(InChildOf(4321, [&] { return open_with(daemon.root()); }), 0) << daemon.Log();
}

}  // namespace
}  // namespace holdfast
