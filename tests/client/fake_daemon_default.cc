// What the fake daemon does where no hook decides otherwise.
#include <utility>

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "layout/image.h"
#include "tests/client/fake_daemon.h"

namespace holdfast::client {
namespace {

// Of requests that change nothing here; false: it is another.
bool AnswerPlain(const proto::ClientMessage& request, proto::ServerMessage* answer) {
  switch (request.body_case()) {
    case proto::ClientMessage::kMissed:
      answer->mutable_missed();
      return true;
    case proto::ClientMessage::kLoaded:
      answer->mutable_loaded()->set_committed(request.loaded().ok());
      return true;
    case proto::ClientMessage::kDrain:
      answer->mutable_drain()->set_durable(true);
      return true;
    case proto::ClientMessage::kFinish:
      answer->mutable_finish()->set_freed_bytes(42);
      return true;
    case proto::ClientMessage::kLeave:
      answer->mutable_leave();
      return true;
    case proto::ClientMessage::kPing:
      answer->mutable_ping();
      return true;
    default:
      return false;
  }
}

}  // namespace

void FakeDaemon::Default(const proto::ClientMessage& request) {
  proto::ServerMessage answer;
  switch (request.body_case()) {
    case proto::ClientMessage::kHello:
      answer.mutable_hello()->set_protocol_version(1);
      answer.mutable_hello()->set_software_version("fake");
      break;
    case proto::ClientMessage::kOpenIncarnation:
      answer.mutable_open_incarnation()->set_job_uid(std::string(16, 'u'));
      answer.mutable_open_incarnation()->set_number(3);
      answer.mutable_open_incarnation()->set_token(77);
      break;
    case proto::ClientMessage::kRegister:
      return OnRegister(request);
    case proto::ClientMessage::kBegin: {
      answer.mutable_begin();
      MutexLock lock(mutex_);
      Slot& slot = slots_[request.begin().slot()];
      slot.state = slot.state == "sealed" ? slot.state : "filling";
      slot.step = request.begin().step();
      break;
    }
    case proto::ClientMessage::kSeal:
      return OnSeal(request);
    case proto::ClientMessage::kTorn: {
      answer.mutable_torn();
      MutexLock lock(mutex_);
      slots_[request.torn().slot()].state = request.torn().copies_done() ? "free" : "draining";
      break;
    }
    case proto::ClientMessage::kCopiesDone: {
      answer.mutable_copies_done();
      MutexLock lock(mutex_);
      slots_[request.copies_done().slot()].state = "free";
      break;
    }
    default:
      if (AnswerPlain(request, &answer)) {
        break;
      }
      return AnswerError(request, Errc::kInternal, "the fake daemon does not do that");
  }
  Answer(request, answer);
  if (request.has_torn() || request.has_copies_done()) {
    GrantNext();
  }
}

void FakeDaemon::MakeSlots(const proto::Layout& layout) {
  const std::string header = layout::BuildImageHeader(layout, proto::DYNAMIC).value();
  MutexLock lock(mutex_);
  image_bytes_ = layout::ImageBytes(layout, proto::DYNAMIC);
  const std::uint32_t first = slots_.empty() ? 1 : slots_.rbegin()->first + 1;
  for (std::uint32_t i = 0; i < slots_wanted_; ++i) {
    Slot slot;
    slot.fd = transport::OwnedFd(::memfd_create("slot", MFD_CLOEXEC));
    EXPECT_EQ(::ftruncate(slot.fd.Get(), static_cast<off_t>(image_bytes_)), 0);
    EXPECT_EQ(::pwrite(slot.fd.Get(), header.data(), header.size(), 0),
              static_cast<ssize_t>(header.size()));
    slots_.emplace(first + i, std::move(slot));
  }
}

void FakeDaemon::OnRegister(const proto::ClientMessage& request) {
  const auto& body = request.register_();
  bool fresh = false;
  {
    MutexLock lock(mutex_);
    fresh = layout_hash_ != body.layout_hash();
    if (fresh) {
      for (auto& [number, slot] : slots_) {
        slot.state = "retired";
      }
      layout_hash_ = body.layout_hash();
      ++layout_generation_;
    }
  }
  if (fresh) {
    MakeSlots(body.layout());
  }
  proto::ServerMessage answer;
  {
    MutexLock lock(mutex_);
    auto* reply = answer.mutable_register_();
    reply->set_session_token(99);
    reply->set_layout_generation(layout_generation_);
    reply->set_slots_admitted(slots_wanted_);
    reply->set_image_bytes(image_bytes_);
    reply->set_newest_complete_step(-1);
    for (auto& [number, slot] : slots_) {
      slot.mapped_by_client = slot.mapped_by_client && body.session_token() == 0;
    }
    for (const auto& held : body.held()) {
      const auto found = slots_.find(held.slot());
      if (found != slots_.end() && found->second.state != "sealed") {
        *reply->add_kept() = held;
        found->second.mapped_by_client = true;
      }
    }
  }
  Answer(request, answer);
  GrantNext();
}

void FakeDaemon::OnSeal(const proto::ClientMessage& request) {
  {
    MutexLock lock(mutex_);
    for (auto& [number, slot] : slots_) {
      // The snapshot before is superseded.
      if (slot.state == "sealed" && slot.step < request.seal().step()) {
        slot.state = "free";
      }
    }
    Slot& slot = slots_[request.seal().slot()];
    slot.state = "sealed";
    slot.step = request.seal().step();
    slot.digests.assign(request.seal().chunk_crc32c().begin(), request.seal().chunk_crc32c().end());
  }
  proto::ServerMessage answer;
  answer.mutable_seal();
  Answer(request, answer);
  GrantNext();
}

void FakeDaemon::GrantNext() {
  proto::ServerMessage event;
  int fd = -1;
  {
    MutexLock lock(mutex_);
    for (auto& [number, slot] : slots_) {
      if (slot.state == "granted") {
        return;  // at most one granted and unfilled
      }
    }
    for (auto& [number, slot] : slots_) {
      if (slot.state == "free") {
        slot.state = "granted";
        event.mutable_grant()->set_slot(number);
        event.mutable_grant()->set_generation(slot.generation);
        event.mutable_grant()->set_capacity_bytes(image_bytes_);
        event.mutable_grant()->set_layout_generation(layout_generation_);
        event.mutable_grant()->set_has_fd(!slot.mapped_by_client);
        fd = slot.mapped_by_client ? -1 : slot.fd.Get();
        slot.mapped_by_client = true;
        break;
      }
    }
  }
  if (event.has_grant()) {
    Send(event, fd);
  }
}

}  // namespace holdfast::client
