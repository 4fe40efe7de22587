#include "transport/fabric_library.h"

#include <cstdlib>
#include <optional>
#include <utility>

#include <dlfcn.h>
#include <link.h>

#include "common/mutex.h"
#include "transport/fabric_signals.h"
#include "transport/fabric_version.h"

namespace holdfast::transport {

namespace {

// The interface versions that the headers of libfabric 1.17 are written for.  A newer library keeps
// them beside its own; where it does not, its newest still begins with the same fields.
struct Entry {
  const char* name;
  const char* version;
};

constexpr Entry kGetInfo{"fi_getinfo", "FABRIC_1.3"};
constexpr Entry kFreeInfo{"fi_freeinfo", "FABRIC_1.3"};
constexpr Entry kDupInfo{"fi_dupinfo", "FABRIC_1.3"};
constexpr Entry kFabric{"fi_fabric", "FABRIC_1.1"};
constexpr Entry kVersionEntry{"fi_version", "FABRIC_1.0"};
constexpr Entry kStrError{"fi_strerror", "FABRIC_1.0"};

template <class Function>
Status Find(void* handle, const Entry& entry, Function* function) {
  void* found = dlvsym(handle, entry.name, entry.version);
  if (found == nullptr) {
    found = dlsym(handle, entry.name);
  }
  if (found == nullptr) {
    return Error(Errc::kVersionMismatch, std::string("it has no ") + entry.name);
  }
  *function = reinterpret_cast<Function>(found);
  return Ok();
}

Result<FabricLibrary> Fill(void* handle) {
  FabricLibrary library;
  HF_TRYV(Find(handle, kGetInfo, &library.getinfo));
  HF_TRYV(Find(handle, kFreeInfo, &library.freeinfo));
  HF_TRYV(Find(handle, kDupInfo, &library.dupinfo));
  HF_TRYV(Find(handle, kFabric, &library.fabric));
  HF_TRYV(Find(handle, kVersionEntry, &library.version));
  HF_TRYV(Find(handle, kStrError, &library.strerror));
  link_map* map = nullptr;
  if (dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 && map != nullptr) {
    library.path = map->l_name;
  }
  return library;
}

// What knows the host's cards comes in halves that must be of one release: libibverbs and the
// drivers that it loads.  A bundle has no drivers, so with its libfabric go the host's, where it
// has them: the linker takes a library that is loaded already before any of that name in the
// bundle's folder.
void LoadHostVerbs() {
  for (const char* const name : {"libibverbs.so.1", "librdmacm.so.1", "libefa.so.1"}) {
    (void)dlopen(name, RTLD_NOW | RTLD_LOCAL);  // for the life of the process, as libfabric is
  }
}

Result<FabricLibrary> Load(const std::string& name) {
  const KeptSignals signals;
  if (name == kBundledFabricLibrary) {
    LoadHostVerbs();
  }
  // Local: what it brings along (verbs, psm) must not be found by anybody else.
  void* handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    // NOLINTNEXTLINE(concurrency-mt-unsafe): glibc keeps an error for each thread
    return Error(Errc::kUnavailable, dlerror());  // names the file
  }
  auto library = Fill(handle);
  if (!library.has_value()) {
    (void)dlclose(handle);
    return std::move(library).error().WithContext(name);
  }
  return library;
}

Mutex loaded_mutex;
std::optional<FabricLibrary> loaded HF_GUARDED_BY(loaded_mutex);

}  // namespace

Result<const FabricLibrary*> LoadFabricLibrary(const std::vector<std::string>& libraries) {
  const MutexLock lock(loaded_mutex);
  if (loaded.has_value()) {
    return &*loaded;
  }
  Error why(Errc::kInvalidArgument, "no name of a libfabric was given");
  std::string all;
  for (const std::string& name : libraries) {
    auto library = Load(name);
    if (library.has_value()) {
      loaded = std::move(library).value();
      return &*loaded;
    }
    why = std::move(library).error();
    all += (all.empty() ? "" : "; ") + why.message;
  }
  if (!all.empty()) {
    why.message = std::move(all);
  }
  return why;
}

std::string FabricVersion(const std::vector<std::string>& libraries) {
  const auto library = LoadFabricLibrary(libraries);
  if (!library.has_value()) {
    return "no libfabric: " + library.error().message;
  }
  const std::uint32_t version = library.value()->version();
  return "libfabric " + std::to_string(FI_MAJOR(version)) + "." +
         std::to_string(FI_MINOR(version)) + " (" + library.value()->path + ")";
}

bool IsTransient(long code) {
  switch (std::labs(code)) {
    case FI_EACCES:
    case FI_EPERM:
    case FI_EKEYREJECTED:
    case FI_ENOKEY:
    case FI_EINVAL:
    case FI_EMSGSIZE:
    case FI_ENOSYS:
    case FI_EOPNOTSUPP:
    case FI_EFAULT:
      return false;
    default:
      return true;
  }
}

Error FabricError(const FabricLibrary& library,
                  long code,
                  std::string_view what,
                  SourceLine where) {
  const int positive = static_cast<int>(std::labs(code));
  Errc errc = Errc::kIoError;
  switch (positive) {
    case FI_EACCES:
    case FI_EKEYREJECTED:
    case FI_ENOKEY:
      errc = Errc::kNotFound;
      break;
    case FI_EPERM:
      errc = Errc::kPermission;
      break;
    case FI_ENOMEM:
    case FI_ENOSPC:
      errc = Errc::kNoSpace;
      break;
    default:
      if (IsTransient(code)) {
        errc = Errc::kUnavailable;
      }
  }
  return {errc, std::string(what) + ": " + library.strerror(positive), positive, where};
}

}  // namespace holdfast::transport
