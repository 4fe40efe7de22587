// What must hold on a persistent root when nobody writes to it, whoever was killed before.
#pragma once

#include <string>
#include <vector>

namespace holdfast::tests {

// What should not be there: temporary files, trash, snapshots without a manifest; paths.
std::vector<std::string> Leftovers(const std::string& root);

// Waits until there are none, for 20 seconds at most: a daemon deletes after it has answered.
std::vector<std::string> WaitForCleanRoot(const std::string& root);

// `holdfast verify --root ROOT`: its exit code, 0 where every byte is good; "*said" is its output.
int VerifyRoot(const std::string& root, std::string* said);

}  // namespace holdfast::tests
