// How much of what repeats itself a sanitizer plays: it makes each run several times as long, and
// sees most of what it can see in the first of many alike.  The run without one plays all (tag
// "plain").
#pragma once

namespace holdfast {

#if __has_feature(address_sanitizer)
inline constexpr bool kAddressSanitizer = true;
#else
inline constexpr bool kAddressSanitizer = false;
#endif

#if __has_feature(thread_sanitizer)
inline constexpr bool kThreadSanitizer = true;
#else
inline constexpr bool kThreadSanitizer = false;
#endif

inline constexpr bool kSanitized = kAddressSanitizer || kThreadSanitizer;

template <typename Number>
constexpr Number UnlessSanitized(Number all, Number few) {
  return kSanitized ? few : all;
}

}  // namespace holdfast
