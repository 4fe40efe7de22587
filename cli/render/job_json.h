// Private to the renderers of `status`: a job as both of its documents have it.
//
// Threads: any thread; pure.
#pragma once

#include "cli/json_value.h"
#include "proto/client.pb.h"

namespace holdfast::cli {

[[nodiscard]] Json JobJson(const proto::JobStatus& job);

}  // namespace holdfast::cli
