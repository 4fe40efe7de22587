// A client of the daemon that keeps to no rules: raw frames, any message at any time.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "common/bytes.h"
#include "transport/messages.h"
#include "transport/unix_socket.h"

namespace holdfast::tests {

inline constexpr std::chrono::milliseconds kLimit{20'000};

class RawClient {
 public:
  explicit RawClient(const std::string& path) {
    auto socket = transport::UnixSocket::Connect(path, kLimit);
    EXPECT_TRUE(socket.has_value());
    if (socket.has_value()) {
      socket_ = std::move(socket).value();
    }
  }

  bool SendBytes(std::string_view bytes) {
    return socket_->Send(AsBytes(bytes), -1, kLimit).has_value();
  }

  bool Send(proto::ClientMessage message) {
    message.set_request_id(next_id_++);
    const auto frame = transport::EncodeFrame(message);
    return frame.has_value() && SendBytes(frame.value());
  }

  // The next message, an empty one at the end of the connection.
  proto::ServerMessage Receive(std::chrono::milliseconds limit = kLimit) {
    const auto payload = socket_->Receive(limit);
    if (!payload.has_value()) {
      last_error = payload.error().code;
      return {};
    }
    auto message = transport::ParseServerMessage(payload.value());
    if (!message.has_value()) {
      return {};
    }
    if (transport::CarriesFd(message.value())) {
      auto fd = socket_->TakeFd();
      if (fd.has_value()) {
        fds.push_back(std::move(fd).value());
      }
    }
    return std::move(message).value();
  }

  // Skips events.
  proto::ServerMessage Call(proto::ClientMessage message) {
    const std::uint64_t id = next_id_;
    Send(std::move(message));
    for (;;) {
      proto::ServerMessage reply = Receive();
      if (reply.request_id() == id || reply.body_case() == proto::ServerMessage::BODY_NOT_SET) {
        return reply;
      }
      events.push_back(std::move(reply));
    }
  }

  void Hello(std::uint32_t version = 1) {
    proto::ClientMessage hello;
    hello.mutable_hello()->set_protocol_version(version);
    hello.mutable_hello()->set_program("test");
    const proto::ServerMessage reply = Call(std::move(hello));
    EXPECT_TRUE(reply.has_hello());
  }

  bool Ended() {
    (void)Receive();
    return last_error == Errc::kUnavailable;
  }

  std::vector<proto::ServerMessage> events;
  std::vector<transport::OwnedFd> fds;
  Errc last_error = Errc::kInternal;

 private:
  std::unique_ptr<transport::UnixSocket> socket_;
  std::uint64_t next_id_ = 1;
};

}  // namespace holdfast::tests
