#include "tests/support/rocksdb_power_cut.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>

namespace holdfast {

using rocksdb::DataVerificationInfo;
using rocksdb::DirFsyncOptions;
using rocksdb::FileOptions;
using rocksdb::FSDirectory;
using rocksdb::FSWritableFile;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

class PowerCutFile : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  PowerCutFile(std::unique_ptr<FSWritableFile> base,
               PowerCutFileSystem* owner,
               PowerCutFileSystem::InodeRef inode)
      : FSWritableFileOwnerWrapper(std::move(base)), owner_(owner), inode_(std::move(inode)) {}

  IOStatus Append(const Slice& data, const IOOptions& options, IODebugContext* debug) override {
    std::size_t room = 0;
    const IOStatus allowed = owner_->OnAppend(inode_, data, &room);
    const IOStatus written =
        FSWritableFileOwnerWrapper::Append(Slice(data.data(), room), options, debug);
    return allowed.ok() ? written : allowed;
  }

  IOStatus Append(const Slice& data,
                  const IOOptions& options,
                  const DataVerificationInfo& /*checksum*/,
                  IODebugContext* debug) override {
    return Append(data, options, debug);
  }

  // Direct I/O only, which the catalog does not use.
  IOStatus PositionedAppend(const Slice&,
                            std::uint64_t,
                            const IOOptions&,
                            IODebugContext*) override {
    return IOStatus::NotSupported("PositionedAppend");
  }

  IOStatus PositionedAppend(const Slice&,
                            std::uint64_t,
                            const IOOptions&,
                            const DataVerificationInfo&,
                            IODebugContext*) override {
    return IOStatus::NotSupported("PositionedAppend");
  }

  // The real file need not be synced: the model is what survives.
  IOStatus Sync(const IOOptions&, IODebugContext*) override { return owner_->OnSync(inode_); }

  IOStatus Fsync(const IOOptions&, IODebugContext*) override { return owner_->OnSync(inode_); }

  // A hint to start writing: no promise.
  IOStatus RangeSync(std::uint64_t, std::uint64_t, const IOOptions&, IODebugContext*) override {
    return IOStatus::OK();
  }

 private:
  PowerCutFileSystem* const owner_;
  const PowerCutFileSystem::InodeRef inode_;
};

class PowerCutDirectory : public rocksdb::FSDirectoryWrapper {
 public:
  PowerCutDirectory(std::unique_ptr<FSDirectory> base, PowerCutFileSystem* owner, std::string path)
      : FSDirectoryWrapper(std::move(base)), owner_(owner), path_(std::move(path)) {}

  IOStatus Fsync(const IOOptions&, IODebugContext*) override {
    return owner_->OnDirectorySync(path_);
  }

  IOStatus FsyncWithDirOptions(const IOOptions&, IODebugContext*, const DirFsyncOptions&) override {
    return owner_->OnDirectorySync(path_);
  }

 private:
  PowerCutFileSystem* const owner_;
  const std::string path_;
};

PowerCutFileSystem::PowerCutFileSystem() : FileSystemWrapper(rocksdb::FileSystem::Default()) {}

void PowerCutFileSystem::CutAfter(std::uint64_t step) {
  const std::lock_guard lock(mutex_);
  cut_after_ = steps_ + step;
}

bool PowerCutFileSystem::off() const {
  const std::lock_guard lock(mutex_);
  return cut_after_ != 0 && steps_ >= cut_after_;
}

std::uint64_t PowerCutFileSystem::steps() const {
  const std::lock_guard lock(mutex_);
  return steps_;
}

void PowerCutFileSystem::SetFull(bool full) {
  const std::lock_guard lock(mutex_);
  full_ = full;
}

void PowerCutFileSystem::SetSyncsFail(bool fail) {
  const std::lock_guard lock(mutex_);
  syncs_fail_ = fail;
}

std::string PowerCutFileSystem::FolderOf(const std::string& path) {
  return std::filesystem::path(path).lexically_normal().parent_path();
}

void PowerCutFileSystem::Perform(const NameChange& change, Names* names) {
  for (const auto& [path, inode] : change) {
    if (inode) {
      (*names)[path] = inode;
    } else {
      names->erase(path);
    }
  }
}

IOStatus PowerCutFileSystem::Step() {
  if (cut_after_ != 0 && steps_ >= cut_after_) {
    return IOStatus::IOError("the power is off");
  }
  ++steps_;
  return IOStatus::OK();
}

void PowerCutFileSystem::Record(NameChange change) {
  Perform(change, &live_);
  folders_[FolderOf(change.front().first)].unsynced.push_back(std::move(change));
}

IOStatus PowerCutFileSystem::OnAppend(const InodeRef& inode, const Slice& data, std::size_t* room) {
  const std::lock_guard lock(mutex_);
  *room = 0;
  if (IOStatus on = Step(); !on.ok()) {
    return on;
  }
  *room = full_ ? data.size() / 2 : data.size();
  inode->data.append(data.data(), *room);
  return full_ ? IOStatus::NoSpace("the disk is full") : IOStatus::OK();
}

IOStatus PowerCutFileSystem::OnSync(const InodeRef& inode) {
  const std::lock_guard lock(mutex_);
  if (IOStatus on = Step(); !on.ok()) {
    return on;
  }
  if (syncs_fail_) {
    return IOStatus::IOError("the disk does not sync");
  }
  inode->synced = inode->data.size();
  return IOStatus::OK();
}

IOStatus PowerCutFileSystem::OnDirectorySync(const std::string& folder) {
  const std::lock_guard lock(mutex_);
  if (IOStatus on = Step(); !on.ok()) {
    return on;
  }
  Folder& synced = folders_[folder];
  for (const NameChange& change : synced.unsynced) {
    Perform(change, &synced.durable);
  }
  synced.unsynced.clear();
  return IOStatus::OK();
}

IOStatus PowerCutFileSystem::NewWritableFile(const std::string& path,
                                             const FileOptions& options,
                                             std::unique_ptr<FSWritableFile>* result,
                                             IODebugContext* debug) {
  const auto inode = std::make_shared<Inode>();
  {
    const std::lock_guard lock(mutex_);
    if (IOStatus on = Step(); !on.ok()) {
      return on;
    }
    Record({{path, inode}});
  }
  std::unique_ptr<FSWritableFile> base;
  IOStatus opened = FileSystemWrapper::NewWritableFile(path, options, &base, debug);
  if (opened.ok()) {
    *result = std::make_unique<PowerCutFile>(std::move(base), this, inode);
  }
  return opened;
}

IOStatus PowerCutFileSystem::ReopenWritableFile(const std::string& path,
                                                const FileOptions& options,
                                                std::unique_ptr<FSWritableFile>* result,
                                                IODebugContext* debug) {
  InodeRef inode;
  {
    const std::lock_guard lock(mutex_);
    if (IOStatus on = Step(); !on.ok()) {
      return on;
    }
    const auto known = live_.find(path);
    inode = known != live_.end() ? known->second : std::make_shared<Inode>();
    if (known == live_.end()) {
      Record({{path, inode}});
    }
  }
  std::unique_ptr<FSWritableFile> base;
  IOStatus opened = FileSystemWrapper::ReopenWritableFile(path, options, &base, debug);
  if (opened.ok()) {
    *result = std::make_unique<PowerCutFile>(std::move(base), this, inode);
  }
  return opened;
}

IOStatus PowerCutFileSystem::ReuseWritableFile(const std::string&,
                                               const std::string&,
                                               const FileOptions&,
                                               std::unique_ptr<FSWritableFile>*,
                                               IODebugContext*) {
  return IOStatus::NotSupported("the catalog does not recycle logs");
}

IOStatus PowerCutFileSystem::NewDirectory(const std::string& path,
                                          const IOOptions& options,
                                          std::unique_ptr<FSDirectory>* result,
                                          IODebugContext* debug) {
  std::unique_ptr<FSDirectory> base;
  IOStatus opened = FileSystemWrapper::NewDirectory(path, options, &base, debug);
  if (opened.ok()) {
    *result = std::make_unique<PowerCutDirectory>(std::move(base), this, FolderOf(path + "/x"));
  }
  return opened;
}

IOStatus PowerCutFileSystem::DeleteFile(const std::string& path,
                                        const IOOptions& options,
                                        IODebugContext* debug) {
  {
    const std::lock_guard lock(mutex_);
    if (IOStatus on = Step(); !on.ok()) {
      return on;
    }
    if (live_.contains(path)) {
      Record({{path, nullptr}});
    }
  }
  return FileSystemWrapper::DeleteFile(path, options, debug);
}

IOStatus PowerCutFileSystem::Truncate(const std::string&,
                                      std::size_t,
                                      const IOOptions&,
                                      IODebugContext*) {
  return IOStatus::NotSupported("RocksDB's files only grow");
}

IOStatus PowerCutFileSystem::RenameFile(const std::string& from,
                                        const std::string& to,
                                        const IOOptions& options,
                                        IODebugContext* debug) {
  {
    const std::lock_guard lock(mutex_);
    if (IOStatus on = Step(); !on.ok()) {
      return on;
    }
    // RocksDB's own LOG is no file of ours.
    if (const auto known = live_.find(from); known != live_.end()) {
      const InodeRef inode = known->second;
      Record({{from, nullptr}, {to, inode}});
    }
  }
  return FileSystemWrapper::RenameFile(from, to, options, debug);
}

IOStatus PowerCutFileSystem::LinkFile(const std::string&,
                                      const std::string&,
                                      const IOOptions&,
                                      IODebugContext*) {
  return IOStatus::NotSupported("the catalog makes no links");
}

void PowerCutFileSystem::WriteDisk(const std::string& from,
                                   const std::string& to,
                                   std::uint64_t seed) const {
  const std::lock_guard lock(mutex_);
  std::mt19937_64 random(seed);
  const auto up_to = [&random](std::size_t most) {
    return std::uniform_int_distribution<std::size_t>(0, most)(random);
  };
  std::filesystem::create_directories(to);
  const auto known = folders_.find(FolderOf(from + "/x"));
  if (known == folders_.end()) {
    return;
  }
  const Folder& folder = known->second;
  Names names = folder.durable;
  const std::size_t survivors = seed == 0 ? 0 : up_to(folder.unsynced.size());
  for (std::size_t i = 0; i < survivors; ++i) {
    Perform(folder.unsynced[i], &names);
  }
  for (const auto& [path, inode] : names) {
    const std::size_t doubtful = inode->data.size() - inode->synced;
    const bool any = seed != 0 && up_to(3) != 0;
    const std::size_t kept = inode->synced + (any ? up_to(doubtful) : 0);
    std::ofstream file(to + "/" + std::filesystem::path(path).filename().string(),
                       std::ios::binary);
    file.write(inode->data.data(), static_cast<std::streamsize>(kept));
    // At times the length was written, and none of the data.
    const bool zeros = seed != 0 && kept == inode->synced;
    const std::string tail(zeros ? up_to(doubtful) : 0, '\0');
    file.write(tail.data(), static_cast<std::streamsize>(tail.size()));
  }
}

}  // namespace holdfast
