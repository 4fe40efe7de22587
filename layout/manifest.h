// The JSON files of the persistent tier: manifest.json, job.json, incarnations/<N>.json.
//
// They are JSON so that an operator can read them with the daemon gone, and few, so that JSON costs
// nothing.  A manifest is the word that a snapshot is durable: whoever reads one acts on its paths,
// so a path is accepted only if it is the very one that names.h gives for its rank and snapshot.
//
// Threads:   any thread; pure functions.
// Ownership: values in, values out; views are not kept.
// Errors:    Validate*: kInvalidArgument.  Encode*: kInvalidArgument, for what a reader would
// refuse
//            is never written.  Decode*: kVersionMismatch for a file of newer software, kCorruption
//            for everything else; any input, also a hostile one, ends in one of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "common/bytes.h"
#include "common/result.h"
#include "common/units.h"
#include "layout/names.h"
#include "proto/manifest.pb.h"

namespace holdfast::layout {

// Of each of the three formats.
inline constexpr std::uint32_t kManifestFormatVersion = 1;
inline constexpr ByteCount kMaxManifestFileBytes = 64 * kMiB;
// job.json and incarnations/<N>.json; the latter has 24 characters for each member.
inline constexpr ByteCount kMaxSmallFileBytes = 16 * kMiB;

// I1: every rank of the world has exactly one dynamic image, in order of rank, each followed by at
// most one static image.  Paths are those of names.h in this snapshot's folder; a static image's
// may be in the folder of an older snapshot of the job, which owns it.  Lengths fit an image; both
// images of a rank name the same sidecar and layout.
[[nodiscard]] Status ValidateManifest(const proto::Manifest& manifest);
[[nodiscard]] Status ValidateJobFile(const proto::JobFile& job);
[[nodiscard]] Status ValidateIncarnationFile(const proto::IncarnationFile& incarnation);

// The content of manifest.json: indented, field names as in manifest.proto, fields with default
// values written out, one trailing newline.
[[nodiscard]] Result<std::string> EncodeManifest(const proto::Manifest& manifest);
[[nodiscard]] Result<std::string> EncodeJobFile(const proto::JobFile& job);
[[nodiscard]] Result<std::string> EncodeIncarnationFile(const proto::IncarnationFile& incarnation);

// Reads what Encode* wrote, or any JSON of the same meaning; unknown fields are ignored.  What is
// returned has passed its Validate*.
[[nodiscard]] Result<proto::Manifest> DecodeManifest(ByteView file);
[[nodiscard]] Result<proto::JobFile> DecodeJobFile(ByteView file);
[[nodiscard]] Result<proto::IncarnationFile> DecodeIncarnationFile(ByteView file);

}  // namespace holdfast::layout
