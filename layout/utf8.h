// Text that came from elsewhere: is it UTF-8, and how may it stand in a message.
//
// Tensor and job names travel into JSON, protobuf strings, logs and file names.  Protobuf and
// safetensors both refuse text that is not UTF-8, each at its own late moment; we refuse it first.
//
// Threads: any thread; pure functions.
#pragma once

#include <string>
#include <string_view>

namespace holdfast::layout {

// Whether "text" is well-formed UTF-8: no overlong form, no surrogate, nothing above U+10FFFF.
[[nodiscard]] bool IsUtf8(std::string_view text);

// "text" in double quotes for an error message.  Control characters and bytes that are not ASCII
// are escaped and long text is cut: a hostile name can neither forge a log line nor flood it.
[[nodiscard]] std::string Quoted(std::string_view text);

}  // namespace holdfast::layout
