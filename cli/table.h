// Aligned columns of text for people.
//
//   Table table({"RANK", "PID", "BYTES"}, {Align::kRight, Align::kRight, Align::kRight});
//   table.AddRow({"0", "4242", "1.5 GiB"});
//   out << table.Render("  ");
//
// Cells are made safe for terminals here (text.h), so that no caller can forget it.  A column in
// which every cell is empty is left out: an operator reads what is there.
//
// Threads:   one at a time.
// Ownership: owns its cells.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace holdfast::cli {

enum class Align { kLeft, kRight };

class Table {
 public:
  // "alignment" has one entry a column, or is shorter: the rest is kLeft.
  explicit Table(std::vector<std::string> header, std::vector<Align> alignment = {});

  // Shorter rows are filled with empty cells; longer ones are a bug.
  void AddRow(std::vector<std::string> cells);

  [[nodiscard]] bool empty() const { return rows_.empty(); }

  // Every line starts with "indent" and ends with a newline, without trailing spaces.
  [[nodiscard]] std::string Render(std::string_view indent = "") const;

 private:
  std::vector<std::string> header_;
  std::vector<Align> alignment_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace holdfast::cli
