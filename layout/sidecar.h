// The sidecar: what is needed to trust and place an image, and its file, "rank-00000.meta".
//
// An image without its sidecar is bytes that nobody can vouch for: the sidecar has the digests, the
// true types, the parts and the snapshot id.  It is framed with a length and a CRC32C of its own
// (docs/format/sidecar.md) so that a cut or flipped file is never half believed.
//
// Threads:   any thread; pure functions.
// Ownership: values in, values out; views are not kept.
// Errors:    ValidateSidecar: kInvalidArgument.  Encoding: kInvalidArgument, for what a reader
// would
//            refuse is never written.  Decoding: kVersionMismatch for a file of newer software,
//            kCorruption for everything else; any input, also a hostile one, ends in one of them.
#pragma once

#include <cstdint>
#include <string>

#include "common/bytes.h"
#include "common/result.h"
#include "common/units.h"
#include "layout/names.h"
#include "proto/manifest.pb.h"

namespace holdfast::layout {

inline constexpr std::uint32_t kSidecarFormatVersion = 1;
// All non-tensor state of a rank; more travels as a tensor.
inline constexpr ByteCount kMaxStateBytes = 16 * kMiB;
inline constexpr int kMaxStateItems = 4096;
// Of a .meta file: a million tensors need about 250 MiB.
inline constexpr ByteCount kMaxSidecarFileBytes = 512 * kMiB;

// That a sidecar is one that Holdfast writes: complete ids, rank below world size, a valid layout
// that its hash names (where the layout is there: the catalog keeps it apart), one digest for each
// chunk of each image, bounded state.  What only bytes can tell, whether the digests are those of
// the image, is the reader's to check (I5).
[[nodiscard]] Status ValidateSidecar(const proto::Sidecar& sidecar);

// That "layout", which a sidecar without one refers to, is the right one: valid, of the hash and
// with the image lengths that the sidecar names.
[[nodiscard]] Status ValidateLayoutOfSidecar(const proto::Layout& layout,
                                             const proto::Sidecar& sidecar);

// The last of these alone, for a layout that was validated when it came and is known by its hash.
[[nodiscard]] Status CheckImagesAgainst(const proto::Layout& layout, const proto::Sidecar& sidecar);

// The message alone, from bytes of somebody else, which cannot make it take much more memory than
// they have: kCorruption.  Not validated.
[[nodiscard]] Result<proto::Sidecar> ParseSidecar(ByteView payload);

// The content of a .meta file.  The sidecar must have its layout.  Deterministic for one build of
// Holdfast; readers must not rely on equal bytes of equal sidecars across versions.
[[nodiscard]] Result<std::string> EncodeSidecarFile(const proto::Sidecar& sidecar);

// Reads the content of a .meta file; what is returned has passed ValidateSidecar and has a layout.
[[nodiscard]] Result<proto::Sidecar> DecodeSidecarFile(ByteView file);

}  // namespace holdfast::layout
