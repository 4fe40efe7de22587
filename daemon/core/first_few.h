// The first of many for a message that must not grow with the job: a job of 16,384 ranks has as
// many that can be missing, and what is said of them goes to every node.
//
//   FirstFew ranks(", ", 16);
//   ranks.Add("rank 3");
//   ranks.Text();  // "rank 3, rank 9 and 1022 more"
#pragma once

#include <cstddef>
#include <string>

namespace holdfast::daemon {

class FirstFew {
 public:
  FirstFew(const char* separator, std::size_t named) : separator_(separator), named_(named) {}

  void Add(const std::string& what) {
    if (++count_ <= named_) {
      text_ += (text_.empty() ? "" : separator_) + what;
    }
  }

  [[nodiscard]] std::string Text() const {
    return count_ <= named_ ? text_ : text_ + " and " + std::to_string(count_ - named_) + " more";
  }

 private:
  const std::string separator_;
  const std::size_t named_;
  std::size_t count_ = 0;
  std::string text_;
};

}  // namespace holdfast::daemon
