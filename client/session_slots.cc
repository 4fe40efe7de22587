// The slots of a Session: their grants, how they are made ready, and what else a daemon says by
// itself.
#include <algorithm>
#include <utility>

#include "client/session.h"

namespace holdfast::client {

Status Session::OnEvent(Reply event) {
  switch (event.message.body_case()) {
    case proto::ServerMessage::kGrant:
      return OnGrant(std::move(event));
    case proto::ServerMessage::kOutcome:
      OnOutcome(event.message.outcome());
      return Ok();
    case proto::ServerMessage::kRevoke: {
      const SlotRef ref{event.message.revoke().slot(), event.message.revoke().generation()};
      SlotTable::Mappings dropped;
      MutexLock lock(mutex_);
      slots_.Drop(ref, &dropped);
      if (frozen_.has_value() && frozen_->slot == ref) {
        DropFrozen(&dropped);
      }
      return Ok();
    }
    case proto::ServerMessage::kRestoreImage: {
      MutexLock lock(mutex_);
      static_attempt_ = event.message.restore_image().attempt();
      static_source_ = std::move(event.fd);
      return Ok();
    }
    default:
      return Ok();  // of a newer daemon
  }
}

Status Session::OnGrant(Reply event) {
  const proto::GrantEvent& grant = event.message.grant();
  const SlotRef ref{grant.slot(), grant.generation()};
  if (grant.image() == proto::STATIC) {
    return OnStaticGrant(std::move(event));
  }
  {
    MutexLock lock(mutex_);
    slot_seen_ = true;
  }
  if (grant.has_fd()) {
    return MapGranted(grant, ref, std::move(event.fd));
  }
  std::shared_ptr<SlotMapping> mapping;
  {
    MutexLock lock(mutex_);
    HF_TRY(mapping, slots_.GrantAgain(ref, grant.layout_generation()));
    // A slot that is ready already may fit the new layout: somebody may be waiting for just that.
    changed_.NotifyAll();
  }
  if (mapping == nullptr) {
    return Ok();
  }
  HF_TRYV(mapping->SetWritable(true));
  if (engine_->Pins() && !mapping->PinTried()) {
    PrepareSlot(ref, std::move(mapping));
    return Ok();
  }
  MutexLock lock(mutex_);
  slots_.MarkReady(ref);
  changed_.NotifyAll();
  return Ok();
}

Status Session::MapGranted(const proto::GrantEvent& grant, SlotRef ref, transport::OwnedFd fd) {
  HF_TRY(auto mapping, SlotMapping::Map(std::move(fd), grant.capacity_bytes()));
  SlotTable::Mappings dropped;
  {
    MutexLock lock(mutex_);
    HF_TRYV(slots_.AddGranted(ref, grant.layout_generation(), mapping, &dropped));
    slots_wait_since_ = SystemClock().Now();
  }
  PrepareSlot(ref, std::move(mapping));
  return Ok();
}

// Page tables are made behind training; a slot counts as granted once they are there.  An engine
// that takes no more slots is being closed: then it stays unfilled.
void Session::PrepareMapping(std::shared_ptr<SlotMapping> mapping, std::function<void()> ready) {
  [[maybe_unused]] const Status queued =
      engine_->Prepare(mapping, [this, mapping, ready](const Status& populated) {
        if (populated.has_error() && populated.error().code == Errc::kCancelled) {
          return;
        }
        if (engine_->Pins() && !mapping->PinTried()) {
          return PrepareMapping(mapping, ready);  // a layout of a device has come meanwhile
        }
        // Any other failure costs speed only: the first copy takes the faults instead.
        ready();
      });
}

void Session::PrepareSlot(SlotRef ref, std::shared_ptr<SlotMapping> mapping) {
  PrepareMapping(std::move(mapping), [this, ref] {
    MutexLock lock(mutex_);
    slots_.MarkReady(ref);
    changed_.NotifyAll();
  });
}

void Session::OnOutcome(const proto::OutcomeEvent& outcome) {
  MutexLock lock(mutex_);
  if (outcome.id().job_uid() != incarnation_.job_uid ||
      outcome.id().incarnation() != incarnation_.number) {
    return;  // of an older history, which a restore may have adopted
  }
  const std::int64_t step = outcome.id().step();
  switch (outcome.kind()) {
    case proto::OutcomeEvent::KIND_COMPLETE:
      stats_.last_complete_step = std::max(stats_.last_complete_step, step);
      break;
    case proto::OutcomeEvent::KIND_DURABLE:
      stats_.last_durable_step = std::max(stats_.last_durable_step, step);
      break;
    case proto::OutcomeEvent::KIND_ABANDONED:
      ledger_.Set(step, StepState::kGivenUp, outcome.reason());
      changed_.NotifyAll();
      break;
    default:
      break;
  }
}

// A state that has moved to a device keeps its layout and with it its slots, which were made ready
// for copies by the host.  Those in other hands follow when they are granted again.
void Session::PrepareUnpinned() {
  if (!engine_->Pins()) {
    return;
  }
  std::vector<SlotTable::Mapped> unpinned;
  std::optional<SlotTable::Mapped> frozen;
  {
    MutexLock lock(mutex_);
    unpinned = slots_.TakeUnpinned();
    if (!unpinned.empty()) {
      slots_wait_since_ = SystemClock().Now();
    }
    if (frozen_.has_value() && frozen_->state == Frozen::State::kGranted &&
        !frozen_->mapping->PinTried()) {
      frozen_->state = Frozen::State::kPreparing;
      frozen = SlotTable::Mapped{frozen_->slot, frozen_->mapping};
    }
  }
  for (SlotTable::Mapped& slot : unpinned) {
    PrepareSlot(slot.ref, std::move(slot.mapping));
  }
  if (frozen.has_value()) {
    PrepareStatic(frozen->ref, std::move(frozen->mapping));
  }
}

}  // namespace holdfast::client
