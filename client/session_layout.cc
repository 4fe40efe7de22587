// The registration of a Session: layouts, and the resume.
#include <algorithm>
#include <utility>

#include "client/session.h"
#include "layout/layout_hash.h"

namespace holdfast::client {

proto::ClientMessage Session::RegisterMessage(const std::shared_ptr<Registered>& registered,
                                              bool resume) {
  proto::ClientMessage message;
  // Megabytes for a large model: copied before the lock, under which a snapshot may wait.
  *message.mutable_register_()->mutable_layout() = registered->layout;
  MutexLock lock(mutex_);
  auto* body = message.mutable_register_();
  body->set_job_name(job_name_);
  body->set_job_uid(incarnation_.job_uid);
  body->set_epoch_number(incarnation_.number);
  body->set_epoch_token(incarnation_.token);
  body->set_rank(rank_);
  body->set_world_size(world_size_);
  body->set_layout_hash(registered->hash);
  body->set_slots_wanted(options_.slots_wanted);
  body->set_session_token(session_token_);
  body->set_last_begun_step(last_step_);
  body->set_skipped_total(stats_.skipped);
  body->set_skipped_told(skips_told_);
  skips_registered_ = stats_.skipped;
  if (const std::int32_t node = engine_->NumaNode(); node != kAnyNumaNode) {
    body->set_numa_node(node);
  }
  if (!nodes_.members.empty()) {
    body->mutable_members()->Assign(nodes_.members.begin(), nodes_.members.end());
    *body->mutable_tiers() = tiers_;
  }
  NameFrozen(registered->static_hash, body);
  if (resume) {
    for (proto::HeldSlot& slot : slots_.Held(registered->generation)) {
      *body->add_held() = std::move(slot);
    }
  }
  return message;
}

Status Session::SetLayout(std::vector<layout::TensorSpec> specs,
                          std::optional<std::chrono::milliseconds> wait,
                          std::span<const std::int32_t> devices) {
  const MonotonicTime deadline = SystemClock().Now() + wait.value_or(options_.request_timeout);
  {
    MutexLock lock(mutex_);
    if (fenced_.has_value()) {
      return *fenced_;
    }
    if (!joined_) {
      return Error(Errc::kInvalidArgument, "hf_join comes before hf_set_layout");
    }
    if (current_ != nullptr && !engine_->Busy().empty()) {
      return Error(Errc::kInvalidArgument,
                   "a copy is under way: call hf_fence before hf_set_layout");
    }
    plan_.reset();
    not_frozen_.clear();
    must_be_zero_.clear();
  }
  auto wanted = std::make_shared<Registered>();
  HF_TRY(wanted->layout, layout::PlanImage(specs));
  wanted->hash = layout::LayoutHash(wanted->layout);
  wanted->static_hash = layout::StaticHash(wanted->layout);
  HF_TRY(
      auto made,
      CopyPlan::Make(wanted->layout, specs, options_.small_tensor_bytes, devices, kSmallOnDevice));
  // Before the look at what is on record: its answer changes that.
  const auto under_way = RegistrationOf(wanted->hash);
  bool on_record = false;
  {
    MutexLock lock(mutex_);
    // A static image whose tensors were written is not to be had by keeping silent about it.
    const bool spoilt = frozen_.has_value() && frozen_->spoilt;
    on_record = registered_ != nullptr && registered_->hash == wanted->hash && !spoilt;
    if (!on_record && under_way == nullptr && !connected_) {
      return Error(Errc::kUnavailable, Away());
    }
  }
  HF_TRY(auto plan, AdoptPlan(std::move(made)));
  if (!on_record) {
    HF_TRYV(under_way == nullptr ? Register(wanted, deadline)
                                 : AwaitRegistration(under_way, deadline));
  }
  PrepareUnpinned();
  MutexLock lock(mutex_);
  plan_ = std::move(plan);
  plan_hash_ = wanted->hash;
  return Ok();
}

// The plan that the engine has from now on: "plan", or an equal one that it has already.  A trainer
// asks for its layout at every snapshot until the daemon answers, and must not wait each time for
// the bytes on their way and for memory made anew.
Result<std::shared_ptr<const CopyPlan>> Session::AdoptPlan(std::shared_ptr<const CopyPlan> plan) {
  if (adopted_ != nullptr && *adopted_ == *plan) {
    return adopted_;
  }
  adopted_.reset();
  HF_TRYV(engine_->Adopt(plan));
  adopted_ = std::move(plan);
  return adopted_;
}

Status Session::EnsureRegistered() {
  {
    MutexLock lock(mutex_);
    if (fenced_.has_value()) {
      return *fenced_;
    }
    if (!joined_) {
      return Error(Errc::kInvalidArgument, "hf_join comes before a restore");
    }
    if (registered_ != nullptr) {
      return Ok();
    }
  }
  auto empty = std::make_shared<Registered>();
  HF_TRY(empty->layout, layout::PlanImage({}));
  empty->hash = layout::LayoutHash(empty->layout);
  const MonotonicTime deadline = SystemClock().Now() + options_.request_timeout;
  const auto under_way = RegistrationOf(empty->hash);
  return under_way == nullptr ? Register(empty, deadline) : AwaitRegistration(under_way, deadline);
}

Status Session::Register(const std::shared_ptr<Registered>& wanted, MonotonicTime deadline) {
  HF_TRY(const auto registration, SubmitRegistration(wanted));
  return AwaitRegistration(registration, deadline);
}

// The registration under way if it is of this layout.  One of another layout is given up: the
// daemon may have taken it or not, so a resume says which layout counts.
std::shared_ptr<Session::Registration> Session::RegistrationOf(const std::string& hash) {
  std::shared_ptr<Registration> other;
  {
    MutexLock lock(mutex_);
    if (registering_ == nullptr || registering_->wanted->hash == hash) {
      return registering_;
    }
    other = std::exchange(registering_, nullptr);
    if (other->answer.has_value()) {
      return nullptr;
    }
  }
  connection_.Cancel(other->ticket);
  connection_.Reset();
  return nullptr;
}

Result<std::shared_ptr<Session::Registration>> Session::SubmitRegistration(
    const std::shared_ptr<Registered>& wanted) {
  auto registration = std::make_shared<Registration>();
  registration->wanted = wanted;
  Connection::Request request;
  request.make = [this, wanted]() -> std::optional<proto::ClientMessage> {
    return RegisterMessage(wanted, false);
  };
  // On the connection's thread, BEFORE the grants that follow the answer are looked at.
  request.on_reply = [this, registration](Result<Reply> reply) {
    SlotTable::Mappings dropped;  // unmapped after the lock
    MutexLock lock(mutex_);
    if (reply.has_error()) {
      registration->answer = reply.error();
    } else if (!reply.value().message.has_register_()) {
      registration->answer =
          Error(Errc::kCorruption, "holdfastd answered a registration otherwise");
    } else {
      registration->answer =
          AdoptRegistration(registration->wanted, reply.value().message.register_(), &dropped);
    }
    changed_.NotifyAll();
  };
  HF_TRY(const std::uint64_t ticket, connection_.Submit(std::move(request)));
  MutexLock lock(mutex_);
  registration->ticket = ticket;
  registering_ = registration;
  return registration;
}

Status Session::AwaitRegistration(const std::shared_ptr<Registration>& registration,
                                  MonotonicTime deadline) {
  MutexLock lock(mutex_);
  while (!registration->answer.has_value()) {
    if (!changed_.WaitUntil(lock, deadline) && !registration->answer.has_value() &&
        SystemClock().Now() >= deadline) {
      return Error(Errc::kTimeout,
                   connected_ ? "holdfastd has not answered the registration yet" : Away());
    }
  }
  if (registering_ == registration) {
    registering_.reset();
  }
  return *registration->answer;
}

Status Session::AdoptRegistration(const std::shared_ptr<Registered>& registered,
                                  const proto::RegisterReply& reply,
                                  SlotTable::Mappings* dropped) {
  if (!registered->static_hash.empty() && reply.static_image_bytes() == 0) {
    return Error(Errc::kVersionMismatch,
                 "this holdfastd knows no frozen tensors: use one version of Holdfast on a node");
  }
  const bool keeps_frozen =
      frozen_.has_value() && reply.has_static_slot() &&
      frozen_->slot == SlotRef{reply.static_slot().slot(), reply.static_slot().generation()};
  if (!keeps_frozen) {
    DropFrozen(dropped);
  }
  registered->generation = reply.layout_generation();
  if (registered_ != registered) {
    slot_seen_ = false;
    slots_wait_since_ = SystemClock().Now();
  }
  registered_ = registered;
  session_token_ = reply.session_token();
  skips_told_ = std::max(skips_told_, skips_registered_);
  slots_admitted_ = reply.slots_admitted();
  stats_.last_complete_step = std::max(stats_.last_complete_step, reply.newest_complete_step());
  return Ok();
}

std::optional<proto::ClientMessage> Session::MakeResume() {
  std::shared_ptr<Registered> registered;
  {
    MutexLock lock(mutex_);
    registered = registered_;
  }
  if (registered == nullptr) {
    return std::nullopt;
  }
  return RegisterMessage(registered, true);
}

Status Session::OnResumed(Result<Reply> reply) {
  SlotTable::Mappings dropped;  // unmapped after the lock
  MutexLock lock(mutex_);
  if (reply.has_error()) {
    if (reply.error().code == Errc::kNotFound) {
      // A daemon that knows nothing of this session (its records are gone): a new one, without any
      // of the old one's slots.
      session_token_ = 0;
      slots_.DropAll(&dropped);
      DropFrozen(&dropped);
    }
    return reply.error();
  }
  if (!reply.value().message.has_register_()) {
    return Error(Errc::kCorruption, "holdfastd answered a resume with something else");
  }
  const auto& body = reply.value().message.register_();
  const std::uint32_t old_generation = registered_->generation;
  HF_TRYV(AdoptRegistration(registered_, body, &dropped));
  slots_.KeepOnly(body.kept(), old_generation, body.layout_generation(), &dropped);
  return Ok();
}

}  // namespace holdfast::client
