#include <string>

#include "cli/export_shard.h"
#include "cli/json_value.h"
#include "common/bytes.h"
#include "layout/dtype.h"

namespace holdfast::cli {
namespace {

// What a reader of the safetensors file alone would miss: tied tensors and types that it shows as
// bytes.
Json TensorsBeyondSafetensors(const proto::Layout& layout) {
  Json aliases = Json::object();
  Json types = Json::object();
  for (const proto::TensorEntry& tensor : layout.tensors()) {
    if (!tensor.alias_of().empty()) {
      aliases[tensor.name()] = tensor.alias_of();
    } else if (!layout::SafetensorsKnows(tensor.dtype())) {
      Json shape = Json::array();
      for (const std::uint64_t length : tensor.local_shape()) {
        shape.push_back(length);
      }
      const auto name = layout::DataTypeName(tensor.dtype());
      Json type = Json::object();
      type["dtype"] = name ? std::string(name.value()) : "unknown";
      type["shape"] = shape;
      types[tensor.name()] = type;
    }
  }
  Json json = Json::object();
  json["aliases"] = aliases;
  json["true_types"] = types;
  return json;
}

std::string Quoted(const std::string& text) {
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

std::string StateDocument(const proto::Sidecar& sidecar) {
  Json head = Json::object();
  head["id"] = IdJson(sidecar.job_name(), sidecar.id());
  head["rank"] = sidecar.rank();
  head["world_size"] = sidecar.world_size();
  head["parent"] = sidecar.has_parent() ? IdJson(sidecar.job_name(), sidecar.parent()) : Json();
  head["tensors"] = TensorsBeyondSafetensors(sidecar.layout());
  std::string text = head.dump(2, ' ', false, Json::error_handler_t::replace);
  text.resize(text.rfind('\n'));  // the closing brace comes last

  // Values go in as the text that the trainer gave: parsed and written again, a float could change.
  // accept() walks without recursion, so no nesting can exhaust the stack.
  std::string state;
  std::string pickles;
  for (const proto::StateItem& item : sidecar.state()) {
    std::string* list = item.has_json() ? &state : &pickles;
    *list += (list->empty() ? "\n    " : ",\n    ") + Quoted(item.name()) + ": ";
    if (!item.has_json()) {
      *list += "\"" + ToHex(AsBytes(item.pickle())) + "\"";
    } else {
      *list += Json::accept(item.json()) ? item.json() : Quoted(item.json());
    }
  }
  text += ",\n  \"state\": {" + state + (state.empty() ? "}" : "\n  }");
  text += ",\n  \"pickle_hex\": {" + pickles + (pickles.empty() ? "}" : "\n  }");
  return text + "\n}\n";
}

}  // namespace holdfast::cli
