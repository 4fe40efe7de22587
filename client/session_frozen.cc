// The static image of a Session: its slot, and what each snapshot does with it.
#include <utility>

#include "client/session.h"

namespace holdfast::client {

Status Session::OnStaticGrant(Reply event) {
  const proto::GrantEvent& grant = event.message.grant();
  Frozen frozen;
  frozen.slot = SlotRef{grant.slot(), grant.generation()};
  frozen.sealed = grant.sealed();
  {
    MutexLock lock(mutex_);
    frozen_trouble_.clear();
    // One of a layout before fits nothing; the next registration says whether it stays.
    if (registered_ != nullptr && registered_->generation == grant.layout_generation()) {
      frozen.hash = registered_->static_hash;
    }
    if (!grant.has_fd()) {
      if (!frozen_.has_value() || frozen_->slot != frozen.slot) {
        return Error(Errc::kCorruption,
                     "holdfastd granted a static image without descriptor, and it is not mapped");
      }
      return Ok();  // in hand already
    }
  }
  return MapStatic(std::move(frozen), std::move(event));
}

Status Session::MapStatic(Frozen frozen, Reply event) {
  const ByteCount bytes = event.message.grant().capacity_bytes();
  if (frozen.sealed) {
    HF_TRY(frozen.mapping, SlotMapping::MapReadOnly(std::move(event.fd), bytes));
    frozen.state = Frozen::State::kOffered;
  } else {
    HF_TRY(frozen.mapping, SlotMapping::Map(std::move(event.fd), bytes));
  }
  const SlotRef slot = frozen.slot;
  const std::shared_ptr<SlotMapping> mapping = frozen.mapping;
  const bool sealed = frozen.sealed;
  SlotTable::Mappings dropped;
  {
    MutexLock lock(mutex_);
    DropFrozen(&dropped);
    frozen_ = std::move(frozen);
    changed_.NotifyAll();
  }
  if (sealed) {
    return Ok();
  }
  PrepareStatic(slot, mapping);
  return Ok();
}

void Session::PrepareStatic(SlotRef slot, std::shared_ptr<SlotMapping> mapping) {
  PrepareMapping(std::move(mapping), [this, slot] {
    MutexLock lock(mutex_);
    if (frozen_.has_value() && frozen_->slot == slot &&
        frozen_->state == Frozen::State::kPreparing) {
      frozen_->state = Frozen::State::kGranted;
    }
    changed_.NotifyAll();
  });
}

void Session::DropFrozen(SlotTable::Mappings* dropped) {
  if (frozen_.has_value()) {
    dropped->push_back(std::move(frozen_->mapping));
    frozen_.reset();
  }
}

// Whatever this client maps of it: it vouches that nothing else lands there.
void Session::NameFrozen(const std::string& static_hash, proto::RegisterRequest* body) {
  const bool fits = frozen_.has_value() && !frozen_->spoilt && !static_hash.empty() &&
                    frozen_->hash == static_hash;
  if (fits) {
    body->mutable_static_slot()->set_slot(frozen_->slot.slot);
    body->mutable_static_slot()->set_generation(frozen_->slot.generation);
  }
}

// Empty: a snapshot of the layout in force can be taken, as far as its static image is concerned.
std::string Session::WhyNoFrozen() {
  if (plan_ == nullptr || plan_->Frozen() == nullptr) {
    return "";
  }
  const bool mine = frozen_.has_value() && registered_ != nullptr &&
                    frozen_->hash == registered_->static_hash &&
                    frozen_->mapping->Size() >= plan_->Frozen()->ImageBytes();
  if (!mine) {
    return frozen_trouble_.empty() ? "the memory for the frozen tensors is being made ready"
                                   : frozen_trouble_;
  }
  if (frozen_->spoilt) {
    return "a tensor that was declared frozen has been written: register the layout anew";
  }
  switch (frozen_->state) {
    case Frozen::State::kPreparing:
      return "the memory for the frozen tensors is being made ready";
    case Frozen::State::kWorking:
      return "the frozen tensors are still being copied";
    default:
      return "";
  }
}

// None where the layout has no static image.
Result<std::vector<SourceView>> Session::FrozenSources(const CopyPlan& plan,
                                                       const SnapshotInput& input) {
  if (plan.Frozen() == nullptr) {
    return std::vector<SourceView>();
  }
  return MakeSources(*plan.Frozen(), input.pointers, input.strides);
}

// After WhyNoFrozen had no objection.
void Session::LendFrozen(Shot* shot) {
  if (plan_->Frozen() == nullptr) {
    return;
  }
  FrozenPart part;
  part.plan = plan_->Frozen();
  part.slot = frozen_->mapping;
  part.work = frozen_->state == Frozen::State::kGranted   ? FrozenPart::Work::kFill
              : frozen_->state == Frozen::State::kOffered ? FrozenPart::Work::kCompare
                                                          : FrozenPart::Work::kSample;
  if (part.work != FrozenPart::Work::kSample) {
    frozen_->state = Frozen::State::kWorking;
  }
  shot->frozen_slot = frozen_->slot;
  shot->job->frozen = std::move(part);
}

void Session::AccountFrozen(Shot* shot) {
  if (!shot->job->frozen.has_value() || !frozen_.has_value() ||
      frozen_->slot != shot->frozen_slot) {
    return;
  }
  const FrozenPart& part = *shot->job->frozen;
  const bool compared = part.work == FrozenPart::Work::kCompare;
  if (part.good && part.work == FrozenPart::Work::kFill) {
    frozen_->digests = part.chunk_crc32c;
    stats_.static_copied_bytes += part.plan->ImageBytes();
  }
  if (part.good) {
    frozen_->state = Frozen::State::kGood;
  } else if (part.changed.empty() && part.work != FrozenPart::Work::kSample) {
    frozen_->state = compared ? Frozen::State::kOffered : Frozen::State::kGranted;  // once more
  } else if (compared) {
    shot->refuses_frozen = true;
    frozen_.reset();  // the job holds the mapping
  } else if (!part.changed.empty()) {
    frozen_->spoilt = true;
    not_frozen_.clear();
    for (const std::size_t index : part.changed) {
      not_frozen_.push_back(static_cast<std::uint32_t>(part.plan->Tensors()[index].spec));
    }
  }
}

void Session::AddStaticSeal(const Shot& shot, proto::SealRequest* seal) {
  if (!shot.frozen_slot.has_value()) {
    return;
  }
  proto::StaticSeal* named = seal->mutable_static_image();
  named->set_slot(shot.frozen_slot->slot);
  named->set_generation(shot.frozen_slot->generation);
  if (frozen_.has_value() && frozen_->slot == shot.frozen_slot && !frozen_->sealed) {
    named->mutable_chunk_crc32c()->Add(frozen_->digests.begin(), frozen_->digests.end());
  }
}

void Session::OnFrozenSealed(const Shot& shot) {
  if (frozen_.has_value() && frozen_->slot == shot.frozen_slot && !frozen_->sealed) {
    frozen_->sealed = true;
    frozen_->digests.clear();
    // Where the kernel refuses, the digests still tell of a stray write (I2).
    [[maybe_unused]] const Status protected_now = frozen_->mapping->SetWritable(false);
  }
}

void Session::TellRefusal(const std::shared_ptr<Shot>& shot) {
  Connection::Request request;
  request.make = [shot]() -> std::optional<proto::ClientMessage> {
    proto::ClientMessage message;
    auto* refuse = message.mutable_refuse_static();
    refuse->set_slot(shot->frozen_slot->slot);
    refuse->set_generation(shot->frozen_slot->generation);
    refuse->set_reason(shot->job->outcome.reason);
    return message;
  };
  request.on_reply = [this](const Result<Reply>& reply) {
    MutexLock lock(mutex_);
    if (reply.has_error()) {
      frozen_trouble_ = reply.error().message;
    }
  };
  Submit(shot, std::move(request));
}

std::vector<std::uint32_t> Session::NotFrozen() {
  MutexLock lock(mutex_);
  return not_frozen_;
}

transport::OwnedFd Session::TakeStaticSource(std::uint32_t attempt) {
  MutexLock lock(mutex_);
  return static_attempt_ == attempt ? std::move(static_source_) : transport::OwnedFd();
}

}  // namespace holdfast::client
