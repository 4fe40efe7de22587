// Reports and commands of the core as messages between daemons, and back.
//
// The core's values travel whole: what goes in comes out equal (a test walks all fields).  What
// comes from a peer is checked here for what the core takes for granted: known states, sane ids,
// nothing twice that the core keeps once.
//
// Threads:   any thread; pure functions.
// Errors:    kInvalidArgument names what cannot be; nothing was changed.
#pragma once

#include <string>

#include "common/result.h"
#include "daemon/core/ids.h"
#include "daemon/core/messages.h"
#include "proto/peer.pb.h"

namespace holdfast::daemon {

[[nodiscard]] proto::ReportRequest ToProto(const JobUid& job,
                                           const std::string& job_name,
                                           const Report& report);
[[nodiscard]] proto::CommandRequest ToProto(const JobUid& job,
                                            const std::string& job_name,
                                            const Command& command);

[[nodiscard]] Result<Report> FromProto(const proto::PeerReport& message);
[[nodiscard]] Result<Command> FromProto(const proto::PeerCommand& message);

}  // namespace holdfast::daemon
