// Result<T>: a value or an Error.  The only header that names Boost.Outcome, so that a move to
// std::expected is a change of one file (docs/adr/0001-error-type.md).
//
//   Result<ByteCount> size = file.Size();
//   HF_TRY(auto size, file.Size());          // in a function that returns a Result
//   HF_TRYV(file.Sync());                    // the value is not needed
//   HF_CO_TRY(auto reply, co_await Call());  // in a coroutine
//
// Reading the value of a failed result terminates the process: misuse is a bug, never undefined.
#pragma once

#include <boost/outcome/basic_result.hpp>
#include <boost/outcome/policy/terminate.hpp>
#include <boost/outcome/try.hpp>

#include "common/error.h"

namespace holdfast {

template <class T>
using Result = BOOST_OUTCOME_V2_NAMESPACE::
    basic_result<T, Error, BOOST_OUTCOME_V2_NAMESPACE::policy::terminate>;

using Status = Result<void>;

// The success of a Status.
inline auto Ok() {
  return BOOST_OUTCOME_V2_NAMESPACE::success();
}

}  // namespace holdfast

#define HF_TRY(...) BOOST_OUTCOME_TRY(__VA_ARGS__)
#define HF_TRYV(expression) BOOST_OUTCOME_TRYV(expression)
#define HF_CO_TRY(...) BOOST_OUTCOME_CO_TRY(__VA_ARGS__)
#define HF_CO_TRYV(expression) BOOST_OUTCOME_CO_TRYV(expression)
