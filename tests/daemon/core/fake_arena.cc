#include "tests/daemon/core/fake_arena.h"

#include <utility>

#include "common/bytes.h"
#include "common/crc32c.h"

namespace holdfast::daemon {

void FakeArena::Write(SlotRef ref, std::string content) {
  if (const auto it = files_.find(ref); it != files_.end()) {
    it->second = std::move(content);
  }
}

std::string FakeArena::Content(SlotRef ref) const {
  const auto it = files_.find(ref);
  return it == files_.end() ? "no file" : it->second;
}

void FakeArena::Unmap(SlotRef ref, std::int32_t pid) {
  const auto it = mapped_.find(ref);
  if (it == mapped_.end()) {
    return;
  }
  it->second.erase(pid);
  if (it->second.empty()) {
    mapped_.erase(it);
  }
}

void FakeArena::UnmapAll(std::int32_t pid) {
  for (auto it = mapped_.begin(); it != mapped_.end();) {
    it->second.erase(pid);
    it = it->second.empty() ? mapped_.erase(it) : std::next(it);
  }
}

void FakeArena::UnmapAllBut(const std::set<std::int32_t>& living) {
  for (auto& [ref, pids] : mapped_) {
    std::erase_if(pids, [&](std::int32_t pid) { return !living.contains(pid); });
  }
  std::erase_if(mapped_, [](const auto& mapping) { return mapping.second.empty(); });
}

void FakeArena::KeepOnly(const std::set<SlotRef>& named) {
  std::erase_if(files_, [&](const auto& file) { return !named.contains(file.first); });
}

std::vector<std::uint32_t> FakeArena::Digests(const std::string& content,
                                              std::uint64_t image_bytes) {
  std::vector<std::uint32_t> digests;
  for (std::uint64_t chunk = 0; chunk < ChunkCount(image_bytes); ++chunk) {
    digests.push_back(Crc32c(static_cast<std::uint32_t>(chunk + 1), AsBytes(content)));
  }
  return digests;
}

bool FakeArena::Matches(const std::string& content, const proto::ImageDigest& image) {
  const auto digests = Digests(content, image.length_bytes());
  return std::equal(
      digests.begin(), digests.end(), image.chunk_crc32c().begin(), image.chunk_crc32c().end());
}

std::string ToText(SlotRef ref) {
  return std::to_string(ref.slot) + "." + std::to_string(ref.generation);
}

}  // namespace holdfast::daemon
