// The Prometheus endpoint of a real daemon: what docs/operations.md tells operators to alert on
// must be there under its name, and must move.

#include <chrono>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <thread>

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/metric_names.h"
#include "tests/daemon/daemon_process.h"
#include "tests/daemon/raw_client.h"
#include "tests/daemon/test_trainer.h"
#include "transport/owned_fd.h"

namespace holdfast {
namespace {

using tests::DaemonProcess;
using tests::TestTrainer;
using transport::OwnedFd;

sockaddr_in Loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

// A listening socket on a port that the kernel chose.
OwnedFd ListenAnywhere(std::uint16_t* port) {
  OwnedFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = Loopback(0);
  socklen_t length = sizeof address;
  EXPECT_EQ(::bind(socket.Get(), reinterpret_cast<sockaddr*>(&address), length), 0);
  EXPECT_EQ(::listen(socket.Get(), 1), 0);
  EXPECT_EQ(::getsockname(socket.Get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
  *port = ntohs(address.sin_port);
  return socket;
}

std::string AddressOf(std::uint16_t port) {
  return "127.0.0.1:" + std::to_string(port);
}

class MetricsEndpointTest : public testing::Test {
 protected:
  void TearDown() override {
    if (HasFailure()) {
      std::fputs(daemon_.Log().c_str(), stderr);
    }
  }

  void StartDaemon(DaemonProcess::Start start = {}) {
    OwnedFd chosen = ListenAnywhere(&port_);
    chosen.Reset();
    start.config += "[daemon]\nmetrics = \"" + AddressOf(port_) + "\"\n";
    ASSERT_TRUE(daemon_.StartAndWait(start));
  }

  // The body of /metrics.
  std::string Scrape() const {
    const OwnedFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_in address = Loopback(port_);
    if (::connect(socket.Get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      return "";
    }
    const std::string request = "GET /metrics HTTP/1.0\r\n\r\n";
    EXPECT_EQ(::send(socket.Get(), request.data(), request.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(request.size()));
    std::string answer;
    char part[4096];
    ssize_t count = 0;
    while ((count = ::recv(socket.Get(), part, sizeof part, 0)) > 0) {
      answer.append(part, static_cast<std::size_t>(count));
    }
    return answer;
  }

  // Sample lines, "name{label="value"}" to value.
  std::map<std::string, double> Samples() const {
    std::map<std::string, double> samples;
    std::istringstream lines(Scrape());
    for (std::string line; std::getline(lines, line);) {
      const auto space = line.rfind(' ');
      if (line.rfind("holdfast_", 0) == 0 && space != std::string::npos) {
        samples[line.substr(0, space)] = std::stod(line.substr(space + 1));
      }
    }
    return samples;
  }

  // Waits for a sample to have a value; its last value.
  std::optional<double> WaitFor(const std::string& name, double value) const {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    std::optional<double> last;
    while (last != value && std::chrono::steady_clock::now() < deadline) {
      const auto samples = Samples();
      const auto found = samples.find(name);
      last = found == samples.end() ? std::nullopt : std::optional(found->second);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return last;
  }

  void Train() {
    TestTrainer trainer;
    ASSERT_EQ(trainer.Join(daemon_.socket(), "job", daemon_.root()), "");
    ASSERT_EQ(trainer.Restore(), -1) << trainer.error();
    ASSERT_TRUE(trainer.SnapshotAndWait(1)) << trainer.error();
    ASSERT_TRUE(trainer.SnapshotAndWait(2)) << trainer.error();
    hf_drained drained{};
    ASSERT_TRUE(trainer.client().Drain(30'000, &drained).ok());
    ASSERT_EQ(drained.durable, 1U) << drained.reason;
    EXPECT_EQ(WaitFor("holdfast_jobs_live", 1), 1);
    // What is served is renewed now and then: until the snapshots are in it.
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (Scrape().find("\nholdfast_complete_step{") == std::string::npos &&
           std::chrono::steady_clock::now() < until) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }

  DaemonProcess daemon_;
  std::uint16_t port_ = 0;
};

std::string TypeWord(daemon::MetricType type) {
  switch (type) {
    case daemon::MetricType::kCounter:
      return "counter";
    case daemon::MetricType::kGauge:
      return "gauge";
    case daemon::MetricType::kHistogram:
      return "histogram";
  }
  return "";
}

TEST_F(MetricsEndpointTest, ItServesExactlyTheNamesAndTypesOfTheTable) {
  StartDaemon();
  Train();
  // Of jobs with several nodes only.
  const std::set<std::string_view> absent = {daemon::kProtectedStep.name, daemon::kMargin.name};
  std::set<std::string> expected;
  for (const daemon::MetricName* metric : daemon::kAllMetrics) {
    if (absent.contains(metric->name)) {
      continue;
    }
    expected.insert(std::string(metric->name) + " " + TypeWord(metric->type));
  }
  std::set<std::string> served;
  std::istringstream lines(Scrape());
  const std::string mark = "# TYPE ";
  for (std::string line; std::getline(lines, line);) {
    // The library adds some of its own, about itself.
    if (line.rfind(mark + "holdfast_", 0) == 0) {
      served.insert(line.substr(mark.size(), line.find_last_not_of('\r') + 1 - mark.size()));
    }
  }
  EXPECT_EQ(served, expected);
}

TEST_F(MetricsEndpointTest, ValuesMoveWithATraining) {
  StartDaemon();
  EXPECT_EQ(WaitFor("holdfast_snapshots_sealed_total", 0), 0);
  Train();
  EXPECT_EQ(WaitFor("holdfast_snapshots_sealed_total", 2), 2);
  EXPECT_EQ(WaitFor("holdfast_snapshots_complete_total", 2), 2);
  EXPECT_EQ(WaitFor("holdfast_complete_step{job=\"job\"}", 2), 2);
  const auto samples = Samples();
  const std::string root = "{root=\"" + daemon_.root() + "\"}";
  EXPECT_EQ(samples.at("holdfast_seal_seconds_count"), 2);
  EXPECT_EQ(samples.at("holdfast_seal_seconds_bucket{le=\"+Inf\"}"), 2);
  EXPECT_GT(samples.at("holdfast_catalog_sync_seconds_count"), 0);
  EXPECT_GE(samples.at("holdfast_flushes_total" + root), 1);
  EXPECT_GT(samples.at("holdfast_flush_bytes_total" + root), 2'400'000);
  EXPECT_EQ(samples.at("holdfast_tier_healthy" + root), 1);
  EXPECT_EQ(samples.at("holdfast_catalog_healthy"), 1);
  EXPECT_EQ(samples.at("holdfast_boot_number"), 1);
  EXPECT_EQ(samples.at("holdfast_arena_bytes{state=\"budget\"}"), 128 << 20);
  EXPECT_GT(samples.at("holdfast_arena_bytes{state=\"used\"}"), 2'400'000);
  EXPECT_GT(samples.at("holdfast_resident_bytes"), 0);
}

TEST_F(MetricsEndpointTest, ACatalogThatFailsIsUnhealthy) {
  DaemonProcess::Start start;
  start.failpoints = "catalog.before_apply=error:28";
  StartDaemon(start);
  EXPECT_EQ(WaitFor("holdfast_catalog_healthy", 1), 1);
  tests::RawClient client(daemon_.socket());
  client.Hello();
  proto::ClientMessage open;
  open.mutable_open_incarnation()->set_job_name("job");
  open.mutable_open_incarnation()->set_world_size(1);
  ASSERT_TRUE(client.Send(open));
  EXPECT_EQ(WaitFor("holdfast_catalog_healthy", 0), 0);
  EXPECT_GT(Samples().at("holdfast_catalog_failures_total"), 0);
}

TEST_F(MetricsEndpointTest, APortThatIsTakenIsSaidAndEndsTheStart) {
  const OwnedFd taken = ListenAnywhere(&port_);
  DaemonProcess::Start start;
  start.config = "[daemon]\nmetrics = \"" + AddressOf(port_) + "\"\n";
  daemon_.Spawn(start);
  EXPECT_EQ(daemon_.WaitForEnd(), 3);
  EXPECT_NE(daemon_.Log().find("is the port taken"), std::string::npos);
}

}  // namespace
}  // namespace holdfast
