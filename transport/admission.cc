#include "transport/admission.h"

#include <list>
#include <optional>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/check.h"
#include "common/with_timeout.h"

namespace holdfast::transport {

namespace asio = boost::asio;

namespace {

struct Waiter {
  Waiter(const asio::any_io_executor& executor, std::uint64_t w, Deadline deadline)
      : wake(executor, deadline), weight(w) {}

  asio::steady_timer wake;
  const std::uint64_t weight;
  bool admitted = false;
};

}  // namespace

struct Admission::State {
  State(asio::any_io_executor e, std::uint64_t c) : executor(std::move(e)), capacity(c) {}

  [[nodiscard]] bool Fits(std::uint64_t weight) const {
    return held == 0 || (weight <= capacity && held <= capacity - weight);
  }

  void AdmitWaiters() {
    // In order: a small one does not overtake, else a large one would wait for ever.
    while (!line.empty() && Fits(line.front()->weight)) {
      Waiter* next = line.front();
      line.pop_front();
      held += next->weight;
      next->admitted = true;
      next->wake.cancel();
    }
  }

  const asio::any_io_executor executor;
  std::uint64_t capacity;
  std::uint64_t held = 0;
  std::list<Waiter*> line;
  std::optional<Error> closed;
};

Admission::Admission(const asio::any_io_executor& executor, std::uint64_t capacity)
    : state_(std::make_shared<State>(executor, capacity)) {}

asio::awaitable<Status> Admission::Acquire(std::uint64_t weight, Deadline deadline) {
  const std::shared_ptr<State> state = state_;
  if (state->closed.has_value()) {
    co_return *state->closed;
  }
  if (co_await Cancelled()) {
    co_return Error(Errc::kCancelled, "cancelled before its turn");
  }
  if (state->line.empty() && state->Fits(weight)) {
    state->held += weight;
    co_return Ok();
  }
  Waiter self(state->executor, weight, deadline);
  state->line.push_back(&self);
  (void)co_await self.wake.async_wait(asio::as_tuple(asio::use_awaitable));
  if (self.admitted) {
    co_return Ok();  // also where it was cancelled meanwhile: the caller looks, and gives it back
  }
  state->line.remove(&self);
  // Who stands behind may be smaller.
  state->AdmitWaiters();
  if (state->closed.has_value()) {
    co_return *state->closed;
  }
  if (co_await Cancelled()) {
    co_return Error(Errc::kCancelled, "cancelled while waiting for its turn");
  }
  co_return Error(Errc::kTimeout, "its turn did not come before its deadline");
}

void Admission::Release(std::uint64_t weight) {
  HOLDFAST_CHECK(weight <= state_->held);
  state_->held -= weight;
  if (!state_->closed.has_value()) {
    state_->AdmitWaiters();
  }
}

void Admission::SetCapacity(std::uint64_t capacity) {
  state_->capacity = capacity;
  if (!state_->closed.has_value()) {
    state_->AdmitWaiters();
  }
}

void Admission::Close(const Error& why) {
  if (state_->closed.has_value()) {
    return;
  }
  state_->closed = why;
  for (Waiter* waiter : state_->line) {
    waiter->wake.cancel();
  }
}

std::uint64_t Admission::held() const {
  return state_->held;
}

std::size_t Admission::waiting() const {
  return state_->line.size();
}

}  // namespace holdfast::transport
