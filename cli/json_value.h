// Private to the renderers: nlohmann-json values of the things that many documents have.
//
// Threads: any thread; pure.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "cli/source.h"
#include "proto/manifest.pb.h"

namespace holdfast::cli {

// Keys stay in the order in which the documentation lists them.
using Json = nlohmann::ordered_json;

[[nodiscard]] std::string JsonText(const Json& document);

[[nodiscard]] Json IdJson(const std::string& job, const proto::SnapshotId& id);

// As `ls` shows it.
[[nodiscard]] Json SnapshotJson(const proto::SnapshotInfo& snapshot);

[[nodiscard]] Json ProblemsJson(const std::vector<Problem>& problems);

[[nodiscard]] std::string UidText(const std::string& uid);

}  // namespace holdfast::cli
