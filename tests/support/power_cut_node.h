// What PowerCutFileSystem keeps of a file or folder: its state, its durable state, and the changes
// between the two in order.
//
// Threads: none of its own; PowerCutFileSystem's mutex guards all nodes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/units.h"
#include "storage_tiers/file_system.h"

namespace holdfast::testing {

struct PowerCutNode;

// What a disk writes whole or not at all.
inline constexpr std::size_t kSectorBytes = 512;

// Chooses what survives.  SplitMix64: the same on every machine, so a failing seed can be repeated.
// Seeds 0 and 1 are fixed answers: none, all.
class Coin {
 public:
  explicit Coin(std::uint64_t seed) : seed_(seed), state_(seed) {}

  bool Survives() {
    if (seed_ == kNothingSurvives) {
      return false;
    }
    if (seed_ == kAllSurvives) {
      return true;
    }
    state_ += 0x9e3779b97f4a7c15;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return ((z ^ (z >> 31)) & 1) != 0;
  }

 private:
  static constexpr std::uint64_t kNothingSurvives = 0;
  static constexpr std::uint64_t kAllSurvives = 1;

  const std::uint64_t seed_;
  std::uint64_t state_;
};

struct DataChange {
  bool is_size = false;
  ByteCount offset = 0;  // or the new size
  std::string bytes;
};

inline void PutBytes(std::string& data, ByteCount offset, std::string_view bytes) {
  if (data.size() < offset + bytes.size()) {
    data.resize(offset + bytes.size());
  }
  std::copy(bytes.begin(), bytes.end(), data.begin() + static_cast<std::ptrdiff_t>(offset));
}

// A name that was added (node, to), removed (from), or moved (from, node, to).
struct NameChange {
  std::string from;
  std::string to;
  std::shared_ptr<PowerCutNode> node;
};

// A file or folder beside its durable form, and the changes between the two in order.
struct PowerCutNode {
  storage_tiers::FileKind kind = storage_tiers::FileKind::kFile;
  std::string data;
  std::string durable_data;
  std::vector<DataChange> data_changes;
  std::map<std::string, std::shared_ptr<PowerCutNode>> names;
  std::map<std::string, std::shared_ptr<PowerCutNode>> durable_names;
  std::vector<NameChange> name_changes;

  void Apply(NameChange change) {
    ApplyTo(names, change);
    name_changes.push_back(std::move(change));
  }

  void Apply(DataChange change) {
    if (change.is_size) {
      data.resize(change.offset);
    } else {
      PutBytes(data, change.offset, change.bytes);
    }
    data_changes.push_back(std::move(change));
  }

  void SyncData() {
    durable_data = data;
    data_changes.clear();
  }

  void SyncNames() {
    durable_names = names;
    name_changes.clear();
  }

  void LosePower(Coin& coin) {
    for (const DataChange& change : data_changes) {
      if (change.is_size) {
        if (coin.Survives()) {
          durable_data.resize(change.offset);
        }
        continue;
      }
      for (std::size_t at = 0; at < change.bytes.size();) {
        const std::size_t rest_of_sector = kSectorBytes - (change.offset + at) % kSectorBytes;
        const std::size_t length = std::min(rest_of_sector, change.bytes.size() - at);
        if (coin.Survives()) {
          PutBytes(
              durable_data, change.offset + at, std::string_view(change.bytes).substr(at, length));
        }
        at += length;
      }
    }
    for (const NameChange& change : name_changes) {
      if (coin.Survives()) {
        ApplyTo(durable_names, change);
      }
    }
    data = durable_data;
    names = durable_names;
    data_changes.clear();
    name_changes.clear();
  }

 private:
  static void ApplyTo(std::map<std::string, std::shared_ptr<PowerCutNode>>& map,
                      const NameChange& change) {
    if (!change.from.empty()) {
      map.erase(change.from);
    }
    if (!change.to.empty()) {
      map[change.to] = change.node;
    }
  }
};

}  // namespace holdfast::testing
