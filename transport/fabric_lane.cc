#include "transport/fabric_lane.h"

#include <algorithm>
#include <array>
#include <thread>
#include <utility>

#include <boost/asio/post.hpp>

#include "common/log.h"
#include "transport/fabric_sockets.h"

namespace holdfast::transport {

namespace {

// A provider that is connecting, or whose ring is full, is asked again so soon.
constexpr std::chrono::milliseconds kAskAgain{1};
// For reads to fail whose connection was ended.
constexpr std::chrono::milliseconds kEndLimit{500};

Error TimedOut(const FabricRead& read) {
  std::string text = read.peer + ": no answer within the deadline";
  if (read.last_error.has_value()) {
    text += "; before that " + read.last_error->message;
  }
  return {Errc::kTimeout, text};
}

// A tcp peer ends the connection where verbs would say that a key is not good: they look alike.
Error GaveUp(const FabricRead& read, const Error& last) {
  return {last.code,
          last.message + " (after " + std::to_string(read.tries) +
              " tries: the peer is gone, or lends these bytes no more)",
          last.sys_errno,
          last.where};
}

Error GivenUp(const FabricRead& read) {
  return {Errc::kCancelled, read.peer + ": cancelled while it was read"};
}

}  // namespace

void Deliver(std::shared_ptr<FabricRead> read, Status result) {
  read->local.reset();
  const boost::asio::any_io_executor home = read->home.get_executor();
  auto deliver = [read = std::move(read), result = std::move(result)]() mutable {
    read->result = std::move(result);
    read->wake.cancel();
  };
  boost::asio::post(home, std::move(deliver));  // lint: allow(post) the way home of a completion
}

FabricLane::FabricLane(const FabricDomain* domain,
                       FabricTargets* targets,
                       const FabricOptions* options,
                       FabricCounters* counters,
                       std::string address)
    : domain_(domain),
      targets_(targets),
      options_(options),
      counters_(counters),
      address_(std::move(address)) {}

void FabricLane::Turn(Deadline now) {
  if (!waiting_.empty() || !posted_.empty()) {
    last_used_ = now;
  }
  if (port_.has_value()) {
    TakeCompletions();
  }
  EndLate(now);
  Post(now);
}

// --- what came ---

std::shared_ptr<FabricRead> FabricLane::Posted(void* context) {
  const auto found = posted_.find(context);
  if (found == posted_.end()) {
    return nullptr;
  }
  std::shared_ptr<FabricRead> read = std::move(found->second);
  posted_.erase(found);
  return read;
}

void FabricLane::TakeCompletions() {
  std::array<fi_cq_entry, 16> entries{};
  for (;;) {
    const auto count = fi_cq_read(port_->completions.get(), entries.data(), entries.size());
    if (count == -FI_EAVAIL) {
      TakeError();
      continue;
    }
    if (count <= 0) {
      return;
    }
    again_.reset();
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
      std::shared_ptr<FabricRead> read = Posted(entries[i].op_context);
      if (read != nullptr) {
        counters_->reads.fetch_add(1, std::memory_order_relaxed);
        counters_->bytes.fetch_add(read->into.size(), std::memory_order_relaxed);
        Deliver(std::move(read), Ok());
      }
    }
  }
}

void FabricLane::TakeError() {
  fi_cq_err_entry entry{};
  if (fi_cq_readerr(port_->completions.get(), &entry, 0) < 0) {
    return;
  }
  std::shared_ptr<FabricRead> read = Posted(entry.op_context);
  if (read == nullptr) {
    return;
  }
  const Error error = FabricError(domain_->library(), entry.err, read->peer);
  Failed(std::move(read), error, IsTransient(entry.err), std::chrono::steady_clock::now());
}

void FabricLane::Failed(std::shared_ptr<FabricRead> read,
                        const Error& error,
                        bool transient,
                        Deadline now) {
  read->local.reset();
  if (resetting_) {
    waiting_.push_back(std::move(read));
    return;
  }
  broken_ = broken_ || transient;
  ++read->tries;
  if (!transient || read->tries >= options_->attempts) {
    const Error last = transient ? GaveUp(*read, error) : error;
    Deliver(std::move(read), last);
    return;
  }
  const auto pause =
      std::min(options_->longest_pause,
               options_->first_pause * (1U << std::min<std::size_t>(read->tries - 1, 16)));
  if (now + pause >= read->deadline) {
    const Error last = GaveUp(*read, error);
    Deliver(std::move(read), last);
    return;
  }
  counters_->retries.fetch_add(1, std::memory_order_relaxed);
  read->last_error = error;
  read->not_before = now + pause;
  waiting_.push_back(std::move(read));
}

// --- what is late ---

void FabricLane::EndLateWaiting(Deadline now) {
  std::deque<std::shared_ptr<FabricRead>> kept;
  for (std::shared_ptr<FabricRead>& read : waiting_) {
    if (read->given_up.load(std::memory_order_acquire)) {
      const Error error = GivenUp(*read);
      Deliver(std::move(read), error);
    } else if (read->deadline <= now) {
      const Error error = TimedOut(*read);
      Deliver(std::move(read), error);
    } else {
      kept.push_back(std::move(read));
    }
  }
  waiting_ = std::move(kept);
}

void FabricLane::EndLate(Deadline now) {
  EndLateWaiting(now);
  bool late = false;
  for (const auto& [context, read] : posted_) {
    if (!read->ends_by.has_value()) {
      read->ends_by = read->deadline;
    }
    if (read->given_up.load(std::memory_order_acquire)) {
      // Asked for again in each turn: the first answer is the least.
      read->ends_by = std::min(*read->ends_by, now + options_->cancel_grace);
    }
    late = late || *read->ends_by <= now;
  }
  if (late) {
    counters_->resets.fetch_add(1, std::memory_order_relaxed);
    LogWarning("fabric.reset",
               posted_.begin()->second->peer + ": a read did not end; its connection is closed");
    ClosePort(now);
    EndLateWaiting(now);
  }
}

// The gentle way first (fabric_sockets.h): without its connection each read fails by itself.
void FabricLane::EndPosted() {
  if (posted_.empty() || EndConnections(address_) == 0) {
    return;
  }
  resetting_ = true;
  const Deadline limit = std::chrono::steady_clock::now() + kEndLimit;
  while (!posted_.empty() && std::chrono::steady_clock::now() < limit) {
    TakeCompletions();
    std::this_thread::yield();
  }
  resetting_ = false;
}

// Whatever the provider had is ours again: those that are not late are read anew.
void FabricLane::ClosePort(Deadline now) {
  EndPosted();
  // What is bound to the endpoint keeps it open; without it the provider cannot write either.
  if (domain_->Wants(FI_MR_ENDPOINT)) {
    for (auto& [context, read] : posted_) {
      read->local.reset();
    }
  }
  for (const std::shared_ptr<FabricRead>& read : waiting_) {
    read->local.reset();
  }
  if (port_.has_value()) {
    domain_->Close(&*port_);
    port_.reset();
  }
  broken_ = false;
  again_.reset();
  for (auto& [context, read] : posted_) {
    read->local.reset();
    read->not_before = now;
    waiting_.push_front(std::move(read));
  }
  posted_.clear();
}

// --- what is asked for ---

Status FabricLane::OpenPort(Deadline now) {
  HF_TRY(FabricPort port, domain_->OpenPort(options_->reads_per_peer));
  connect_by_ = now + options_->connect_limit;
  HF_TRY(peer_, domain_->Insert(port, address_));
  port_ = std::move(port);
  return Ok();
}

long FabricLane::PostOne(FabricRead* read) {
  if (read->local == nullptr) {
    auto local = targets_->Find(read->into, port_->endpoint.get());
    if (!local.has_value()) {
      return -std::max(1, local.error().sys_errno);
    }
    read->local = std::move(local).value();
  }
  void* descriptor = read->local == nullptr ? nullptr : fi_mr_desc(read->local.get());
  return fi_read(port_->endpoint.get(),
                 read->into.data(),
                 read->into.size(),
                 descriptor,
                 peer_,
                 read->remote,
                 read->region->key,
                 &read->context);
}

bool FabricLane::MayAskAgain(Deadline now) {
  again_ = now + kAskAgain;
  return !connect_by_.has_value() || now < *connect_by_;
}

void FabricLane::Post(Deadline now) {
  if (broken_ && posted_.empty()) {
    ClosePort(now);
  }
  if (broken_ || (again_.has_value() && *again_ > now)) {
    return;
  }
  again_.reset();
  std::deque<std::shared_ptr<FabricRead>> later;
  while (!waiting_.empty() && !broken_ && !again_.has_value()) {
    std::shared_ptr<FabricRead> read = std::move(waiting_.front());
    waiting_.pop_front();
    if (read->not_before > now) {
      later.push_back(std::move(read));
    } else {
      PostOrFail(std::move(read), now);
    }
  }
  waiting_.insert(
      waiting_.end(), std::make_move_iterator(later.begin()), std::make_move_iterator(later.end()));
}

void FabricLane::PostOrFail(std::shared_ptr<FabricRead> read, Deadline now) {
  if (!port_.has_value()) {
    const Status opened = OpenPort(now);
    if (!opened.has_value()) {
      const std::string peer = read->peer;
      Deliver(std::move(read), Error(opened.error()).WithContext(peer));
      return;
    }
  }
  const long code = PostOne(read.get());
  if (code == 0) {
    connect_by_.reset();
    read->ends_by.reset();
    void* context = &read->context;
    posted_.emplace(context, std::move(read));
  } else if (code != -FI_EAGAIN) {
    const Error error = FabricError(domain_->library(), code, read->peer);
    Failed(std::move(read), error, IsTransient(code), now);
  } else if (MayAskAgain(now)) {
    waiting_.push_front(std::move(read));
  } else {
    // The provider does not say whether it was refused or not heard.
    const Error error(Errc::kUnavailable,
                      read->peer + ": no connection within " +
                          std::to_string(options_->connect_limit.count()) + " ms");
    waiting_.push_front(std::move(read));
    for (std::shared_ptr<FabricRead>& each : waiting_) {
      Deliver(std::move(each), error);
    }
    waiting_.clear();
    ClosePort(now);
  }
}

// --- time ---

Deadline FabricLane::NextTurn(Deadline now) const {
  Deadline next = Deadline::max();
  for (const auto& [context, read] : posted_) {
    next = std::min(next, read->ends_by.value_or(read->deadline));
  }
  // A port that broke takes nothing before all that it has under way has ended.
  const bool takes = !broken_ || posted_.empty();
  for (const std::shared_ptr<FabricRead>& read : waiting_) {
    const Deadline turn = std::max(read->not_before, again_.value_or(now));
    next = std::min({next, read->deadline, takes ? turn : Deadline::max()});
  }
  if (port_.has_value() && posted_.empty() && waiting_.empty()) {
    next = std::min(next, last_used_ + options_->idle_close);
  }
  return next;
}

bool FabricLane::IsIdle(Deadline now) const {
  return posted_.empty() && waiting_.empty() && now - last_used_ >= options_->idle_close;
}

void FabricLane::Close(const Error& why) {
  ClosePort(Deadline::max());
  for (std::shared_ptr<FabricRead>& read : waiting_) {
    Error error = why;
    std::string peer = read->peer;
    Deliver(std::move(read), std::move(error).WithContext(peer));
  }
  waiting_.clear();
}

}  // namespace holdfast::transport
