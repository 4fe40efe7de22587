// A file system for RocksDB that loses power, or fails, where a test says so.
//
// Files live in a real folder, but what would be on the disk after a power cut is kept beside them:
// of each file the bytes up to its last sync, of each folder the names as of its last sync.  Every
// change counts as a step; a test cuts the power after step n, for every n, has the disk written
// out to another folder, and opens that.
//
// Threads:   any thread; one lock.
// Ownership: the Env made from it shares it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

namespace holdfast {

class PowerCutFileSystem : public rocksdb::FileSystemWrapper {
 public:
  PowerCutFileSystem();

  [[nodiscard]] static const char* kClassName() { return "PowerCutFileSystem"; }

  [[nodiscard]] const char* Name() const override { return kClassName(); }

  // The power goes off right after the "step"-th change from now (from 1): that change is done,
  // each later one fails and changes nothing.  Unsynced data and names are then in doubt.
  void CutAfter(std::uint64_t step);

  [[nodiscard]] bool off() const;

  // Changes so far.
  [[nodiscard]] std::uint64_t steps() const;

  // While set: writes fail with "no space", after writing the first half of what was given.
  void SetFull(bool full);

  // While set: data reaches the file, but syncs fail with an I/O error.
  void SetSyncsFail(bool fail);

  // Writes what the disk holds of folder "from" to the new folder "to".  Seed 0: nothing that was
  // not synced.  Other seeds: of the names changed since the folder's last sync some first ones are
  // there, of the unsynced bytes of each file some first ones, or zeros in their place: what
  // journaling file systems leave.  Never half a record and then other bytes: of such a MANIFEST
  // RocksDB makes nothing (the daemon then does not start, and says so).
  void WriteDisk(const std::string& from, const std::string& to, std::uint64_t seed) const;

  rocksdb::IOStatus NewWritableFile(const std::string& path,
                                    const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* result,
                                    rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus ReopenWritableFile(const std::string& path,
                                       const rocksdb::FileOptions& options,
                                       std::unique_ptr<rocksdb::FSWritableFile>* result,
                                       rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus ReuseWritableFile(const std::string& path,
                                      const std::string& old_path,
                                      const rocksdb::FileOptions& options,
                                      std::unique_ptr<rocksdb::FSWritableFile>* result,
                                      rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus NewDirectory(const std::string& path,
                                 const rocksdb::IOOptions& options,
                                 std::unique_ptr<rocksdb::FSDirectory>* result,
                                 rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus DeleteFile(const std::string& path,
                               const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus Truncate(const std::string& path,
                             std::size_t size,
                             const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus RenameFile(const std::string& from,
                               const std::string& to,
                               const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus LinkFile(const std::string& from,
                             const std::string& to,
                             const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* debug) override;

 private:
  friend class PowerCutFile;
  friend class PowerCutDirectory;

  // RocksDB's files only grow.
  struct Inode {
    std::string data;
    std::size_t synced = 0;
  };

  using InodeRef = std::shared_ptr<Inode>;
  using Names = std::map<std::string, InodeRef>;
  // One change of names, all of it or nothing: path and inode, null for a removal.
  using NameChange = std::vector<std::pair<std::string, InodeRef>>;

  struct Folder {
    Names durable;
    std::vector<NameChange> unsynced;  // in order
  };

  static std::string FolderOf(const std::string& path);
  static void Perform(const NameChange& change, Names* names);

  // Called with mutex_ held, before a change: an error if the power is off.
  rocksdb::IOStatus Step();
  // After a change of names in one folder.
  void Record(NameChange change);

  rocksdb::IOStatus OnAppend(const InodeRef& inode, const rocksdb::Slice& data, std::size_t* room);
  rocksdb::IOStatus OnSync(const InodeRef& inode);
  rocksdb::IOStatus OnDirectorySync(const std::string& folder);

  mutable std::mutex mutex_;
  Names live_;
  std::map<std::string, Folder> folders_;
  std::uint64_t steps_ = 0;
  std::uint64_t cut_after_ = 0;  // 0: never
  bool full_ = false;
  bool syncs_fail_ = false;
};

}  // namespace holdfast
