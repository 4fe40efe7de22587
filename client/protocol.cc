#include "client/protocol.h"

#include <algorithm>

#include "client/version.h"

namespace holdfast::client {

proto::HelloRequest MakeHello(const std::string& program) {
  proto::HelloRequest hello;
  hello.set_protocol_version(kProtocolVersion);
  hello.set_software_version(kVersion);
  hello.set_program(program);
  return hello;
}

Status CheckHello(const proto::ServerMessage& reply) {
  if (!reply.has_hello()) {
    return Error(Errc::kCorruption, "holdfastd answered the hello with something else");
  }
  if (reply.hello().protocol_version() != kProtocolVersion) {
    return Error(Errc::kVersionMismatch,
                 "holdfastd " + reply.hello().software_version() + " speaks protocol " +
                     std::to_string(reply.hello().protocol_version()) + ", this library (" +
                     kVersion + ") " + std::to_string(kProtocolVersion) +
                     ": install the same release of both");
  }
  return Ok();
}

Error DaemonError(const proto::ErrorReply& reply) {
  return Error(ErrcOf(reply.code()), reply.message());
}

std::chrono::milliseconds TimeLeft(MonotonicTime deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - SystemClock().Now());
  return std::max(left, std::chrono::milliseconds(0));
}

}  // namespace holdfast::client
