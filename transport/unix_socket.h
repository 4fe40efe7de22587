// A blocking Unix stream socket that carries frames and descriptors: the client's end.
//
// libholdfast is a guest in a trainer: no Asio, no event loop, plain poll() with a deadline around
// every wait, so that a daemon that hangs costs its caller a timeout and never the training.
//
// Threads:   one thread may Send while another Receives; two of the same kind must be serialised by
//            the caller.  Shutdown may be called from any thread and wakes both.
// Ownership: owns the socket and every descriptor that arrived and was not taken.
// Errors:    kTimeout; kUnavailable when the other side is gone; kCorruption when it sent what is
// no
//            frame.  After any error but a kTimeout of Receive the connection is of no more use:
//            a frame may have been cut.
// Lifecycle: Connect or construct from a descriptor -> Send/Receive -> Shutdown -> destroy.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include <sys/socket.h>

#include "common/bytes.h"
#include "common/clock.h"
#include "common/result.h"
#include "transport/frame.h"
#include "transport/owned_fd.h"

namespace holdfast::transport {

class UnixSocket {
 public:
  // Slots are granted one at a time; more descriptors than this under way is no daemon of ours.
  static constexpr std::size_t kMaxArrived = 64;

  // Takes a connected stream socket.
  explicit UnixSocket(OwnedFd socket);

  // A socket that is not connected yet: for a caller that must know the descriptor before the other
  // side does (a fork may happen at any moment).
  [[nodiscard]] static Result<std::unique_ptr<UnixSocket>> Create();

  // Once, before anything else.  kUnavailable where nobody listens at "path", kPermission, kTimeout
  // where the listener's queue stays full.
  [[nodiscard]] Status ConnectTo(const std::string& path, std::chrono::milliseconds timeout);

  // Both in one.
  [[nodiscard]] static Result<std::unique_ptr<UnixSocket>> Connect(
      const std::string& path, std::chrono::milliseconds timeout);

  // Sends all of "frame" (header and payload); a descriptor "fd" (-1: none) travels with its first
  // byte and stays the caller's.  A timeout is final too: part of the frame may be out.
  [[nodiscard]] Status Send(ByteView frame, int fd, std::chrono::milliseconds timeout);

  // The payload of the next frame.  The view lives until the next Receive.  A kTimeout leaves the
  // stream as it was: call again.
  [[nodiscard]] Result<ByteView> Receive(std::chrono::milliseconds timeout);

  // The descriptor that came with the frame that Receive gave last.  kCorruption where none did.
  // One that nobody takes is closed, and the next Receive fails: the sides disagree about the
  // protocol.
  [[nodiscard]] Result<OwnedFd> TakeFd();

  // Descriptors that came and that TakeFd has not given: their frames may not be whole yet.  They
  // stay this object's; at most kMaxArrived.  Of the receiving thread.
  [[nodiscard]] std::vector<int> Arrived() const;

  // Waits until Receive has something to look at, which may be less than a frame.
  [[nodiscard]] Status WaitReadable(std::chrono::milliseconds timeout);

  // Ends both directions; waits in Send and Receive return kUnavailable.  Safe in any thread.
  void Shutdown();

  [[nodiscard]] int NativeHandle() const { return socket_.Get(); }

 private:
  // The kernel ends a read behind the bytes that a descriptor came with, but joins bytes sent
  // before them: the frame that it belongs to starts somewhere in [begin, end) of the stream.
  struct ArrivedFd {
    OwnedFd fd;
    std::uint64_t begin;
    std::uint64_t end;
  };

  [[nodiscard]] Status WaitFor(short events, MonotonicTime deadline, const char* what);
  [[nodiscard]] Status ReadSome();
  [[nodiscard]] Status KeepArrived(msghdr* message, std::uint64_t begin, std::uint64_t end);

  const OwnedFd socket_;
  std::atomic<bool> send_broken_{false};
  // Of the receiving thread.
  FrameDecoder decoder_;
  std::uint64_t frame_begin_ = 0;  // stream position of the frame given last
  std::deque<ArrivedFd> arrived_;
};

}  // namespace holdfast::transport
