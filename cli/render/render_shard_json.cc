#include <string>

#include "cli/json_value.h"
#include "cli/render/render_shard.h"
#include "layout/dtype.h"

namespace holdfast::cli {
namespace {

// A value may come from anybody.  nlohmann writes and destroys nested values by recursion, so one
// that is nested deeper than any real state is shown as text instead.
constexpr int kMaxDepth = 64;

Json StateValue(const std::string& text) {
  bool too_deep = false;
  const auto watch = [&](int depth, nlohmann::detail::parse_event_t, Json&) {
    too_deep = too_deep || depth > kMaxDepth;
    return !too_deep;
  };
  Json value = Json::parse(text, watch, false);
  return too_deep || value.is_discarded() ? Json(text) : value;
}

Json Numbers(const google::protobuf::RepeatedField<std::uint64_t>& numbers) {
  Json list = Json::array();
  for (const std::uint64_t number : numbers) {
    list.push_back(number);
  }
  return list;
}

Json PartJson(const proto::Part& part) {
  Json boxes = Json::array();
  for (const proto::Box& box : part.boxes()) {
    Json one = Json::object();
    one["offset"] = Numbers(box.offset());
    one["length"] = Numbers(box.length());
    boxes.push_back(one);
  }
  Json flat = nullptr;
  if (part.has_flat_range()) {
    flat = Json::object();
    flat["offset"] = part.flat_offset();
    flat["length"] = part.flat_length();
  }
  Json json = Json::object();
  json["opaque"] = part.opaque();
  json["boxes"] = boxes;
  json["flat_range"] = flat;
  return json;
}

const char* ClassName(proto::TensorClass tensor_class) {
  return tensor_class == proto::STABLE     ? "stable"
         : tensor_class == proto::STAGED   ? "staged"
         : tensor_class == proto::CONSTANT ? "static"
                                           : "unknown";
}

const char* KindName(proto::ImageKind kind) {
  return kind == proto::STATIC ? "static" : "dynamic";
}

Json TensorJson(const proto::TensorEntry& tensor) {
  const auto type = layout::DataTypeName(tensor.dtype());
  Json json = Json::object();
  json["name"] = tensor.name();
  json["dtype"] = type ? std::string(type.value()) : "unknown";
  json["global_shape"] = Numbers(tensor.global_shape());
  json["local_shape"] = Numbers(tensor.local_shape());
  json["part"] = PartJson(tensor.part());
  json["class"] = ClassName(tensor.tensor_class());
  json["replica_id"] = tensor.replica_id();
  json["image"] = KindName(tensor.image());
  json["offset_bytes"] = tensor.offset_bytes();
  json["length_bytes"] = tensor.length_bytes();
  json["alias_of"] = tensor.alias_of().empty() ? Json() : Json(tensor.alias_of());
  return json;
}

Json ImagesJson(const proto::Sidecar& sidecar) {
  Json images = Json::array();
  for (const proto::ImageDigest& image : sidecar.images()) {
    Json one = Json::object();
    one["kind"] = KindName(image.kind());
    one["bytes"] = image.length_bytes();
    one["digests"] = image.chunk_crc32c_size();
    one["owner"] = image.has_owner() ? IdJson(sidecar.job_name(), image.owner()) : Json();
    images.push_back(one);
  }
  return images;
}

Json StateJson(const proto::Sidecar& sidecar, bool values) {
  Json items = Json::array();
  for (const proto::StateItem& item : sidecar.state()) {
    Json one = Json::object();
    one["name"] = item.name();
    one["format"] = item.has_json() ? "json" : "pickle";
    one["bytes"] = item.has_json() ? item.json().size() : item.pickle().size();
    if (values && item.has_json()) {
      one["value"] = StateValue(item.json());
    }
    items.push_back(one);
  }
  return items;
}

}  // namespace

std::string ShardJson(const ShownShard& shown, const ShowOptions& options) {
  const proto::Sidecar& sidecar = shown.sidecar;
  Json shard = Json::object();
  shard["rank"] = sidecar.rank();
  shard["place"] = shown.place;
  shard["world_size"] = sidecar.world_size();
  shard["parent"] = sidecar.has_parent() ? IdJson(sidecar.job_name(), sidecar.parent()) : Json();
  shard["layout_hash"] = UidText(sidecar.layout_hash());
  shard["node_uuid"] = UidText(sidecar.node_uuid());
  shard["sealed_unix_ms"] = sidecar.sealed_unix_ms();
  shard["images"] = ImagesJson(sidecar);
  shard["state"] = StateJson(sidecar, options.state);
  shard["tensor_count"] = sidecar.layout().tensors_size();
  if (options.tensors) {
    Json tensors = Json::array();
    for (const proto::TensorEntry& tensor : sidecar.layout().tensors()) {
      tensors.push_back(TensorJson(tensor));
    }
    shard["tensors"] = tensors;
  }
  Json document = Json::object();
  document["snapshot"] = SnapshotJson(shown.snapshot);
  document["shard"] = shard;
  return JsonText(document);
}

}  // namespace holdfast::cli
