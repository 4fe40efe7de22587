// The only file that includes nlohmann-json.  Its SAX parser reports keys one by one, so a name
// that occurs twice is seen (a document tree would keep the last silently), keeps no tree in memory
// and does not recurse; everything it hands over is checked at once, by the grammar of the header:
//
//   { "<tensor>": { "dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24] }, ...,
//     "__metadata__": { "<text>": "<text>", ... } }
#include <algorithm>
#include <unordered_set>
#include <utility>

#include <nlohmann/json.hpp>

#include "layout/dtype.h"
#include "layout/image.h"
#include "layout/image_header.h"
#include "layout/utf8.h"

namespace holdfast::layout {
namespace {

using Json = nlohmann::json;

Error Corrupt(std::string what) {
  return Error(Errc::kCorruption, "image header: " + std::move(what));
}

// A tensor's offsets count from the end of the header, as in the file.
struct RawTensor {
  HeaderTensor tensor;
  ByteCount begin = 0;
  ByteCount end = 0;
};

// Receives the parser's events.  A false return stops the parser; error_ then says why.
class HeaderEvents final : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return Unexpected("null"); }

  bool boolean(bool) override { return Unexpected("a boolean"); }

  bool number_integer(number_integer_t) override { return Unexpected("a negative number"); }

  bool number_float(number_float_t, const string_t&) override {
    return Unexpected("a number that is not an integer below 2^64");
  }

  bool binary(binary_t&) override { return Unexpected("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (state_ == State::kShapeItems) {
      if (current_.tensor.shape.size() == kMaxDims) {
        return Fail("tensor " + Quoted(current_.tensor.name) + " has more than 16 dimensions");
      }
      current_.tensor.shape.push_back(value);
      return true;
    }
    if (state_ == State::kOffsetItems && offsets_seen_ < 2) {
      (offsets_seen_ == 0 ? current_.begin : current_.end) = value;
      ++offsets_seen_;
      return true;
    }
    return Unexpected("a number");
  }

  bool string(string_t& value) override {
    if (state_ == State::kMetadata) {
      return true;
    }
    if (state_ != State::kDtype) {
      return Unexpected("a string");
    }
    const auto dtype = ParseHeaderDataType(value);
    if (!dtype) {
      return Fail("tensor " + Quoted(current_.tensor.name) + ": " + dtype.error().message);
    }
    current_.tensor.dtype = dtype.value();
    state_ = State::kTensor;
    return true;
  }

  bool start_object(std::size_t) override {
    switch (state_) {
      case State::kStart:
        state_ = State::kHeader;
        return true;
      case State::kTensorValue:
        state_ = State::kTensor;
        return true;
      case State::kMetadataValue:
        state_ = State::kMetadata;
        return true;
      default:
        return Unexpected("an object");
    }
  }

  bool key(string_t& name) override {
    if (state_ == State::kHeader) {
      return HeaderKey(name);
    }
    if (state_ == State::kTensor) {
      return TensorKey(name);
    }
    return state_ == State::kMetadata ? true : Unexpected("a key");
  }

  bool end_object() override {
    if (state_ == State::kTensor) {
      return EndTensor();
    }
    state_ = state_ == State::kMetadata ? State::kHeader : State::kEnd;
    return true;
  }

  bool start_array(std::size_t) override {
    if (state_ == State::kShape) {
      state_ = State::kShapeItems;
    } else if (state_ == State::kOffsets) {
      state_ = State::kOffsetItems;
    } else {
      return Unexpected("an array");
    }
    return true;
  }

  bool end_array() override {
    state_ = State::kTensor;
    return true;
  }

  bool parse_error(std::size_t position,
                   const std::string&,
                   const nlohmann::detail::exception&) override {
    return Fail("not JSON in UTF-8 at byte " + std::to_string(position));
  }

  std::string& error() { return error_; }

  std::vector<RawTensor>& tensors() { return tensors_; }

 private:
  enum class State {
    kStart,          // before the outer object
    kHeader,         // in it: a tensor's name or its end is next
    kTensorValue,    // after a tensor's name
    kTensor,         // in a tensor's object
    kDtype,          // after "dtype"
    kShape,          // after "shape"
    kShapeItems,     // in its array
    kOffsets,        // after "data_offsets"
    kOffsetItems,    // in its array
    kMetadataValue,  // after "__metadata__"
    kMetadata,       // in its object
    kEnd,            // after the outer object
  };

  bool Fail(std::string what) {
    error_ = std::move(what);
    return false;
  }

  bool Unexpected(std::string_view what) {
    const std::string where =
        state_ == State::kStart || state_ == State::kHeader || state_ == State::kEnd
            ? "outside of a tensor"
            : "near tensor " + Quoted(current_.tensor.name);
    return Fail(std::string(what) + " stands " + where + ", where safetensors has none");
  }

  bool HeaderKey(std::string_view name) {
    if (name == "__metadata__") {
      state_ = State::kMetadataValue;
      return std::exchange(has_metadata_, true) ? Fail("\"__metadata__\" occurs twice") : true;
    }
    if (name.empty() || name.size() > kMaxNameBytes) {
      return Fail("tensor " + Quoted(name) + ": a name must have 1 to 1024 bytes");
    }
    if (tensors_.size() == kMaxTensors) {
      return Fail("more than 1,000,000 tensors");
    }
    current_ = {};
    current_.tensor.name = name;
    has_dtype_ = has_shape_ = has_offsets_ = false;
    offsets_seen_ = 0;
    state_ = State::kTensorValue;
    return true;
  }

  bool TensorKey(std::string_view name) {
    bool* seen = nullptr;
    if (name == "dtype") {
      state_ = State::kDtype;
      seen = &has_dtype_;
    } else if (name == "shape") {
      state_ = State::kShape;
      seen = &has_shape_;
    } else if (name == "data_offsets") {
      state_ = State::kOffsets;
      seen = &has_offsets_;
    } else {
      return Fail("tensor " + Quoted(current_.tensor.name) + " has an unknown key " + Quoted(name));
    }
    if (*seen) {
      return Fail("tensor " + Quoted(current_.tensor.name) + " has the key " + Quoted(name) +
                  " twice");
    }
    *seen = true;
    return true;
  }

  bool EndTensor() {
    if (!has_dtype_ || !has_shape_ || offsets_seen_ != 2) {
      return Fail("tensor " + Quoted(current_.tensor.name) +
                  " lacks its dtype, its shape or one of its two data_offsets");
    }
    tensors_.push_back(std::move(current_));
    current_ = {};
    state_ = State::kHeader;
    return true;
  }

  State state_ = State::kStart;
  RawTensor current_;
  bool has_dtype_ = false;
  bool has_shape_ = false;
  bool has_offsets_ = false;
  bool has_metadata_ = false;
  int offsets_seen_ = 0;
  std::string error_;
  std::vector<RawTensor> tensors_;
};

Result<std::vector<RawTensor>> ParseHeaderJson(std::string_view json) {
  // A byte order mark or spaces in front are JSON to some parsers; to safetensors they are not.
  if (json.empty() || json.front() != '{') {
    return Corrupt("its JSON does not begin with \"{\"");
  }
  HeaderEvents events;
  try {
    if (!Json::sax_parse(json.begin(), json.end(), &events)) {
      return Corrupt(std::move(events.error()));
    }
  } catch (const std::exception& e) {
    return Corrupt(std::string("the JSON parser gave up: ") + e.what());
  }
  return std::move(events.tensors());
}

Status CheckUniqueNames(const std::vector<RawTensor>& raw) {
  std::unordered_set<std::string_view> names;
  names.reserve(raw.size());
  for (const RawTensor& r : raw) {
    if (!names.insert(r.tensor.name).second) {
      return Corrupt("tensor " + Quoted(r.tensor.name) + " occurs twice");
    }
  }
  return Ok();
}

// Length by dtype and shape, which the offsets must repeat.
Status CheckLength(const RawTensor& r) {
  HF_TRY(const ByteCount element_bytes, ElementBytes(r.tensor.dtype));
  const auto elements = ElementCount(r.tensor.shape);
  if (!elements) {
    return Corrupt("tensor " + Quoted(r.tensor.name) + ": " + elements.error().message);
  }
  if (r.end < r.begin || r.end - r.begin != elements.value() * element_bytes) {
    return Corrupt("tensor " + Quoted(r.tensor.name) + " of shape " + ShapeText(r.tensor.shape) +
                   " cannot lie in bytes " + std::to_string(r.begin) + " to " +
                   std::to_string(r.end));
  }
  return Ok();
}

}  // namespace

Result<ByteCount> HeaderBytesFromPrefix(ByteView prefix, ByteCount image_bytes) {
  if (prefix.size() < kHeaderLengthBytes || image_bytes < kHeaderLengthBytes) {
    return Corrupt("the file has fewer than 8 bytes");
  }
  const std::uint64_t json_bytes = LoadLe64(prefix.data());
  if (json_bytes > kMaxHeaderJsonBytes) {
    return Corrupt("a length of " + std::to_string(json_bytes) +
                   " bytes, safetensors allows 100,000,000");
  }
  if (json_bytes > image_bytes - kHeaderLengthBytes) {
    return Corrupt("a length of " + std::to_string(json_bytes) + " bytes in a file of " +
                   std::to_string(image_bytes));
  }
  return kHeaderLengthBytes + json_bytes;
}

Result<std::vector<HeaderTensor>> ReadImageHeader(ByteView head, ByteCount image_bytes) {
  HF_TRY(const ByteCount header_bytes, HeaderBytesFromPrefix(head, image_bytes));
  if (head.size() < header_bytes) {
    return Corrupt("only " + std::to_string(head.size()) + " of its " +
                   std::to_string(header_bytes) + " bytes are there");
  }
  HF_TRY(
      std::vector<RawTensor> raw,
      ParseHeaderJson(AsText(head.subspan(kHeaderLengthBytes, header_bytes - kHeaderLengthBytes))));
  HF_TRYV(CheckUniqueNames(raw));
  std::stable_sort(raw.begin(), raw.end(), [](const RawTensor& a, const RawTensor& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  const ByteCount data_bytes = image_bytes - header_bytes;
  ByteCount at = 0;
  std::vector<HeaderTensor> tensors;
  tensors.reserve(raw.size());
  for (RawTensor& r : raw) {
    HF_TRYV(CheckLength(r));
    if (r.begin != at) {
      return Corrupt("tensor " + Quoted(r.tensor.name) + " begins at byte " +
                     std::to_string(r.begin) + " of the data, the one before it ends at " +
                     std::to_string(at));
    }
    if (r.end > data_bytes) {
      return Corrupt("tensor " + Quoted(r.tensor.name) + " ends at byte " + std::to_string(r.end) +
                     " of the data, which has " + std::to_string(data_bytes));
    }
    at = r.end;
    r.tensor.offset_bytes = header_bytes + r.begin;
    r.tensor.length_bytes = r.end - r.begin;
    tensors.push_back(std::move(r.tensor));
  }
  if (at != data_bytes) {
    return Corrupt("the tensors end at byte " + std::to_string(at) + " of the data, which has " +
                   std::to_string(data_bytes));
  }
  return tensors;
}

}  // namespace holdfast::layout
