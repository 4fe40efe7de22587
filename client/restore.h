// One attempt of a restore, as one rank sees it.
//
// All ranks ask; the coordinator chooses one snapshot for all; each rank loads it and says so; only
// when all have, and the choice is on record, may training go on (I11).  An attempt that was begun
// must be finished, well or badly: the other ranks wait for this one's word.
//
// Threads:   one thread at a time, any.
// Ownership: owns the sources' descriptors and mappings; borrows the session, which must outlive
// it. Errors:    see each function; an attempt that is dropped unfinished counts as failed.
// Lifecycle: Begin -> Load as often as wanted -> Finish -> destroy.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "client/image_load.h"
#include "client/image_source.h"
#include "client/session.h"
#include "common/result.h"
#include "proto/client.pb.h"

namespace holdfast::client {

struct RestoreWish {
  std::optional<std::int64_t> named_step;  // else the newest that all ranks can get back
  bool include_discarded = false;
  bool overwritten = false;  // a failed attempt wrote into the initial state: no start from nothing
  std::uint32_t after_attempt = 0;
};

struct LoadTarget {
  std::uint32_t tensor = 0;  // index in the sidecar's layout
  void* destination = nullptr;
  ByteCount bytes = 0;  // must be the tensor's
  std::int32_t device = kHostDevice;
};

class Restore {
 public:
  ~Restore();
  Restore(const Restore&) = delete;
  Restore& operator=(const Restore&) = delete;

  // Waits for the choice.  An answer that cannot be used (a cut file, a sidecar that is not sound)
  // is no error here: SidecarJson and Load say what is wrong, and Finish names the source as bad.
  [[nodiscard]] static Result<std::unique_ptr<Restore>> Begin(Session* session,
                                                              const RestoreWish& wish,
                                                              MonotonicTime deadline);

  // What the daemon answered; sound: layout valid, digests complete.
  [[nodiscard]] const proto::RestoreReply& Choice() const { return reply_; }

  // The sidecar in Protobuf's JSON mapping, original field names; made at the first call.
  [[nodiscard]] Result<const std::string*> SidecarJson();

  // kCorruption: destinations hold rubbish, and Finish will name the source as bad.
  [[nodiscard]] Status Load(std::span<const LoadTarget> targets,
                            std::uint32_t threads,
                            LoadSink* sink = nullptr);

  // "failure" empty: this rank has loaded.  Whether the restore is committed; else begin again with
  // this attempt.
  [[nodiscard]] Result<bool> Finish(const std::string& failure, MonotonicTime deadline);

  // No snapshot can help this rank: the restore ends on all ranks with "reason" as its error.
  [[nodiscard]] Status Refuse(const std::string& reason, MonotonicTime deadline);

 private:
  Restore(Session* session, proto::RestoreReply reply);

  [[nodiscard]] Status Open(transport::OwnedFd fd);
  [[nodiscard]] Status LoadImage(proto::ImageKind kind,
                                 std::vector<LoadPiece> pieces,
                                 std::uint32_t threads,
                                 LoadSink* sink);
  [[nodiscard]] proto::ClientMessage LoadedMessage(const std::string& failure) const;

  Session* const session_;
  const proto::RestoreReply reply_;
  // By kind; none: nothing to restore, or unusable_.
  std::map<proto::ImageKind, std::unique_ptr<ImageSource>> sources_;
  std::optional<Error> unusable_;
  std::string json_;
  bool source_is_bad_ = false;
  proto::ImageKind bad_image_ = proto::DYNAMIC;  // the last one that was found bad
  std::vector<std::uint64_t> bad_chunks_;        // of it
  bool finished_ = false;
};

}  // namespace holdfast::client
