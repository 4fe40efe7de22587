// Any requests of any clients, in any order, to the core: it refuses or obeys, and never breaks.
//
// The input is a list of events: a byte for what, a byte for who, then what the event needs.  A
// message is two bytes of length and the message; with kFill its ids, slots and epochs are replaced
// by those that the core has told, so that the search gets past the first checks.  Actions are
// carried out at once, as by a runtime whose files all work.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <variant>

#include "common/check.h"
#include "common/units.h"
#include "daemon/core/node_core.h"
#include "storage_tiers/catalog_contents.h"

namespace holdfast::daemon {
namespace {

constexpr std::uint64_t kImage = kMiB;

CoreOptions Options() {
  CoreOptions options;
  options.budget_bytes = 8 * kMiB;
  options.default_slots = 2;
  return options;
}

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}

  bool empty() const { return size_ == 0; }

  std::uint8_t Byte() {
    if (size_ == 0) {
      return 0;
    }
    --size_;
    return *data_++;
  }

  std::string Bytes(std::size_t wanted) {
    const std::size_t count = std::min(wanted, size_);
    std::string bytes(reinterpret_cast<const char*>(data_), count);
    data_ += count;
    size_ -= count;
    return bytes;
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
};

class World {
 public:
  World() { Start(); }

  void Play(Input* input) {
    while (!input->empty()) {
      const std::uint8_t what = input->Byte();
      const SessionId session = 1 + input->Byte() % kSessions;
      switch (what % 8) {
        case 0:
          core_->OnDisconnected(session);
          connected_[session] = false;
          break;
        case 1:
          core_->OnProcessDead(token_);
          break;
        case 2:
          now_ += std::chrono::seconds(input->Byte());
          core_->OnTick(now_, WallTime{});
          break;
        case 3:
          Start();
          break;
        default:
          Send(session, input, what >= 128);
      }
      CarryOut();
    }
    // What every start would read.
    HOLDFAST_CHECK(core_->StatusNow().arena().used_bytes() <= Options().budget_bytes);
    Start();
    CarryOut();
  }

 private:
  static constexpr SessionId kSessions = 3;

  void Start() {
    answers_.clear();
    storage_tiers::CatalogContents records;
    for (const auto& [key, value] : catalog_) {
      storage_tiers::AddRecord(key, value, &records);
    }
    HOLDFAST_CHECK(records.damaged_count == 0);
    RecoveredState state;
    state.node_uuid = "node-0----------";
    state.arena_uuid = "arena-0---------";
    state.boot_id = "boot";
    state.boot_number = ++boot_;
    state.jobs = records.jobs;
    state.slots = records.slots;
    state.shards = records.shards;
    state.incarnations = records.incarnations;
    state.outcomes = records.outcomes;
    state.durables = records.durables;
    state.layouts["layout----------"] = {"layout----------", kImage, "", 0};
    core_ = std::make_unique<NodeCore>(Options(), std::move(state), now_, WallTime{});
    for (bool& is : connected_) {
      is = false;
    }
  }

  void Send(SessionId session, Input* input, bool fill) {
    if (!connected_[session]) {
      connected_[session] = true;
      ClientIdentity identity;
      identity.uid = static_cast<std::uint32_t>(session / kSessions);  // the last is a stranger
      identity.pid = static_cast<std::int32_t>(100 + session);
      identity.session_random = ++random_;
      identity.epoch_random = ++random_;
      core_->OnConnected(session, identity);
    }
    const std::size_t length = 256 * (input->Byte() % 4) + input->Byte();
    proto::ClientMessage message;
    if (!message.ParseFromString(input->Bytes(length))) {
      return;
    }
    if (fill) {
      Fill(&message);
    }
    const LayoutFacts facts{"layout----------", kImage, "", 0};
    core_->OnRequest(session, message, &facts);
  }

  void Fill(proto::ClientMessage* message) const {
    const auto slot = [&](auto* body) {
      body->set_slot(granted_.slot);
      body->set_generation(granted_.generation);
    };
    if (message->has_register_()) {
      message->mutable_register_()->set_job_uid(uid_);
      message->mutable_register_()->set_epoch_number(number_);
      message->mutable_register_()->set_epoch_token(epoch_token_);
    } else if (message->has_begin()) {
      slot(message->mutable_begin());
    } else if (message->has_torn()) {
      slot(message->mutable_torn());
    } else if (message->has_copies_done()) {
      slot(message->mutable_copies_done());
    } else if (message->has_seal()) {
      slot(message->mutable_seal());
    } else if (message->has_remove()) {
      message->mutable_remove()->mutable_id()->set_job_uid(uid_);
    } else if (message->has_open_shard()) {
      message->mutable_open_shard()->mutable_id()->set_job_uid(uid_);
    } else if (message->has_verify_shard()) {
      message->mutable_verify_shard()->mutable_id()->set_job_uid(uid_);
    }
  }

  void CarryOut() {
    for (int step = 0; step < 10000; ++step) {
      Ready ready;
      if (core_->TakeReady(&ready)) {
        HOLDFAST_CHECK(ready.batch.check().has_value());
        for (const storage_tiers::CatalogBatch::Op& op : ready.batch.ops()) {
          if (op.value.has_value()) {
            catalog_[op.key] = *op.value;
          } else {
            catalog_.erase(op.key);
          }
        }
        for (const Action& action : ready.actions) {
          std::visit([this](const auto& one) { Do(one); }, action);
        }
      } else if (!answers_.empty()) {
        const auto next = std::move(answers_.front());
        answers_.pop_front();
        next();
      } else {
        return;
      }
    }
    HOLDFAST_CHECK(false);  // the core never comes to rest
  }

  template <class Action>
  void Do(const Action&) {}

  void Do(const holdfast::daemon::Send& action) {
    const proto::ServerMessage& message = action.message;
    if (message.has_open_incarnation()) {
      uid_ = message.open_incarnation().job_uid();
      number_ = message.open_incarnation().number();
      epoch_token_ = message.open_incarnation().token();
    } else if (message.has_register_()) {
      token_ = message.register_().session_token();
    } else if (message.has_grant()) {
      granted_ = {message.grant().slot(), message.grant().generation()};
    }
  }

  void Do(const PrepareSlot& action) {
    answers_.emplace_back([this, action] { core_->OnSlotPrepared(action.slot, Ok()); });
  }

  void Do(const QuarantineSlot& action) {
    answers_.emplace_back([this, action] { core_->OnQuarantineReleased(action.slot); });
  }

  void Do(const DigestSlot& action) {
    answers_.emplace_back([this, action] {
      const std::vector<std::uint32_t> digests((action.length_bytes + kMiB - 1) / kMiB);
      core_->OnDigested(action.slot, digests);
    });
  }

  void Do(const VerifySlot& action) {
    answers_.emplace_back([this, action] {
      core_->OnVerified(action.ticket, action.slot, std::vector<std::uint64_t>());
    });
  }

  void Do(const ClaimIncarnation& action) {
    answers_.emplace_back([this, action] {
      ClaimedIncarnation claimed;
      claimed.job_uid = action.job_uid.empty() ? "uid-------------" : action.job_uid;
      claimed.number = action.at_least;
      core_->OnIncarnationClaimed(action.ticket, claimed);
    });
  }

  void Do(const ListTier& action) {
    answers_.emplace_back([this, action] {
      core_->OnTierListed(action.job_uid, action.root, action.attempt, std::vector<TierSnapshot>());
    });
  }

  void Do(const OpenShardFile& action) {
    answers_.emplace_back([this, action] {
      core_->OnShardOpened(action.job_uid,
                           action.attempt,
                           action.rank,
                           action.ticket,
                           Error(Errc::kNotFound, "no file"));
    });
  }

  void Do(const FlushShard& action) {
    answers_.emplace_back([this, action] {
      core_->OnFlushed(action.job_uid, action.tier.root(), action.id, action.rank, Ok());
    });
  }

  void Do(const PublishManifest& action) {
    answers_.emplace_back([this, action] {
      core_->OnPublished(action.job_uid, action.root, action.id, action.epoch, Ok());
    });
  }

  void Do(const DeleteDurable& action) {
    answers_.emplace_back(
        [this, action] { core_->OnDurableDeleted(action.job_uid, action.root, action.id, Ok()); });
  }

  std::map<std::string, std::string> catalog_;
  std::unique_ptr<NodeCore> core_;
  std::deque<std::function<void()>> answers_;
  bool connected_[kSessions + 1] = {};
  MonotonicTime now_{std::chrono::hours(1)};
  std::uint64_t boot_ = 0;
  std::uint64_t random_ = 0;
  // What the core told last.
  std::string uid_;
  std::uint64_t number_ = 0;
  std::uint64_t epoch_token_ = 0;
  std::uint64_t token_ = 0;
  SlotRef granted_;
};

}  // namespace
}  // namespace holdfast::daemon

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  holdfast::daemon::World world;
  holdfast::daemon::Input input(data, size);
  world.Play(&input);
  return 0;
}
