// Names in a job's folder that layout/names.h does not give.
//
// Threads: any; constants.
#pragma once

#include <string_view>

namespace holdfast::storage_tiers {

inline constexpr std::string_view kJobFileName = "job.json";
inline constexpr std::string_view kIncarnationsFolderName = "incarnations";
inline constexpr std::string_view kIncarnationSuffix = ".json";
inline constexpr std::string_view kManifestFileName = "manifest.json";
inline constexpr std::string_view kLatestFileName = "LATEST";

// A snapshot whose deletion has begun: prefix and the folder's name.
inline constexpr std::string_view kTrashPrefix = ".trash-";

}  // namespace holdfast::storage_tiers
