// `holdfast status`: a daemon's StatusReply for people and for scripts.
//
// Threads: any thread; pure: the same reply gives the same text.
#pragma once

#include <string>

#include "proto/client.pb.h"

namespace holdfast::cli {

[[nodiscard]] std::string StatusText(const proto::StatusReply& status);
[[nodiscard]] std::string StatusJson(const proto::StatusReply& status);

}  // namespace holdfast::cli
