#include "cli/exit_code.h"

namespace holdfast::cli {

ExitCode ExitCodeOf(Errc code) {
  switch (code) {
    case Errc::kInvalidArgument:
      return ExitCode::kUsage;
    case Errc::kCorruption:
      return ExitCode::kDataBad;
    case Errc::kPermission:
    case Errc::kAlreadyExists:
    case Errc::kFenced:
      return ExitCode::kRefused;
    case Errc::kNotFound:
      return ExitCode::kNotFound;
    case Errc::kCancelled:
      return ExitCode::kInterrupted;
    case Errc::kIoError:
    case Errc::kNoSpace:
    case Errc::kUnavailable:
    case Errc::kTimeout:
    case Errc::kAbandoned:
    case Errc::kVersionMismatch:
    case Errc::kInternal:
      return ExitCode::kFailed;
  }
  return ExitCode::kFailed;  // an ErrorReply may carry any number
}

}  // namespace holdfast::cli
