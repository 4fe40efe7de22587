#include "cli/table.h"

#include <algorithm>
#include <utility>

#include "cli/text.h"
#include "common/check.h"

namespace holdfast::cli {
namespace {

constexpr std::string_view kGap = "  ";

std::string Padded(const std::string& cell, std::size_t width, Align align) {
  const std::size_t own = DisplayWidth(cell);
  const std::string pad(width > own ? width - own : 0, ' ');
  return align == Align::kRight ? pad + cell : cell + pad;
}

}  // namespace

Table::Table(std::vector<std::string> header, std::vector<Align> alignment)
    : header_(std::move(header)), alignment_(std::move(alignment)) {
  alignment_.resize(header_.size(), Align::kLeft);
}

void Table::AddRow(std::vector<std::string> cells) {
  HOLDFAST_CHECK(cells.size() <= header_.size());
  cells.resize(header_.size());
  for (std::string& cell : cells) {
    cell = SafeText(cell);
  }
  rows_.push_back(std::move(cells));
}

std::string Table::Render(std::string_view indent) const {
  std::vector<std::size_t> widths(header_.size(), 0);
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], DisplayWidth(row[i]));
    }
  }
  std::string text;
  const auto add_line = [&](const std::vector<std::string>& cells) {
    std::string line(indent);
    bool first = true;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      if (widths[i] == 0) {
        continue;  // a column without content
      }
      line += first ? "" : kGap;
      line += Padded(cells[i], std::max(widths[i], DisplayWidth(header_[i])), alignment_[i]);
      first = false;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  };
  add_line(header_);
  for (const auto& row : rows_) {
    add_line(row);
  }
  return text;
}

}  // namespace holdfast::cli
