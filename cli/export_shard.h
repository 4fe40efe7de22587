// Writes one shard as plain files that need no Holdfast to be read.
//
//   <to>/rank-00000.safetensors         the image: already a safetensors file
//   <to>/rank-00000.static.safetensors  frozen tensors, where the shard has any
//   <to>/rank-00000.state.json          non-tensor state, aliases, true types, digests' outcome
//
// Files get their names only when all bytes of the shard were checked and synced, by links that
// never replace: whatever happens, a name in the folder is a whole and good file, and a shard of
// which an image is bad leaves none.
//
// Threads:   one thread; reading uses more inside.
// Ownership: borrows everything for the call.
// Errors:    kAlreadyExists for a file that is there (looked at before anything is read);
//            kCorruption with the tensors that are touched; kCancelled; else the failed call's.
//            Temporary files are removed after every error.
// Durability: after Ok files and names survive a power cut.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/progress.h"
#include "cli/source.h"
#include "common/result.h"
#include "storage_tiers/file_system.h"

namespace holdfast::cli {

struct ExportedFile {
  std::string path;
  ByteCount bytes = 0;
};

// kAlreadyExists if any file of the rank is in "folder".
[[nodiscard]] Status RefuseExported(storage_tiers::FileSystem& fs,
                                    const std::string& folder,
                                    std::uint32_t rank);

[[nodiscard]] Result<std::vector<ExportedFile>> ExportShard(storage_tiers::FileSystem& fs,
                                                            const OpenedShard& shard,
                                                            const std::string& folder,
                                                            Progress* progress);

// The content of the state file.  JSON values stand in it as they are, pickles in hexadecimal.
[[nodiscard]] std::string StateDocument(const proto::Sidecar& sidecar);

}  // namespace holdfast::cli
