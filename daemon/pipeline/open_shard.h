// Opens a shard on a persistent tier for its trainer: the descriptors of its images, and the
// sidecar that the bytes must match.
//
// The trainer reads the file itself and checks every chunk as it copies (I5); a restore therefore
// needs no slot, so that a full arena can never block it.
//
// Threads:   the io thread; the opening on the root's own threads.
// Ownership: ShardFiles owns the descriptors until they are closed by their tickets.
// Errors:    kCorruption: sidecar or file are not as the manifest says: another source is needed.
//            kNotFound: not there.  Else the tier's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>

#include <boost/asio/awaitable.hpp>

#include "common/result.h"
#include "daemon/core/action.h"
#include "daemon/pipeline/context.h"
#include "proto/manifest.pb.h"
#include "transport/owned_fd.h"

namespace holdfast::daemon {

// By kind; the static one only where the shard has it.
using ImageFiles = std::map<proto::ImageKind, std::shared_ptr<const transport::OwnedFd>>;

struct OpenedShard {
  proto::Sidecar sidecar;  // with layout
  ImageFiles files;
};

[[nodiscard]] boost::asio::awaitable<Result<OpenedShard>> OpenShard(PipelineContext context,
                                                                    OpenShardFile action);

// Descriptors by the core's tickets.
class ShardFiles {
 public:
  void Keep(std::uint64_t ticket, ImageFiles files) { files_[ticket] = std::move(files); }

  void Close(std::uint64_t ticket) { files_.erase(ticket); }

  // Null: not open (any more).
  [[nodiscard]] std::shared_ptr<const transport::OwnedFd> Find(
      std::uint64_t ticket, proto::ImageKind kind = proto::DYNAMIC) const {
    const auto found = files_.find(ticket);
    if (found == files_.end()) {
      return nullptr;
    }
    const auto file = found->second.find(kind);
    return file == found->second.end() ? nullptr : file->second;
  }

  [[nodiscard]] std::size_t size() const { return files_.size(); }

 private:
  std::map<std::uint64_t, ImageFiles> files_;
};

}  // namespace holdfast::daemon
