// Who goes first: restore and rebuild before protect and repair, a scrub after all of them.
//
//   const auto urgent = priority.Enter();          restore, rebuild: as long as it lives
//   HF_CO_TRYV(co_await priority.Yield(pause));    protect, repair: before each window
//   const auto turn = priority.EnterProtect();     and as long as it lives
//   HF_CO_TRYV(co_await priority.YieldToAll(pause));  scrub: before each window
//
// Background work slows down to one window for each pause; it never stops, since a snapshot that
// is never protected would leave the next loss without a way back (I3).
//
// Threads:   the io thread only.
// Ownership: outlives what is entered.
// Errors:    kCancelled.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <optional>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "common/bandwidth_budget.h"
#include "common/result.h"
#include "common/units.h"
#include "common/with_timeout.h"

namespace holdfast::daemon {

class TrafficPriority {
 public:
  TrafficPriority() = default;
  TrafficPriority(const TrafficPriority&) = delete;
  TrafficPriority& operator=(const TrafficPriority&) = delete;

  class Urgent {
   public:
    explicit Urgent(std::size_t* count) : count_(count) { ++*count_; }

    ~Urgent() { --*count_; }

    Urgent(const Urgent&) = delete;
    Urgent& operator=(const Urgent&) = delete;

   private:
    std::size_t* const count_;
  };

  [[nodiscard]] Urgent Enter() { return Urgent(&urgent_); }

  // The same where it is not known before whether there is anything to enter.
  void EnterInto(std::optional<Urgent>* urgent) { urgent->emplace(&urgent_); }

  // What scrubs give way to, and nothing else.
  [[nodiscard]] Urgent EnterProtect() { return Urgent(&protecting_); }

  [[nodiscard]] std::size_t urgent() const { return urgent_; }

  // Returns when nothing urgent is under way, at the latest after "longest".
  [[nodiscard]] boost::asio::awaitable<Status> Yield(std::chrono::milliseconds longest) {
    return WaitFor({&urgent_}, longest);
  }

  // The same, for what nobody waits for: nothing is protected either.
  [[nodiscard]] boost::asio::awaitable<Status> YieldToAll(std::chrono::milliseconds longest) {
    return WaitFor({&urgent_, &protecting_}, longest);
  }

 private:
  using Counts = std::vector<const std::size_t*>;

  [[nodiscard]] static boost::asio::awaitable<Status> WaitFor(Counts counts,
                                                              std::chrono::milliseconds longest) {
    const auto until = std::chrono::steady_clock::now() + longest;
    while (
        std::any_of(counts.begin(), counts.end(), [](const auto* count) { return *count > 0; })) {
      const auto left = until - std::chrono::steady_clock::now();
      if (left.count() <= 0) {
        break;
      }
      HF_CO_TRYV(co_await SleepFor(std::min<std::chrono::nanoseconds>(left, kLook)));
    }
    co_return Ok();
  }

  static constexpr std::chrono::milliseconds kLook{10};

  std::size_t urgent_ = 0;
  std::size_t protecting_ = 0;
};

// How background transfers are slowed down; a value that is handed on.
struct Pacing {
  BandwidthBudget* budget = nullptr;               // borrowed; null: not paced
  TrafficPriority* priority = nullptr;             // borrowed; null: never gives way
  std::chrono::milliseconds longest_pause{1'000};  // of one window, for urgent traffic

  // Before "bytes" are asked for.  The wait for the budget is as long as its rate makes it.
  [[nodiscard]] boost::asio::awaitable<Status> Turn(ByteCount bytes) const {
    if (priority != nullptr) {
      HF_CO_TRYV(co_await priority->Yield(longest_pause));
    }
    if (budget != nullptr) {
      const std::chrono::nanoseconds wait = budget->Take(bytes);
      if (wait.count() > 0) {
        HF_CO_TRYV(co_await SleepFor(wait));
      }
    }
    co_return Ok();
  }
};

}  // namespace holdfast::daemon
