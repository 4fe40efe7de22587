// When a job comes so far, as its daemon says; its metrics are renewed four times a second only.
//
//   job_watch <socket> <job>
//   complete <step>     waits until that step or a later one is complete
//   protected <step>    the same for protected
// Each answers: seconds on the steady clock (CLOCK_MONOTONIC, which Python's perf_counter reads).
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "bench/commands.h"
#include "client/admin_client.h"
#include "proto/admin.pb.h"

namespace holdfast::bench {
namespace {

constexpr std::chrono::seconds kTimeout{10};
constexpr std::chrono::seconds kPatience{120};
constexpr std::chrono::milliseconds kBetweenLooks{2};
constexpr std::uint64_t kMaxStep = 1'000'000;

using Reached = std::function<bool(const proto::JobStatus&, std::int64_t step)>;

bool IsComplete(const proto::JobStatus& job, std::int64_t step) {
  return job.has_newest_complete() && job.newest_complete().step() >= step;
}

bool IsProtected(const proto::JobStatus& job, std::int64_t step) {
  return job.has_protected_id() && job.protected_id().step() >= step;
}

class JobWatch {
 public:
  JobWatch(std::unique_ptr<client::AdminClient> client, std::string job)
      : client_(std::move(client)), job_(std::move(job)) {}

  Result<Numbers> WaitFor(const Reached& reached, const Arguments& arguments) {
    HF_TRY(const std::uint64_t number, NumberAt(arguments, 0, 0, kMaxStep));
    const auto step = static_cast<std::int64_t>(number);
    const Stopwatch waited;
    for (;;) {
      proto::ClientMessage request;
      request.mutable_status()->set_job_name(job_);
      HF_TRY(const client::Reply reply, client_->Call(std::move(request), kTimeout));
      const auto now = std::chrono::steady_clock::now().time_since_epoch();
      for (const proto::JobStatus& job : reply.message.status().jobs()) {
        if (job.name() == job_ && reached(job, step)) {
          return Numbers{std::chrono::duration<double>(now).count()};
        }
      }
      if (waited.Seconds() > std::chrono::duration<double>(kPatience).count()) {
        return Error(Errc::kTimeout, "step " + std::to_string(step) + " did not come so far");
      }
      std::this_thread::sleep_for(kBetweenLooks);
    }
  }

 private:
  const std::unique_ptr<client::AdminClient> client_;
  const std::string job_;
};

int Main(const Arguments& arguments) {
  if (arguments.size() != 2) {
    return Refuse(Error(Errc::kInvalidArgument, "usage: job_watch <socket> <job>"));
  }
  auto client = client::AdminClient::Connect(arguments[0], "bench", kTimeout);
  if (!client.has_value()) {
    return Refuse(client.error());
  }
  JobWatch watch(std::move(client).value(), arguments[1]);
  Commands commands;
  commands.Add("complete",
               [&watch](const Arguments& given) { return watch.WaitFor(IsComplete, given); });
  commands.Add("protected",
               [&watch](const Arguments& given) { return watch.WaitFor(IsProtected, given); });
  return commands.Serve();
}

}  // namespace
}  // namespace holdfast::bench

int main(int argc, char** argv) {
  return holdfast::bench::Main(holdfast::bench::ArgumentsOf(argc, argv));
}
