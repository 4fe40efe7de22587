// The round trip of a request on the daemon's socket, and of bare bytes between two processes.
//
//   request_bench <socket>
//   ping <count>    a request that the daemon answers at once, encoded, sent, received and parsed
//                   as the command line program does it
//   bare <count>    as many bytes to a process that sends them back, with read and write alone
// Each answers: median and 99th percentile in seconds.
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include <sys/socket.h>
#include <unistd.h>

#include "bench/commands.h"
#include "client/admin_client.h"
#include "transport/messages.h"
#include "transport/owned_fd.h"

namespace holdfast::bench {
namespace {

constexpr std::chrono::seconds kTimeout{10};
constexpr std::uint64_t kMaxCount = 1'000'000;

// Whole "bytes" in both directions; false at the end of the stream.
bool ReadAll(int fd, char* to, std::size_t bytes) {
  for (std::size_t done = 0; done < bytes;) {
    const ssize_t count = ::read(fd, to + done, bytes - done);
    if (count <= 0) {
      return false;
    }
    done += static_cast<std::size_t>(count);
  }
  return true;
}

bool WriteAll(int fd, const char* from, std::size_t bytes) {
  for (std::size_t done = 0; done < bytes;) {
    const ssize_t count = ::write(fd, from + done, bytes - done);
    if (count <= 0) {
      return false;
    }
    done += static_cast<std::size_t>(count);
  }
  return true;
}

// A process that sends every message of "bytes" back; ends when our end is closed.
Result<transport::OwnedFd> StartEcho(std::size_t bytes) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return ErrnoError(errno, "socketpair");
  }
  transport::OwnedFd ours(ends[0]);
  transport::OwnedFd theirs(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) {
    return ErrnoError(errno, "fork");
  }
  if (child == 0) {
    ours.Reset();
    std::string message(bytes, '\0');
    while (ReadAll(theirs.Get(), message.data(), bytes) &&
           WriteAll(theirs.Get(), message.data(), bytes)) {
    }
    ::_exit(0);
  }
  return ours;
}

// Calls "once" "count" times.
Result<Numbers> Quantiles(std::uint64_t count, const std::function<Status()>& once) {
  std::vector<double> seconds;
  seconds.reserve(count);
  for (std::uint64_t i = 0; i < count; ++i) {
    const Stopwatch watch;
    HF_TRYV(once());
    seconds.push_back(watch.Seconds());
  }
  std::sort(seconds.begin(), seconds.end());
  return Numbers{seconds[count / 2], seconds[count * 99 / 100]};
}

proto::ClientMessage Ping() {
  proto::ClientMessage message;
  message.set_request_id(1);
  message.mutable_ping();
  return message;
}

int Main(const Arguments& arguments) {
  if (arguments.size() != 1) {
    return Refuse(Error(Errc::kInvalidArgument, "usage: request_bench <socket>"));
  }
  const auto frame = transport::EncodeFrame(Ping());
  if (!frame) {
    return Refuse(frame.error());
  }
  // Forked before there is anything that a child could inherit.
  auto echo = StartEcho(frame.value().size());
  if (!echo) {
    return Refuse(echo.error());
  }
  auto client = client::AdminClient::Connect(arguments[0], "bench", kTimeout);
  if (!client) {
    return Refuse(client.error());
  }
  Commands commands;
  commands.Add("ping", [&](const Arguments& given) -> Result<Numbers> {
    HF_TRY(const std::uint64_t count, NumberAt(given, 0, 1, kMaxCount));
    return Quantiles(count, [&]() -> Status {
      HF_TRYV(client.value()->Call(Ping(), kTimeout));
      return Ok();
    });
  });
  commands.Add("bare", [&](const Arguments& given) -> Result<Numbers> {
    HF_TRY(const std::uint64_t count, NumberAt(given, 0, 1, kMaxCount));
    std::string message = frame.value();
    return Quantiles(count, [&]() -> Status {
      if (!WriteAll(echo.value().Get(), message.data(), message.size()) ||
          !ReadAll(echo.value().Get(), message.data(), message.size())) {
        return Error(Errc::kUnavailable, "the process that sends the bytes back is gone");
      }
      return Ok();
    });
  });
  return commands.Serve();
}

}  // namespace
}  // namespace holdfast::bench

int main(int argc, char** argv) {
  return holdfast::bench::Main(holdfast::bench::ArgumentsOf(argc, argv));
}
