#include "transport/fabric_thread.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <utility>

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace holdfast::transport {

namespace {

using std::chrono::milliseconds;

// Providers do work that no descriptor announces (connections come and go), so nothing sleeps long.
constexpr milliseconds kIdle{20};
constexpr milliseconds kBusy{5};
// Where the provider has no descriptor to sleep on.
constexpr milliseconds kPolled{1};

}  // namespace

FabricThread::FabricThread(std::shared_ptr<FabricDomain> domain,
                           FabricTargets* targets,
                           const FabricOptions* options,
                           FabricCounters* counters)
    : domain_(std::move(domain)), targets_(targets), options_(options), counters_(counters) {}

FabricThread::~FabricThread() {
  Stop();
}

Status FabricThread::Start() {
  wake_ = OwnedFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_.Valid()) {
    return ErrnoError(errno, "eventfd of the fabric's thread");
  }
  thread_ = std::thread([this] { Run(); });
  (void)pthread_setname_np(thread_.native_handle(), "fabric");
  return Ok();
}

bool FabricThread::Submit(std::shared_ptr<FabricRead> read) {
  {
    const MutexLock lock(mutex_);
    if (stopped_) {
      return false;
    }
    submitted_.push_back(std::move(read));
  }
  Wake();
  return true;
}

void FabricThread::GiveUp() {
  Wake();
}

void FabricThread::Settle() {
  const MutexLock lock(mutex_);  // each turn begins with it
}

void FabricThread::Stop() {
  {
    const MutexLock lock(mutex_);
    stopped_ = true;
  }
  if (thread_.joinable()) {
    Wake();
    thread_.join();
  }
}

void FabricThread::Wake() {
  const std::uint64_t one = 1;
  // A counter that is full wakes too.
  (void)!write(wake_.Get(), &one, sizeof one);
}

void FabricThread::Run() {
  for (;;) {
    {
      const MutexLock lock(mutex_);
      if (stopped_) {
        break;
      }
    }
    TakeSubmitted();
    const Deadline now = std::chrono::steady_clock::now();
    for (auto lane = lanes_.begin(); lane != lanes_.end();) {
      lane->second->Turn(now);
      if (lane->second->IsIdle(now)) {
        lane->second->Close(Error(Errc::kCancelled, "an idle connection has no reads"));
        lane = lanes_.erase(lane);
      } else {
        ++lane;
      }
    }
    Serve();
    Wait(now);
  }
  TakeSubmitted();
  for (auto& [address, lane] : lanes_) {
    lane->Close(Error(Errc::kCancelled, "the fabric was stopped"));
  }
  lanes_.clear();
}

void FabricThread::TakeSubmitted() {
  std::vector<std::shared_ptr<FabricRead>> reads;
  {
    const MutexLock lock(mutex_);
    reads.swap(submitted_);
  }
  for (std::shared_ptr<FabricRead>& read : reads) {
    if (!lanes_.contains(read->region->address)) {
      MakeRoom();
    }
    std::unique_ptr<FabricLane>& lane = lanes_[read->region->address];
    if (lane == nullptr) {
      lane = std::make_unique<FabricLane>(
          domain_.get(), targets_, options_, counters_, read->region->address);
    }
    lane->Add(std::move(read));
  }
}

void FabricThread::MakeRoom() {
  for (auto lane = lanes_.begin(); lane != lanes_.end() && lanes_.size() >= options_->max_peers;) {
    if (lane->second->empty()) {
      lane->second->Close(Error(Errc::kCancelled, "an idle connection has no reads"));
      lane = lanes_.erase(lane);
    } else {
      ++lane;
    }
  }
}

void FabricThread::Serve() {
  std::array<fi_cq_entry, 8> entries{};
  fid_cq* queue = domain_->serving().completions.get();
  if (fi_cq_read(queue, entries.data(), entries.size()) == -FI_EAVAIL) {
    // A connection of a peer that ended; it says nothing that the peer's next try does not.
    fi_cq_err_entry entry{};
    (void)fi_cq_readerr(queue, &entry, 0);
  }
}

int FabricThread::SleepLimit(Deadline now) const {
  Deadline next = now + kIdle;
  bool polled = domain_->serving().wait_fd < 0;
  for (const auto& [address, lane] : lanes_) {
    next = std::min(next, lane->NextTurn(now));
    if (lane->busy()) {
      next = std::min(next, now + kBusy);
    }
    if (lane->port() != nullptr && lane->port()->wait_fd < 0) {
      polled = true;
      if (lane->busy()) {
        return 0;
      }
    }
  }
  if (polled) {
    next = std::min(next, now + kPolled);
  }
  // Rounded up: else the last millisecond before a deadline is spent in a loop.
  const auto left = std::chrono::ceil<milliseconds>(next - now).count();
  return static_cast<int>(std::max<std::int64_t>(left, 0));
}

void FabricThread::Wait(Deadline now) {
  std::vector<pollfd> descriptors{{wake_.Get(), POLLIN, 0}};
  std::vector<fid*> queues;
  const auto add = [&](const FabricPort& port) {
    if (port.wait_fd >= 0) {
      descriptors.push_back({port.wait_fd, POLLIN, 0});
      queues.push_back(&port.completions->fid);
    }
  };
  add(domain_->serving());
  for (const auto& [address, lane] : lanes_) {
    if (lane->port() != nullptr) {
      add(*lane->port());
    }
  }
  // Something that came since the queues were read is announced by no descriptor.
  if (!queues.empty() &&
      fi_trywait(domain_->fabric(), queues.data(), static_cast<int>(queues.size())) != 0) {
    return;
  }
  (void)poll(descriptors.data(), descriptors.size(), SleepLimit(now));
  std::uint64_t count = 0;
  (void)!read(wake_.Get(), &count, sizeof count);
}

}  // namespace holdfast::transport
