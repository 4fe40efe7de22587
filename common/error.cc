#include "common/error.h"

#include <cerrno>
#include <system_error>

namespace holdfast {

Errc ErrcOf(std::uint32_t code) {
  const bool known = code >= static_cast<std::uint32_t>(Errc::kInvalidArgument) &&
                     code <= static_cast<std::uint32_t>(Errc::kInternal);
  return known ? static_cast<Errc>(code) : Errc::kInternal;
}

std::string_view ErrcName(Errc code) {
  switch (code) {
    case Errc::kInvalidArgument:
      return "invalid_argument";
    case Errc::kNotFound:
      return "not_found";
    case Errc::kAlreadyExists:
      return "already_exists";
    case Errc::kCorruption:
      return "corruption";
    case Errc::kIoError:
      return "io_error";
    case Errc::kNoSpace:
      return "no_space";
    case Errc::kUnavailable:
      return "unavailable";
    case Errc::kTimeout:
      return "timeout";
    case Errc::kCancelled:
      return "cancelled";
    case Errc::kFenced:
      return "fenced";
    case Errc::kAbandoned:
      return "abandoned";
    case Errc::kVersionMismatch:
      return "version_mismatch";
    case Errc::kPermission:
      return "permission";
    case Errc::kInternal:
      return "internal";
  }
  return "unknown";
}

Error Error::WithContext(std::string_view context) && {
  message = std::string(context) + ": " + message;
  return std::move(*this);
}

std::string Error::ToString() const {
  std::string out(ErrcName(code));
  out += ": ";
  out += message;
  if (sys_errno != 0) {
    out += " (errno " + std::to_string(sys_errno) + ")";
  }
  return out;
}

namespace {

Errc CodeOfErrno(int value) {
  switch (value) {
    case ENOENT:
      return Errc::kNotFound;
    case EEXIST:
      return Errc::kAlreadyExists;
    case ENOSPC:
    case EDQUOT:
    case ENOMEM:
      return Errc::kNoSpace;
    case EACCES:
    case EPERM:
    case EROFS:
      return Errc::kPermission;
    case EAGAIN:
    case ECONNREFUSED:
    case ECONNRESET:
    case EPIPE:
      return Errc::kUnavailable;
    case ETIMEDOUT:
      return Errc::kTimeout;
    case ECANCELED:
      return Errc::kCancelled;
    default:
      return Errc::kIoError;
  }
}

}  // namespace

Error ErrnoError(int errno_value, std::string_view what, SourceLine where) {
  std::string message(what);
  message += ": " + std::generic_category().message(errno_value);
  return Error(CodeOfErrno(errno_value), std::move(message), errno_value, where);
}

}  // namespace holdfast
