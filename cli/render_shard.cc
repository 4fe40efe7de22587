#include "cli/render_shard.h"

#include <vector>

#include "cli/table.h"
#include "cli/text.h"
#include "common/bytes.h"
#include "layout/dtype.h"
#include "layout/tensor_box.h"

namespace holdfast::cli {
namespace {

std::string TypeText(proto::DataType dtype) {
  const auto name = layout::DataTypeName(dtype);
  return name ? std::string(name.value()) : "type " + std::to_string(dtype);
}

std::string ClassText(proto::TensorClass tensor_class) {
  switch (tensor_class) {
    case proto::STABLE:
      return "stable";
    case proto::STAGED:
      return "staged";
    case proto::CONSTANT:
      return "static";
    default:
      return "?";
  }
}

// "[0:512, 0:1024]": half-open ranges of the global tensor, as in Python.
std::string BoxText(const proto::Box& box) {
  std::string text = "[";
  for (int i = 0; i < box.offset_size() && i < box.length_size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(box.offset(i)) + ":" +
            std::to_string(box.offset(i) + box.length(i));
  }
  return text + "]";
}

std::string PartText(const proto::Part& part) {
  if (part.opaque()) {
    return "opaque";
  }
  std::string text = part.boxes().empty()     ? "whole"
                     : part.boxes_size() == 1 ? BoxText(part.boxes(0))
                                              : std::to_string(part.boxes_size()) +
                                                    " boxes, first " + BoxText(part.boxes(0));
  if (part.has_flat_range()) {
    text += " flat " + std::to_string(part.flat_offset()) + ":" +
            std::to_string(part.flat_offset() + part.flat_length());
  }
  return text;
}

std::string TensorTable(const proto::Layout& layout) {
  Table table(
      {"TENSOR", "TYPE", "SHAPE HERE", "GLOBAL SHAPE", "PART", "BYTES", "CLASS", "ALIAS OF"},
      {Align::kLeft, Align::kLeft, Align::kLeft, Align::kLeft, Align::kLeft, Align::kRight});
  for (const proto::TensorEntry& tensor : layout.tensors()) {
    table.AddRow({tensor.name(),
                  TypeText(tensor.dtype()),
                  layout::ShapeText(layout::ViewOf(tensor.local_shape())),
                  layout::ShapeText(layout::ViewOf(tensor.global_shape())),
                  PartText(tensor.part()),
                  std::to_string(tensor.alias_of().empty() ? tensor.length_bytes() : 0),
                  ClassText(tensor.tensor_class()),
                  tensor.alias_of()});
  }
  return table.empty() ? "no tensors\n" : table.Render();
}

std::string StateLines(const proto::Sidecar& sidecar, bool values) {
  if (sidecar.state().empty()) {
    return "state      none beside the tensors\n";
  }
  std::string text;
  for (const proto::StateItem& item : sidecar.state()) {
    const bool json = item.has_json();
    const ByteCount bytes = json ? item.json().size() : item.pickle().size();
    text += (text.empty() ? "state      " : "           ") + SafeText(item.name()) + ": " +
            (json ? "json, " : "pickle, ") + FormatBytes(bytes) + "\n";
    if (values && json) {
      text += "             " + SafeText(item.json()) + "\n";
    }
  }
  return text;
}

std::string ImageLines(const proto::Sidecar& sidecar) {
  std::string text;
  for (const proto::ImageDigest& image : sidecar.images()) {
    const bool is_static = image.kind() == proto::STATIC;
    text += std::string(is_static ? "static     " : "image      ") +
            FormatBytes(image.length_bytes()) + " (" + std::to_string(image.length_bytes()) +
            " bytes), " + Count(image.chunk_crc32c_size(), "chunk digest");
    text += image.has_owner() ? ", owned by " + IdText(image.owner()) + "\n" : "\n";
  }
  return text;
}

std::string SnapshotLines(const ShownShard& shown) {
  const proto::SnapshotInfo& snapshot = shown.snapshot;
  std::string text = "snapshot   " + SafeText(snapshot.job_name()) + " step " +
                     std::to_string(snapshot.id().step()) + " of incarnation " +
                     std::to_string(snapshot.id().incarnation()) + "\n";
  text += "state      " + SafeText(snapshot.state()) + (snapshot.discarded() ? ", discarded" : "") +
          (snapshot.restore_base() ? ", restore base" : "") + "\n";
  for (const std::string& root : snapshot.durable_on()) {
    text += "durable on " + SafeText(root) + "\n";
  }
  for (const std::string& root : snapshot.damaged_on()) {
    text += "damaged on " + SafeText(root) + "\n";
  }
  std::vector<std::uint32_t> ranks;
  for (const proto::ShardInfo& shard : snapshot.shards()) {
    if (Readable(shard)) {
      ranks.push_back(shard.rank());
    }
  }
  text += "ranks      " + std::to_string(ranks.size()) + " of " +
          std::to_string(snapshot.world_size()) + " here";
  text += ranks.empty() ? "\n" : ": " + RankRanges(std::move(ranks)) + "\n";
  return text;
}

}  // namespace

std::string ShardText(const ShownShard& shown, const ShowOptions& options) {
  const proto::Sidecar& sidecar = shown.sidecar;
  std::string text = SnapshotLines(shown);
  text += "\nrank       " + std::to_string(sidecar.rank()) + " of " +
          std::to_string(sidecar.world_size()) + ", from " + SafeText(shown.place) + "\n";
  text += "sealed     " + TimeText(sidecar.sealed_unix_ms());
  text +=
      sidecar.node_uuid().empty() ? "\n" : " by node " + ToHex(AsBytes(sidecar.node_uuid())) + "\n";
  text += "parent     " +
          (sidecar.has_parent() ? IdText(sidecar.parent()) : std::string("none, started afresh")) +
          "\n";
  text += "layout     " + ToHex(AsBytes(sidecar.layout_hash())) + ", " +
          Count(sidecar.layout().tensors_size(), "tensor") + "\n";
  text += ImageLines(sidecar);
  if (sidecar.has_group()) {
    text += "group      " + std::to_string(sidecar.group().data_shards()) + "+" +
            std::to_string(sidecar.group().parity_shards()) + ", position " +
            std::to_string(sidecar.group().position()) + "\n";
  }
  text += StateLines(sidecar, options.state);
  return options.tensors ? text + "\n" + TensorTable(sidecar.layout()) : text;
}

}  // namespace holdfast::cli
