// Files that hold the bytes of a format as one version wrote them; every later version reads them.
//
// To write those of one program anew after a deliberate change of its format:
//   HOLDFAST_REWRITE_GOLDEN=$PWD <the test program>
// and keep the old files under another name, with a test that reads them.
#pragma once

#include <string>

namespace holdfast {

// The content of tests/golden/<name>; a file that cannot be read fails the test.
std::string GoldenFile(const std::string& name);
// In rewrite mode "now" is written to the file first.
std::string GoldenFile(const std::string& name, const std::string& now);

}  // namespace holdfast
