// Ids of the job that the tests of output show.
#pragma once

#include <cstdint>
#include <string>

#include "proto/manifest.pb.h"

namespace holdfast::cli {

inline proto::SnapshotId Id(std::uint64_t incarnation, std::int64_t step) {
  proto::SnapshotId id;
  id.set_job_uid(std::string(16, '\x11'));
  id.set_incarnation(incarnation);
  id.set_step(step);
  return id;
}

}  // namespace holdfast::cli
