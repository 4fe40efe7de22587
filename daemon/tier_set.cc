#include "daemon/tier_set.h"

#include <cerrno>
#include <cstdlib>
#include <utility>

#include "daemon/config.h"

namespace holdfast::daemon {
namespace {

struct Free {
  void operator()(char* text) const { std::free(text); }
};

Result<std::string> RealPath(const std::string& path) {
  const std::unique_ptr<char, Free> real(::realpath(path.c_str(), nullptr));
  if (real == nullptr) {
    return ErrnoError(errno, "resolve " + path);
  }
  return std::string(real.get());
}

}  // namespace

bool IsBelow(const std::string& path, const std::string& folder) {
  if (path.compare(0, folder.size(), folder) != 0) {
    return false;
  }
  return folder == "/" || path.size() == folder.size() || path[folder.size()] == '/';
}

TierSet::TierSet(const boost::asio::any_io_executor& executor,
                 const TierOptions& options,
                 std::size_t max_roots,
                 MakeFileSystem make_file_system)
    : executor_(executor),
      options_(options),
      max_roots_(max_roots),
      make_file_system_(std::move(make_file_system)) {}

Result<std::shared_ptr<Tier>> TierSet::Open(const std::string& root, proto::TierScope scope) {
  HF_TRY(const std::string path, NormalPath(root));
  last_used_[path] = ++uses_;
  const auto found = tiers_.find(path);
  if (found != tiers_.end()) {
    return found->second;
  }
  if (tiers_.size() >= max_roots_) {
    Evict();
  }
  if (tiers_.size() >= max_roots_) {
    last_used_.erase(path);
    return Error(Errc::kUnavailable,
                 "this node uses " + std::to_string(max_roots_) +
                     " persistent roots already; raise flush.max_roots");
  }
  const auto tier_scope =
      scope == proto::NODE ? storage_tiers::TierScope::kNode : storage_tiers::TierScope::kShared;
  auto tier = std::make_shared<Tier>(executor_, path, tier_scope, options_, make_file_system_());
  tiers_[path] = tier;
  return tier;
}

void TierSet::Evict() {
  auto oldest = tiers_.end();
  for (auto it = tiers_.begin(); it != tiers_.end(); ++it) {
    // Somebody else holds it, or a thread of it hangs: not to be destroyed now.
    const bool idle = it->second.use_count() == 1 && it->second->pending() == 0;
    if (idle && (oldest == tiers_.end() || last_used_[it->first] < last_used_[oldest->first])) {
      oldest = it;
    }
  }
  if (oldest != tiers_.end()) {
    last_used_.erase(oldest->first);
    tiers_.erase(oldest);
  }
}

boost::asio::awaitable<Status> TierSet::CheckClientRoot(std::string root,
                                                        proto::TierScope scope,
                                                        std::vector<std::string> allowed) {
  const auto is_allowed = [](const std::string& path, const std::vector<std::string>& folders) {
    for (const std::string& folder : folders) {
      if (IsBelow(path, folder)) {
        return true;
      }
    }
    return false;
  };
  const std::string refusal =
      "this user may not name the persistent root " + root +
      "; the operator allows folders by clients.roots of the daemon's configuration";
  HF_CO_TRY(const std::string path, NormalPath(root));
  if (!is_allowed(path, allowed)) {
    co_return Error(Errc::kPermission, refusal);
  }
  HF_CO_TRY(const std::shared_ptr<Tier> tier, Open(path, scope));
  // Empty: allowed.  Else where it leads to.
  auto resolve = [path, allowed, is_allowed](TierFiles&) -> Result<std::string> {
    HF_TRY(std::string real, RealPath(path));
    std::vector<std::string> real_allowed;
    for (const std::string& folder : allowed) {
      const auto real_folder = RealPath(folder);
      if (real_folder.has_value()) {
        real_allowed.push_back(real_folder.value());
      }
    }
    return is_allowed(real, real_allowed) ? std::string() : real;
  };
  const auto limit = tier->options().call_limit;
  HF_CO_TRY(const std::string elsewhere,
            co_await tier->Call("look at a root", limit, std::move(resolve)));
  if (!elsewhere.empty()) {
    co_return Error(Errc::kPermission, refusal + " (it leads to " + elsewhere + ")");
  }
  co_return Ok();
}

std::size_t TierSet::pending() const {
  std::size_t sum = 0;
  for (const auto& [root, tier] : tiers_) {
    sum += tier->pending();
  }
  return sum;
}

}  // namespace holdfast::daemon
