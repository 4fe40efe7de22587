// A holdfastd that tests script: real socket, real descriptors, no decisions of its own beyond the
// good case.
//
// By default it does what a daemon does when all goes well: answers hello, registers, grants slots
// (memfds with the image's header), answers begins, seals, and grants the next slot after each
// seal. A hook sees every request first and may answer, stay silent, or cut the connection instead.
//
// Threads:   one for the listener, one for each connection; all functions by any thread.
// Ownership: owns socket, threads and slots.
// Lifecycle: construct (listens) -> script -> destroy (joins).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/mutex.h"
#include "proto/client.pb.h"
#include "transport/unix_socket.h"

namespace holdfast::client {

class FakeDaemon {
 public:
  enum class Verdict {
    kDefault,  // the hook leaves it to the daemon
    kHandled,  // answered, or to be left without an answer
    kCut,      // close this connection now
  };

  struct Slot {
    transport::OwnedFd fd;
    std::uint64_t generation = 1;
    std::string state = "free";  // free, granted, filling, sealed, draining
    std::int64_t step = -1;
    bool mapped_by_client = false;
    std::vector<std::uint32_t> digests;  // of the seal
    std::vector<std::string> state_items;
  };

  using Hook = std::function<Verdict(const proto::ClientMessage&)>;

  FakeDaemon();
  ~FakeDaemon();
  FakeDaemon(const FakeDaemon&) = delete;
  FakeDaemon& operator=(const FakeDaemon&) = delete;

  const std::string& SocketPath() const { return path_; }

  // How many slots a registration gets; before the first one.
  void SetSlots(std::uint32_t slots);

  // Sees every request of every connection before the default does.
  void SetHook(Hook hook);

  // Closes every connection; the client may come back at once.
  void CutConnections();

  // Stops listening too, as a dead daemon does; Revive listens again at the same path.
  void Die();
  void Revive();

  // Dies for good and joins all threads: no hook runs any more.
  void Stop();

  // Sends to the newest connection.
  void Send(const proto::ServerMessage& message, int fd = -1);
  void SendRaw(const std::string& bytes, int fd = -1);
  void Answer(const proto::ClientMessage& request, proto::ServerMessage answer, int fd = -1);
  void AnswerError(const proto::ClientMessage& request, Errc code, const std::string& text);

  // The good-case answer, for hooks that only want to look.
  void Default(const proto::ClientMessage& request);

  // Grants a free slot, if there is one.
  void GrantNext();

  // Everything received so far, in order of arrival, over all connections.
  std::vector<proto::ClientMessage> Received();
  std::vector<proto::ClientMessage> Received(proto::ClientMessage::BodyCase body);

  // Waits until "count" requests of that kind have arrived.
  bool WaitReceived(proto::ClientMessage::BodyCase body, std::size_t count);
  bool WaitConnections(std::size_t count);

  // The sealed bytes of a step, from the daemon's own descriptor; empty: not sealed.
  std::string SealedImage(std::int64_t step);
  std::vector<std::uint32_t> SealedDigests(std::int64_t step);
  std::string SlotState(std::uint32_t slot);
  // Forgets who maps what, as a daemon that was started anew.
  void ForgetMappings();

 private:
  void Listen();
  void AcceptLoop(int listener);
  void Serve(std::shared_ptr<transport::UnixSocket> socket);
  void OnRegister(const proto::ClientMessage& request);
  void OnSeal(const proto::ClientMessage& request);
  void MakeSlots(const proto::Layout& layout);
  void StopListening();

  std::string path_;
  std::thread acceptor_;
  Mutex mutex_;
  CondVar changed_;
  transport::OwnedFd listener_ HF_GUARDED_BY(mutex_);
  bool listening_ HF_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> servers_ HF_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<transport::UnixSocket>> connections_ HF_GUARDED_BY(mutex_);
  std::size_t connection_count_ HF_GUARDED_BY(mutex_) = 0;
  Hook hook_ HF_GUARDED_BY(mutex_);
  std::vector<proto::ClientMessage> received_ HF_GUARDED_BY(mutex_);
  std::uint32_t slots_wanted_ HF_GUARDED_BY(mutex_) = 2;
  std::map<std::uint32_t, Slot> slots_ HF_GUARDED_BY(mutex_);
  std::uint64_t image_bytes_ HF_GUARDED_BY(mutex_) = 0;
  std::uint32_t layout_generation_ HF_GUARDED_BY(mutex_) = 0;
  std::string layout_hash_ HF_GUARDED_BY(mutex_);
};

}  // namespace holdfast::client
