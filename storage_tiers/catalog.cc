#include "storage_tiers/catalog.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <rocksdb/db.h>
#include <rocksdb/write_batch.h>
#include <unistd.h>

#include "common/failpoint.h"
#include "common/log.h"
#include "common/random.h"
#include "storage_tiers/catalog_keys.h"
#include "storage_tiers/catalog_log_mark.h"
#include "storage_tiers/catalog_records.h"
#include "storage_tiers/catalog_rocksdb.h"

namespace holdfast::storage_tiers {
namespace {

rocksdb::ReadOptions CheckedReads() {
  rocksdb::ReadOptions options;
  options.verify_checksums = true;
  options.fill_cache = false;
  return options;
}

Status SyncFolder(int fd, const std::string& path) {
  if (::fsync(fd) != 0) {
    return ErrnoError(errno, "fsync of folder " + path);
  }
  return Ok();
}

// Folder, lock and database folder; their names are durable before anything is recorded in them.
Result<FolderLock> PrepareFolder(const std::string& folder, bool create) {
  HF_TRY(const Descriptor opened, OpenPrivateFolder(AT_FDCWD, folder, create));
  HF_TRY(FolderLock lock, FolderLock::Take(opened.get(), folder, "the catalog"));
  HF_TRY(const Descriptor db, OpenPrivateFolder(opened.get(), "db", create));
  if (create) {
    const std::string parent = std::filesystem::path(folder).parent_path();
    const Descriptor above(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!above.valid()) {
      return ErrnoError(errno, "open folder " + parent);
    }
    HF_TRYV(SyncFolder(opened.get(), folder));
    HF_TRYV(SyncFolder(above.get(), parent));
  }
  return lock;
}

void AddTo(rocksdb::WriteBatch* batch,
           const std::string& key,
           const std::optional<std::string>& value) {
  if (value) {
    batch->Put(key, *value);
  } else {
    batch->Delete(key);
  }
}

// The number of the log that is written to; 0: RocksDB does not say.
std::uint64_t CurrentLog(rocksdb::DB* db) {
  std::unique_ptr<rocksdb::LogFile> log;
  return db->GetCurrentWalFile(&log).ok() ? log->LogNumber() : 0;
}

void LogMarkTrouble(const Status& marked) {
  if (!marked) {
    LogWarning("catalog.log_mark", marked.error().ToString());
  }
}

}  // namespace

Catalog::Catalog(std::string folder, const CatalogOptions& options, std::optional<FolderLock> lock)
    : folder_(std::move(folder)), options_(options), lock_(std::move(lock)) {}

Catalog::~Catalog() = default;

rocksdb::Env* Catalog::Env() const {
  return options_.env != nullptr ? options_.env : rocksdb::Env::Default();
}

std::string Catalog::DbPath() const {
  return folder_ + "/db";
}

Result<std::unique_ptr<Catalog>> Catalog::Open(const std::string& folder,
                                               const CatalogOptions& options) {
  if (folder.empty() || folder.front() != '/') {
    return Error(Errc::kInvalidArgument,
                 "the catalog's folder must be an absolute path, not \"" + folder + "\"");
  }
  // A trailing slash would make the folder its own parent.
  std::string clean = std::filesystem::path(folder).lexically_normal();
  if (clean.size() > 1 && clean.ends_with('/')) {
    clean.pop_back();
  }
  std::optional<FolderLock> lock;
  if (!options.read_only) {
    HF_TRY(lock, PrepareFolder(clean, options.create));
  }
  std::unique_ptr<Catalog> catalog(new Catalog(clean, options, std::move(lock)));
  // A reader takes what there is: it is how the rest is saved.
  if (!options.read_only) {
    HF_TRYV(catalog->RefuseLostLog());
  }
  HF_TRYV(catalog->OpenDb());
  return catalog;
}

Status Catalog::RefuseLostLog() const {
  const std::uint64_t mark = ReadLogMark(Env(), DbPath());
  if (mark == 0) {
    return Ok();
  }
  // To be opened for writing is what would make a log that was only moved away worthless.
  const auto db = OpenCatalogDbReadOnly(DbPath(), Env());
  if (!db) {
    return Ok();  // opening it for writing says why
  }
  const auto header = ReadHeaderOf(db.value().get());
  if (!header) {
    return Ok();  // a damaged one is StartBoot's to refuse
  }
  const std::uint64_t found = header.value() ? header.value()->log_mark() : 0;
  if (found >= mark) {
    return Ok();
  }
  return Error(Errc::kCorruption,
               "the catalog in " + DbPath() + " has lost records: it has begun " +
                   std::to_string(mark) + " logs, and its newest record is of number " +
                   std::to_string(found) + "; a file (.log) is gone, emptied or an older copy" +
                   kWayOut);
}

void Catalog::MarkLog() {
  const std::uint64_t log = CurrentLog(db_.get());
  if (log == 0 || log == marked_log_) {
    return;
  }
  marked_log_ = log;
  auto known = ReadHeader();
  if (!known || !known.value()) {
    return;
  }
  proto::CatalogHeader header = *std::move(known).value();
  header.set_log_mark(header.log_mark() + 1);
  // What the caller wrote is safe; without a mark the loss of this log is only not noticed.
  Status marked = Write({{HeaderKey(), header.SerializeAsString()}});
  if (marked) {
    marked = WriteLogMark(Env(), DbPath(), header.log_mark());
  }
  LogMarkTrouble(marked);
}

Status Catalog::OpenDb() {
  db_.reset();
  if (options_.read_only) {
    HF_TRY(db_, OpenCatalogDbReadOnly(DbPath(), Env()));
  } else {
    const ByteCount log_bytes = options_.log_bytes > 0 ? options_.log_bytes : kLogBytes;
    HF_TRY(db_, OpenCatalogDb(DbPath(), Env(), log_bytes, options_.create));
  }
  Status checked = RefuseNewerFormat();
  if (!checked) {
    db_.reset();
  }
  return checked;
}

Status Catalog::RefuseNewerFormat() const {
  const auto header = ReadHeader();
  // A damaged header is StartBoot's to refuse; the CLI still reads the rest.
  if (!header && header.error().code != Errc::kCorruption) {
    return header.error();
  }
  return Ok();
}

Result<std::optional<proto::CatalogHeader>> Catalog::ReadHeaderOf(rocksdb::DB* db) const {
  std::string value;
  const rocksdb::Status got = db->Get(CheckedReads(), HeaderKey(), &value);
  if (got.ok()) {
    CatalogContents contents;
    HF_TRYV(ParseRecord(HeaderKey(), value, &contents));
    return std::move(contents.header);
  }
  if (!got.IsNotFound()) {
    return CatalogError(got, "read the header of catalog " + folder_);
  }
  const std::unique_ptr<rocksdb::Iterator> first(db->NewIterator(CheckedReads()));
  first->SeekToFirst();
  if (!first->status().ok()) {
    return CatalogError(first->status(), "read catalog " + folder_);
  }
  if (first->Valid()) {
    return Error(Errc::kCorruption,
                 "catalog " + folder_ +
                     " has records but no header: it is not known whose it is; "
                     "move the folder away to start with an empty catalog");
  }
  return std::optional<proto::CatalogHeader>();
}

Result<CatalogContents> Catalog::Load() {
  const std::lock_guard lock(mutex_);
  if (!db_ || !undo_.empty()) {
    return Error(Errc::kUnavailable,
                 "catalog " + folder_ + " is recovering from a failed write; apply a batch first");
  }
  CatalogContents contents;
  const std::unique_ptr<rocksdb::Iterator> record(db_->NewIterator(CheckedReads()));
  for (record->SeekToFirst(); record->Valid(); record->Next()) {
    AddRecord(record->key().ToStringView(), record->value().ToStringView(), &contents);
  }
  // The iterator also ends at a block that cannot be read.
  if (!record->status().ok()) {
    return CatalogError(record->status(), "read catalog " + folder_);
  }
  return contents;
}

Result<proto::CatalogHeader> Catalog::StartBoot() {
  const std::lock_guard lock(mutex_);
  if (options_.read_only) {
    return Error(Errc::kPermission, "catalog " + folder_ + " is open for reading only");
  }
  if (!db_) {
    HF_TRYV(OpenDb());
  }
  HF_TRY(std::optional<proto::CatalogHeader> known, ReadHeader());
  proto::CatalogHeader header;
  if (known) {
    header = std::move(*known);
  } else {
    header.set_node_uuid(RandomUid());
  }
  header.set_format_version(kCatalogFormatVersion);
  header.set_boot_number(header.boot_number() + 1);
  // In the same write: if it were one of its own and failed, Load would have to wait for the next.
  header.set_log_mark(header.log_mark() + 1);
  HF_TRYV(Write({{HeaderKey(), header.SerializeAsString()}}));
  booted_ = true;
  marked_log_ = CurrentLog(db_.get());
  LogMarkTrouble(WriteLogMark(Env(), DbPath(), header.log_mark()));
  return header;
}

Status Catalog::RememberArena(const std::string& uuid) {
  constexpr int kMostArenas = 64;
  const std::lock_guard lock(mutex_);
  if (!booted_ || !db_) {
    return Error(Errc::kInternal, "the catalog remembers an arena after StartBoot only");
  }
  HF_TRY(std::optional<proto::CatalogHeader> header, ReadHeader());
  auto* known = header->mutable_arena_uuids();
  if (std::find(known->begin(), known->end(), uuid) != known->end()) {
    return Ok();
  }
  known->Add(std::string(uuid));
  if (known->size() > kMostArenas) {
    known->DeleteSubrange(0, known->size() - kMostArenas);
  }
  return Write({{HeaderKey(), header->SerializeAsString()}});
}

Status Catalog::Apply(const CatalogBatch& batch) {
  HF_TRYV(batch.check());
  const std::lock_guard lock(mutex_);
  if (options_.read_only) {
    return Error(Errc::kPermission, "catalog " + folder_ + " is open for reading only");
  }
  if (!booted_) {
    // Records without a header would be refused by the next start.
    return Error(Errc::kInternal, "the catalog takes no batch before StartBoot");
  }
  if (batch.empty()) {
    return Ok();
  }
  HOLDFAST_FAILPOINT("catalog.apply.before");
  HF_TRYV(Write(batch.ops()));
  MarkLog();
  HOLDFAST_FAILPOINT("catalog.apply.after");
  return Ok();
}

Status Catalog::Write(const std::vector<CatalogBatch::Op>& ops) {
  if (broken_) {
    return Error(Errc::kIoError,
                 "catalog " + folder_ +
                     " failed and could not be read back: restart the daemon "
                     "when its disk is well again");
  }
  if (failed_ || !db_) {
    // RocksDB refuses all writes after a failed one; opening it again is the one way out that does
    // not depend on what failed.
    HF_TRYV(OpenDb());
    failed_ = false;
  }
  rocksdb::WriteBatch batch;
  for (const auto& [key, value] : undo_) {
    AddTo(&batch, key, value);
  }
  for (const CatalogBatch::Op& op : ops) {
    AddTo(&batch, op.key, op.value);
  }
  rocksdb::WriteOptions synced;
  synced.sync = true;
  const rocksdb::Status written = db_->Write(synced, &batch);
  if (written.ok()) {
    undo_.clear();
    return Ok();
  }
  failed_ = true;
  if (Status remembered = RememberOldValues(ops); !remembered) {
    broken_ = true;
    return remembered;
  }
  return CatalogError(written, "write to catalog " + folder_);
}

Status Catalog::RememberOldValues(const std::vector<CatalogBatch::Op>& ops) {
  // The failed batch may lie in the log and be found when the database is opened again.  It has not
  // reached the memtable, so reads still give what was before it.
  for (const CatalogBatch::Op& op : ops) {
    if (undo_.contains(op.key)) {
      continue;
    }
    std::string value;
    const rocksdb::Status got = db_->Get(CheckedReads(), op.key, &value);
    if (!got.ok() && !got.IsNotFound()) {
      return CatalogError(got, "read back from catalog " + folder_ + " after a failed write");
    }
    undo_.emplace(op.key, got.ok() ? std::optional(std::move(value)) : std::nullopt);
  }
  return Ok();
}

}  // namespace holdfast::storage_tiers
