#include "tests/client/fake_daemon.h"

#include <cstring>
#include <utility>

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/support/unique_name.h"
#include "transport/messages.h"

namespace holdfast::client {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kPatience{30'000};

std::string FreshPath() {
  return tests::UniqueName("/tmp/hf-fake") + ".sock";
}

}  // namespace

FakeDaemon::FakeDaemon() : path_(FreshPath()) {
  Listen();
}

FakeDaemon::~FakeDaemon() {
  Stop();
}

void FakeDaemon::Stop() {
  Die();
  std::vector<std::thread> servers;
  {
    MutexLock lock(mutex_);
    servers.swap(servers_);
  }
  for (std::thread& server : servers) {
    server.join();
  }
}

void FakeDaemon::Listen() {
  transport::OwnedFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path_.c_str(), path_.size() + 1);
  ::unlink(path_.c_str());
  ASSERT_EQ(::bind(fd.Get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(fd.Get(), 16), 0);
  const int listener = fd.Get();
  MutexLock lock(mutex_);
  listener_ = std::move(fd);
  listening_ = true;
  acceptor_ = std::thread([this, listener] { AcceptLoop(listener); });
}

void FakeDaemon::StopListening() {
  {
    MutexLock lock(mutex_);
    listening_ = false;
  }
  if (acceptor_.joinable()) {
    acceptor_.join();
  }
  ::unlink(path_.c_str());
  MutexLock lock(mutex_);
  listener_.Reset();
}

void FakeDaemon::Die() {
  StopListening();
  CutConnections();
}

void FakeDaemon::Revive() {
  Listen();
}

void FakeDaemon::AcceptLoop(int listener) {
  while (true) {
    pollfd entry{listener, POLLIN, 0};
    const int ready = ::poll(&entry, 1, 5);
    MutexLock lock(mutex_);
    if (!listening_) {
      return;
    }
    if (ready <= 0) {
      continue;
    }
    transport::OwnedFd fd(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
    if (!fd.Valid()) {
      continue;
    }
    auto socket = std::make_shared<transport::UnixSocket>(std::move(fd));
    connections_.push_back(socket);
    ++connection_count_;
    servers_.emplace_back([this, socket] { Serve(socket); });
    changed_.NotifyAll();
  }
}

void FakeDaemon::Serve(std::shared_ptr<transport::UnixSocket> socket) {
  while (true) {
    const auto payload = socket->Receive(milliseconds(3'600'000));
    if (payload.has_error()) {
      return;
    }
    auto message = transport::ParseClientMessage(payload.value());
    if (message.has_error()) {
      ADD_FAILURE() << message.error().ToString();
      return;
    }
    Hook hook;
    {
      MutexLock lock(mutex_);
      received_.push_back(message.value());
      hook = hook_;
      changed_.NotifyAll();
    }
    const Verdict verdict = hook ? hook(message.value()) : Verdict::kDefault;
    if (verdict == Verdict::kCut) {
      socket->Shutdown();
      return;
    }
    if (verdict == Verdict::kDefault) {
      Default(message.value());
    }
  }
}

void FakeDaemon::SetSlots(std::uint32_t slots) {
  MutexLock lock(mutex_);
  slots_wanted_ = slots;
}

void FakeDaemon::SetHook(Hook hook) {
  MutexLock lock(mutex_);
  hook_ = std::move(hook);
}

void FakeDaemon::CutConnections() {
  MutexLock lock(mutex_);
  for (const auto& socket : connections_) {
    socket->Shutdown();
  }
  connections_.clear();
}

void FakeDaemon::Send(const proto::ServerMessage& message, int fd) {
  const std::string frame = transport::EncodeFrame(message).value();
  std::shared_ptr<transport::UnixSocket> socket;
  MutexLock lock(mutex_);
  if (!connections_.empty()) {
    // A client that went away is for the test to see, by what it does next.
    (void)connections_.back()->Send(AsBytes(frame), fd, milliseconds(1000));
  }
}

void FakeDaemon::SendRaw(const std::string& bytes, int fd) {
  MutexLock lock(mutex_);
  if (!connections_.empty()) {
    (void)connections_.back()->Send(AsBytes(bytes), fd, milliseconds(1000));
  }
}

void FakeDaemon::Answer(const proto::ClientMessage& request, proto::ServerMessage answer, int fd) {
  answer.set_request_id(request.request_id());
  Send(answer, fd);
}

void FakeDaemon::AnswerError(const proto::ClientMessage& request,
                             Errc code,
                             const std::string& text) {
  proto::ServerMessage answer;
  answer.mutable_error()->set_code(static_cast<std::uint32_t>(code));
  answer.mutable_error()->set_message(text);
  Answer(request, answer);
}

std::vector<proto::ClientMessage> FakeDaemon::Received() {
  MutexLock lock(mutex_);
  return received_;
}

std::vector<proto::ClientMessage> FakeDaemon::Received(proto::ClientMessage::BodyCase body) {
  std::vector<proto::ClientMessage> matching;
  for (auto& message : Received()) {
    if (message.body_case() == body) {
      matching.push_back(std::move(message));
    }
  }
  return matching;
}

bool FakeDaemon::WaitReceived(proto::ClientMessage::BodyCase body, std::size_t count) {
  const MonotonicTime deadline = SystemClock().Now() + kPatience;
  MutexLock lock(mutex_);
  while (true) {
    std::size_t seen = 0;
    for (const auto& message : received_) {
      seen += message.body_case() == body ? 1 : 0;
    }
    if (seen >= count) {
      return true;
    }
    if (!changed_.WaitUntil(lock, deadline)) {
      return false;
    }
  }
}

bool FakeDaemon::WaitConnections(std::size_t count) {
  const MonotonicTime deadline = SystemClock().Now() + kPatience;
  MutexLock lock(mutex_);
  while (connection_count_ < count) {
    if (!changed_.WaitUntil(lock, deadline)) {
      return false;
    }
  }
  return true;
}

std::string FakeDaemon::SealedImage(std::int64_t step) {
  MutexLock lock(mutex_);
  for (const auto& [number, slot] : slots_) {
    if (slot.state == "sealed" && slot.step == step) {
      std::string image(image_bytes_, '\0');
      EXPECT_EQ(::pread(slot.fd.Get(), image.data(), image.size(), 0),
                static_cast<ssize_t>(image.size()));
      return image;
    }
  }
  return "";
}

std::vector<std::uint32_t> FakeDaemon::SealedDigests(std::int64_t step) {
  MutexLock lock(mutex_);
  for (const auto& [number, slot] : slots_) {
    if (slot.state == "sealed" && slot.step == step) {
      return slot.digests;
    }
  }
  return {};
}

std::string FakeDaemon::SlotState(std::uint32_t slot) {
  MutexLock lock(mutex_);
  return slots_[slot].state;
}

void FakeDaemon::ForgetMappings() {
  MutexLock lock(mutex_);
  for (auto& [number, slot] : slots_) {
    slot.mapped_by_client = false;
  }
}

}  // namespace holdfast::client
