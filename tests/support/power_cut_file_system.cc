#include "tests/support/power_cut_file_system.h"

#include <algorithm>
#include <cerrno>
#include <set>
#include <utility>

#include "tests/support/power_cut_node.h"

namespace holdfast::testing {

using storage_tiers::File;
using storage_tiers::FileInfo;
using storage_tiers::FileKind;
using storage_tiers::FolderEntry;

namespace {

Status Fail(int error_number, const std::string& what) {
  return ErrnoError(error_number, what);
}

void LosePowerBelow(const std::shared_ptr<PowerCutNode>& node,
                    Coin& coin,
                    std::set<const PowerCutNode*>& seen) {
  if (!seen.insert(node.get()).second) {
    return;
  }
  node->LosePower(coin);
  for (const auto& [name, child] : node->names) {
    LosePowerBelow(child, coin, seen);
  }
}

std::string NameOf(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

}  // namespace

class PowerCutFile final : public File {
 public:
  PowerCutFile(PowerCutFileSystem& fs, std::shared_ptr<PowerCutNode> node, bool writable)
      : fs_(fs), node_(std::move(node)), boot_(fs.boot_), writable_(writable) {}

  Status WriteAt(ByteCount offset, ByteView bytes) override {
    return Change([&] { node_->Apply(DataChange{false, offset, std::string(AsText(bytes))}); });
  }

  Status ReadAt(ByteCount offset, MutableByteView out) override {
    const std::lock_guard lock(fs_.mu_);
    HF_TRYV(CheckAlive());
    if (offset > node_->data.size() || out.size() > node_->data.size() - offset) {
      return Error(Errc::kCorruption, "file ends early");
    }
    std::copy_n(AsBytes(node_->data).begin() + static_cast<std::ptrdiff_t>(offset),
                out.size(),
                out.begin());
    return Ok();
  }

  Status Preallocate(ByteCount size) override {
    return Change([&] {
      if (size > node_->data.size()) {
        node_->Apply(DataChange{true, size, {}});
      }
    });
  }

  Status Truncate(ByteCount size) override {
    return Change([&] { node_->Apply(DataChange{true, size, {}}); });
  }

  Status Sync() override {
    return Change([&] { node_->SyncData(); });
  }

  Result<ByteCount> Size() override {
    const std::lock_guard lock(fs_.mu_);
    HF_TRYV(CheckAlive());
    return node_->data.size();
  }

 private:
  Status CheckAlive() const {
    HF_TRYV(fs_.CheckPower());
    return boot_ == fs_.boot_ ? Ok() : Fail(EIO, "file of an earlier boot");
  }

  template <class Act>
  Status Change(Act act) {
    const std::lock_guard lock(fs_.mu_);
    HF_TRYV(CheckAlive());
    if (!writable_) {
      return Fail(EBADF, "file is open for reading");
    }
    HF_TRYV(fs_.Step());
    act();
    return Ok();
  }

  PowerCutFileSystem& fs_;
  const std::shared_ptr<PowerCutNode> node_;
  const std::uint64_t boot_;
  const bool writable_;
};

PowerCutFileSystem::PowerCutFileSystem() : root_(std::make_shared<PowerCutNode>()) {
  root_->kind = FileKind::kFolder;
}

PowerCutFileSystem::~PowerCutFileSystem() = default;

void PowerCutFileSystem::CutAfter(std::uint64_t steps) {
  const std::lock_guard lock(mu_);
  cut_after_ = steps_ + steps;
}

void PowerCutFileSystem::Restore(std::uint64_t seed) {
  const std::lock_guard lock(mu_);
  Coin coin(seed);
  std::set<const PowerCutNode*> seen;
  LosePowerBelow(root_, coin, seen);
  ++boot_;
  steps_ = 0;
  cut_after_ = ~std::uint64_t{0};
  off_ = false;
}

bool PowerCutFileSystem::power_is_off() const {
  const std::lock_guard lock(mu_);
  return off_;
}

std::uint64_t PowerCutFileSystem::steps() const {
  const std::lock_guard lock(mu_);
  return steps_;
}

Status PowerCutFileSystem::FlipBit(const std::string& path, ByteCount byte, int bit) {
  const std::lock_guard lock(mu_);
  HF_TRY(const auto node, Find(path));
  for (std::string* data : {&node->data, &node->durable_data}) {
    if (byte >= data->size()) {
      return Fail(EINVAL, "no such byte in " + path);
    }
    (*data)[byte] = static_cast<char>((*data)[byte] ^ (1 << bit));
  }
  return Ok();
}

Status PowerCutFileSystem::CheckPower() const {
  return off_ ? Fail(EIO, "the power is off") : Ok();
}

Status PowerCutFileSystem::Step() {
  HF_TRYV(CheckPower());
  if (steps_ >= cut_after_) {
    off_ = true;
    return Fail(EIO, "the power went off");
  }
  ++steps_;
  return Ok();
}

Result<std::shared_ptr<PowerCutNode>> PowerCutFileSystem::Find(const std::string& path) const {
  HF_TRYV(CheckPower());
  std::shared_ptr<PowerCutNode> node = root_;
  for (std::size_t at = 0; at < path.size();) {
    const std::size_t slash = std::min(path.find('/', at), path.size());
    const std::string name = path.substr(at, slash - at);
    at = slash + 1;
    if (name.empty()) {
      continue;
    }
    const auto found = node->names.find(name);
    if (found == node->names.end()) {
      return ErrnoError(node->kind == FileKind::kFolder ? ENOENT : ENOTDIR, "find " + path);
    }
    node = found->second;
  }
  return node;
}

Result<std::shared_ptr<PowerCutNode>> PowerCutFileSystem::FindFolder(
    const std::string& path) const {
  HF_TRY(auto node, Find(path));
  if (node->kind != FileKind::kFolder) {
    return ErrnoError(ENOTDIR, "folder " + path);
  }
  return node;
}

Status PowerCutFileSystem::AddName(const std::string& path, std::shared_ptr<PowerCutNode> node) {
  HF_TRY(const auto folder, FindFolder(storage_tiers::ParentFolder(path)));
  if (folder->names.contains(NameOf(path))) {
    return Fail(EEXIST, "create " + path);
  }
  HF_TRYV(Step());
  folder->Apply(NameChange{"", NameOf(path), std::move(node)});
  return Ok();
}

Result<std::unique_ptr<File>> PowerCutFileSystem::OpenForWrite(const std::string& path) {
  const std::lock_guard lock(mu_);
  auto node = std::make_shared<PowerCutNode>();
  HF_TRYV(AddName(path, node));
  return std::make_unique<PowerCutFile>(*this, std::move(node), true);
}

Result<std::unique_ptr<File>> PowerCutFileSystem::OpenForRead(const std::string& path) {
  const std::lock_guard lock(mu_);
  HF_TRY(auto node, Find(path));
  if (node->kind != FileKind::kFile) {
    return ErrnoError(EISDIR, "open " + path);
  }
  return std::make_unique<PowerCutFile>(*this, std::move(node), false);
}

Result<std::vector<FolderEntry>> PowerCutFileSystem::List(const std::string& path) {
  const std::lock_guard lock(mu_);
  HF_TRY(const auto folder, FindFolder(path));
  std::vector<FolderEntry> entries;
  for (const auto& [name, node] : folder->names) {
    entries.push_back({name, node->kind});
  }
  return entries;
}

Result<FileInfo> PowerCutFileSystem::Stat(const std::string& path) {
  const std::lock_guard lock(mu_);
  HF_TRY(const auto node, Find(path));
  return FileInfo{node->kind, node->data.size()};
}

Status PowerCutFileSystem::CreateFolder(const std::string& path) {
  const std::lock_guard lock(mu_);
  auto node = std::make_shared<PowerCutNode>();
  node->kind = FileKind::kFolder;
  return AddName(path, std::move(node));
}

Status PowerCutFileSystem::Rename(const std::string& from, const std::string& to) {
  const std::lock_guard lock(mu_);
  HF_TRY(const auto folder, FindFolder(storage_tiers::ParentFolder(from)));
  HF_TRY(const auto target_folder, FindFolder(storage_tiers::ParentFolder(to)));
  if (folder != target_folder) {
    return Fail(EXDEV, "this file system renames within one folder only: " + from);
  }
  const auto found = folder->names.find(NameOf(from));
  if (found == folder->names.end()) {
    return Fail(ENOENT, "rename " + from);
  }
  const auto taken = folder->names.find(NameOf(to));
  if (taken != folder->names.end()) {
    if (taken->second->kind != found->second->kind) {
      return Fail(found->second->kind == FileKind::kFolder ? ENOTDIR : EISDIR, "rename " + from);
    }
    if (!taken->second->names.empty()) {
      return Fail(ENOTEMPTY, "rename " + from + " to " + to);
    }
  }
  HF_TRYV(Step());
  folder->Apply(NameChange{NameOf(from), NameOf(to), found->second});
  return Ok();
}

Status PowerCutFileSystem::Link(const std::string& from, const std::string& to) {
  const std::lock_guard lock(mu_);
  HF_TRY(auto node, Find(from));
  if (node->kind != FileKind::kFile) {
    return Fail(EPERM, "link " + from);
  }
  return AddName(to, std::move(node));
}

Status PowerCutFileSystem::Unlink(const std::string& path) {
  const std::lock_guard lock(mu_);
  HF_TRY(const auto node, Find(path));
  if (node->kind == FileKind::kFolder) {
    return Fail(EISDIR, "unlink " + path);
  }
  HF_TRYV(Step());
  HF_TRY(const auto folder, FindFolder(storage_tiers::ParentFolder(path)));
  folder->Apply(NameChange{NameOf(path), "", nullptr});
  return Ok();
}

Status PowerCutFileSystem::RemoveFolder(const std::string& path) {
  const std::lock_guard lock(mu_);
  HF_TRY(const auto node, FindFolder(path));
  if (!node->names.empty()) {
    return Fail(ENOTEMPTY, "remove folder " + path);
  }
  HF_TRYV(Step());
  HF_TRY(const auto folder, FindFolder(storage_tiers::ParentFolder(path)));
  folder->Apply(NameChange{NameOf(path), "", nullptr});
  return Ok();
}

Status PowerCutFileSystem::SyncFolder(const std::string& path) {
  const std::lock_guard lock(mu_);
  HF_TRY(const auto folder, FindFolder(path));
  HF_TRYV(Step());
  folder->SyncNames();
  return Ok();
}

Result<ByteCount> PowerCutFileSystem::FreeSpace(const std::string&) {
  const std::lock_guard lock(mu_);
  HF_TRYV(CheckPower());
  return 1 * kGiB;
}

}  // namespace holdfast::testing
