// Slot memory without memory: each file is one value, so that a test can see who wrote last.
//
// Models what the real arena promises and what it cannot prevent: a file outlives the daemon, a
// mapping outlives the file's name, and a copy queued by a dead client may still land.
//
// Threads:   one.
// Ownership: value type.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "daemon/core/ids.h"
#include "proto/manifest.pb.h"

namespace holdfast::daemon {

class FakeArena {
 public:
  void Create(SlotRef ref) { files_[ref]; }

  void Remove(SlotRef ref) { files_.erase(ref); }

  bool Exists(SlotRef ref) const { return files_.contains(ref); }

  // A write to a file whose name is gone goes to nobody's memory.
  void Write(SlotRef ref, std::string content);
  std::string Content(SlotRef ref) const;

  // A client changed the file's length.
  void Cut(SlotRef ref) { cut_.insert(ref); }

  bool IsCut(SlotRef ref) const { return cut_.contains(ref); }

  void Map(SlotRef ref, std::int32_t pid) { mapped_[ref].insert(pid); }

  void Unmap(SlotRef ref, std::int32_t pid);
  void UnmapAll(std::int32_t pid);

  void UnmapAllBut(const std::set<std::int32_t>& living);

  bool Mapped(SlotRef ref) const { return mapped_.contains(ref); }

  // What a start does: files that no record names are removed.
  void KeepOnly(const std::set<SlotRef>& named);

  static std::vector<std::uint32_t> Digests(const std::string& content, std::uint64_t image_bytes);
  static bool Matches(const std::string& content, const proto::ImageDigest& image);

 private:
  std::map<SlotRef, std::string> files_;
  std::set<SlotRef> cut_;
  std::map<SlotRef, std::set<std::int32_t>> mapped_;
};

std::string ToText(SlotRef ref);

}  // namespace holdfast::daemon
