#include "common/error.h"

#include <cerrno>
#include <map>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "common/result.h"

namespace holdfast {
namespace {

// Numbers and names are in the protocol, in JSON and in exit codes: they never change.
TEST(ErrorTest, EveryCodeHasANameOfItsOwn) {
  std::set<std::string_view> names;
  for (int code = 1; code <= static_cast<int>(Errc::kInternal); ++code) {
    names.insert(ErrcName(static_cast<Errc>(code)));
  }
  EXPECT_EQ(names.size(), 14U);
  EXPECT_FALSE(names.contains("unknown"));
  EXPECT_EQ(ErrcName(static_cast<Errc>(0)), "unknown");
  EXPECT_EQ(ErrcName(static_cast<Errc>(200)), "unknown");
  EXPECT_EQ(static_cast<int>(Errc::kUnavailable), 7);
  EXPECT_EQ(static_cast<int>(Errc::kFenced), 10);
}

TEST(ErrorTest, ErrnoSaysWhatTheCallerCanDo) {
  const std::map<int, Errc> codes = {{ENOENT, Errc::kNotFound},
                                     {EEXIST, Errc::kAlreadyExists},
                                     {ENOSPC, Errc::kNoSpace},
                                     {EDQUOT, Errc::kNoSpace},
                                     {ENOMEM, Errc::kNoSpace},
                                     {EROFS, Errc::kPermission},
                                     {EACCES, Errc::kPermission},
                                     {ECONNREFUSED, Errc::kUnavailable},
                                     {EPIPE, Errc::kUnavailable},
                                     {ETIMEDOUT, Errc::kTimeout},
                                     {ECANCELED, Errc::kCancelled},
                                     {EIO, Errc::kIoError},
                                     {ESTALE, Errc::kIoError}};
  for (const auto& [number, code] : codes) {
    const Error error = ErrnoError(number, "open /x");
    EXPECT_EQ(error.code, code) << number;
    EXPECT_EQ(error.sys_errno, number);
    EXPECT_EQ(error.message.rfind("open /x: ", 0), 0U) << error.message;
  }
}

TEST(ErrorTest, ContextStandsInFrontAndKeepsTheRest) {
  const Error made = ErrnoError(ENOENT, "open /x");
  const int line = made.where.line;
  const Error error = Error(made).WithContext("slot 3");
  EXPECT_EQ(error.ToString(), "not_found: slot 3: open /x: No such file or directory (errno 2)");
  EXPECT_EQ(error.where.line, line);
  EXPECT_EQ(Error(Errc::kTimeout, "no answer").ToString(), "timeout: no answer");
}

// docs/adr/0001: misuse ends the process instead of reading what is not there.
TEST(ErrorDeathTest, TheValueOfAFailureIsNeverRead) {
  const Result<int> failed = Error(Errc::kInternal, "x");
  EXPECT_DEATH((void)failed.value(), "");
}

}  // namespace
}  // namespace holdfast
