#include "storage_tiers/file_system_verify.h"

#include <algorithm>

#include "common/crc32c.h"
#include "common/units.h"

namespace holdfast::storage_tiers {

namespace {

Status CheckCount(const std::string& path, ByteCount bytes, std::size_t digests) {
  if (ChunkCount(bytes) != digests) {
    return Error(Errc::kInvalidArgument,
                 path + ": " + std::to_string(digests) + " chunk digests for " +
                     std::to_string(bytes) + " bytes, " + std::to_string(ChunkCount(bytes)) +
                     " needed");
  }
  return Ok();
}

// Calls found(chunk) for each chunk of the block that does not match.  Blocks start at multiples of
// a chunk (ValidateImageIoOptions).
template <class Found>
void CheckBlock(ByteCount offset,
                ByteView block,
                std::span<const std::uint32_t> digests,
                Found found) {
  for (ByteCount at = 0; at < block.size(); at += kChunkBytes) {
    const std::uint64_t chunk = (offset + at) / kChunkBytes;
    const ByteCount length = std::min<ByteCount>(kChunkBytes, block.size() - at);
    if (Crc32c(0, block.subspan(at, length)) != digests[chunk]) {
      found(chunk);
    }
  }
}

std::string Describe(const std::vector<std::uint64_t>& chunks) {
  constexpr std::size_t kNamed = 8;
  std::string text;
  for (std::size_t i = 0; i < std::min(kNamed, chunks.size()); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(chunks[i]);
  }
  if (chunks.size() > kNamed) {
    text += ", ... (" + std::to_string(chunks.size()) + " in all)";
  }
  return text;
}

}  // namespace

Status VerifyingWrite(FileSystem& fs,
                      const std::string& path,
                      ByteView image,
                      std::span<const std::uint32_t> digests,
                      const ImageIoOptions& options) {
  HF_TRYV(CheckCount(path, image.size(), digests.size()));
  ImageIoOptions checked = options;
  checked.inspect = [&](ByteCount offset, ByteView block) -> Status {
    std::vector<std::uint64_t> bad;
    CheckBlock(offset, block, digests, [&](std::uint64_t chunk) { bad.push_back(chunk); });
    if (!bad.empty()) {
      return Error(Errc::kCorruption,
                   path +
                       ": not written, the image in memory does not match its digests in chunks " +
                       Describe(bad) + "; use another source of this shard");
    }
    return options.inspect ? options.inspect(offset, block) : Ok();
  };
  return fs.WriteImage(path, image, checked);
}

Status VerifyingRead(FileSystem& fs,
                     const std::string& path,
                     MutableByteView destination,
                     std::span<const std::uint32_t> digests,
                     const ImageIoOptions& options,
                     std::vector<std::uint64_t>* bad_chunks) {
  bad_chunks->clear();
  HF_TRYV(CheckCount(path, destination.size(), digests.size()));
  ImageIoOptions checked = options;
  checked.inspect = [&](ByteCount offset, ByteView block) -> Status {
    CheckBlock(offset, block, digests, [&](std::uint64_t chunk) { bad_chunks->push_back(chunk); });
    return options.inspect ? options.inspect(offset, block) : Ok();
  };
  HF_TRYV(fs.ReadImage(path, destination, checked));
  std::sort(bad_chunks->begin(), bad_chunks->end());
  if (!bad_chunks->empty()) {
    return Error(Errc::kCorruption,
                 path + ": digest mismatch in chunks " + Describe(*bad_chunks) +
                     " of 1 MiB; use another source for these bytes");
  }
  return Ok();
}

}  // namespace holdfast::storage_tiers
