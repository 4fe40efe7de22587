#include "daemon/slot_store.h"

#include <algorithm>
#include <cstring>
#include <list>
#include <utility>

#include "common/failpoint.h"
#include "common/log.h"
#include "common/with_timeout.h"
#include "layout/image.h"

namespace holdfast::daemon {
namespace {

namespace asio = boost::asio;
using storage_tiers::Arena;
using storage_tiers::QuarantinedFile;
using storage_tiers::SlotFile;
using storage_tiers::SlotName;

// How long a new slot waits for memory of slots that are being removed.
constexpr std::chrono::milliseconds kRemovalLimit{30'000};

SlotName NameOf(SlotRef slot) {
  return {slot.slot, slot.generation};
}

std::string TextOf(SlotRef slot) {
  return "slot " + NameOf(slot).ToString();
}

Status WriteHeader(SlotFile& file, const proto::Layout& layout, proto::ImageKind kind) {
  HF_TRY(const std::string header, layout::BuildImageHeader(layout, kind));
  if (header.size() > file.capacity()) {
    return Error(Errc::kInvalidArgument,
                 "the image header of " + std::to_string(header.size()) +
                     " bytes does not fit slot " + file.name().ToString());
  }
  std::memcpy(file.mutable_view().data(), header.data(), header.size());
  if (file.poisoned()) {
    return Error(Errc::kCorruption, "slot " + file.name().ToString() + ": the file was cut");
  }
  return Ok();
}

}  // namespace

SlotStore::SlotStore(const Arena& arena, WorkerPool& pool) : arena_(arena), pool_(pool) {}

Result<SharedSlot> SlotStore::Find(SlotRef slot) const {
  const auto found = slots_.find(slot);
  if (found == slots_.end()) {
    return Error(Errc::kNotFound, TextOf(slot) + " is not in the arena");
  }
  return found->second;
}

asio::awaitable<Result<SharedSlot>> SlotStore::Create(SlotRef slot,
                                                      ByteCount capacity,
                                                      std::int32_t node) {
  auto create = [arena = &arena_, name = NameOf(slot), capacity, node, cancel = cancel_] {
    return arena->CreateSlot(name, capacity, *cancel, node);
  };
  co_return co_await Offload(pool_, std::move(create));
}

asio::awaitable<Status> SlotStore::Prepare(SlotRef slot,
                                           ByteCount capacity,
                                           bool create,
                                           SharedLayout layout,
                                           proto::ImageKind kind,
                                           std::int32_t node) {
  SharedSlot file;
  if (create) {
    const auto deadline = std::chrono::steady_clock::now() + kRemovalLimit;
    while (removing_ > 0 && std::chrono::steady_clock::now() < deadline && !co_await Cancelled()) {
      (void)co_await SleepFor(std::chrono::milliseconds(20));
    }
    HF_CO_TRY(file, co_await Create(slot, capacity, node));
    slots_[slot] = file;
  } else {
    HF_CO_TRY(file, Find(slot));
  }
  if (layout == nullptr) {
    co_return Ok();
  }
  auto write = [file, layout, kind]() -> Status {
    HF_TRYV(FailpointStatus("slot.prepare"));
    return WriteHeader(*file, *layout, kind);
  };
  const Status written = co_await Offload(pool_, std::move(write));
  if (!written.has_value() && create) {
    file.reset();
    (void)co_await Remove(slot);
  }
  co_return written;
}

asio::awaitable<Status> SlotStore::Remove(SlotRef slot) {
  SharedSlot mapping;
  const auto found = slots_.find(slot);
  if (found != slots_.end()) {
    mapping = std::move(found->second);
    slots_.erase(found);
  }
  ++removing_;
  auto remove = [arena = &arena_, name = NameOf(slot), mapping = std::move(mapping)]() mutable {
    Status removed = arena->Remove(name);
    mapping.reset();
    return removed;
  };
  const Status status = co_await Offload(pool_, std::move(remove));
  --removing_;
  co_return status;
}

void SlotStore::Quarantine(SlotRef slot) {
  Quarantined entry;
  entry.slot = slot;
  const auto found = slots_.find(slot);
  if (found != slots_.end()) {
    entry.mapping = std::move(found->second);
    slots_.erase(found);
  }
  quarantined_.push_back(std::move(entry));
}

asio::awaitable<Result<bool>> SlotStore::TryRelease(Quarantined* entry) {
  using Watched = std::shared_ptr<const QuarantinedFile>;
  if (entry->file == nullptr) {
    auto watch = [arena = &arena_,
                  name = NameOf(entry->slot),
                  mapping = std::move(entry->mapping)]() mutable -> Result<Watched> {
      mapping.reset();  // our own mapping would count as a user
      HF_TRY(QuarantinedFile file, arena->Quarantine(name));
      return std::make_shared<const QuarantinedFile>(std::move(file));
    };
    auto watched = co_await Offload(pool_, std::move(watch));
    if (!watched.has_value() && watched.error().code == Errc::kNotFound) {
      co_return true;
    }
    HF_CO_TRY(entry->file, std::move(watched));
  }
  auto look = [arena = &arena_, file = entry->file]() -> Result<bool> {
    HF_TRY(const bool used, file->StillInUse());
    if (used) {
      return false;
    }
    HF_TRYV(arena->Remove(file->name()));
    return true;
  };
  co_return co_await Offload(pool_, std::move(look));
}

asio::awaitable<void> SlotStore::WatchQuarantine(std::chrono::milliseconds interval,
                                                 std::function<void(SlotRef)> released) {
  std::list<Quarantined> watched;
  while (true) {
    std::move(quarantined_.begin(), quarantined_.end(), std::back_inserter(watched));
    quarantined_.clear();
    for (auto it = watched.begin(); it != watched.end();) {
      const Result<bool> free = co_await TryRelease(&*it);
      if (co_await Cancelled()) {
        co_return;
      }
      if (!free.has_value() && !it->told) {
        it->told = true;
        LogWarning("quarantine.unknown",
                   TextOf(it->slot) + " stays quarantined: " + free.error().ToString());
      }
      if (free.has_value() && free.value()) {
        const SlotRef slot = it->slot;
        it = watched.erase(it);
        LogInfo("quarantine.released", TextOf(slot) + " is no longer in use and was removed");
        released(slot);
      } else {
        ++it;
      }
    }
    const Status slept = co_await SleepFor(interval);
    if (!slept.has_value()) {
      co_return;
    }
  }
}

}  // namespace holdfast::daemon
