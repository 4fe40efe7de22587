#include "layout/dtype.h"

#include <array>
#include <string>

#include "layout/utf8.h"

namespace holdfast::layout {
namespace {

struct TypeFacts {
  proto::DataType dtype;
  std::string_view name;
  ByteCount element_bytes;
  bool in_safetensors;
};

constexpr std::array kTypes = {
    TypeFacts{proto::BOOL, "BOOL", 1, true},
    TypeFacts{proto::U8, "U8", 1, true},
    TypeFacts{proto::I8, "I8", 1, true},
    TypeFacts{proto::I16, "I16", 2, true},
    TypeFacts{proto::U16, "U16", 2, true},
    TypeFacts{proto::I32, "I32", 4, true},
    TypeFacts{proto::U32, "U32", 4, true},
    TypeFacts{proto::I64, "I64", 8, true},
    TypeFacts{proto::U64, "U64", 8, true},
    TypeFacts{proto::F16, "F16", 2, true},
    TypeFacts{proto::BF16, "BF16", 2, true},
    TypeFacts{proto::F32, "F32", 4, true},
    TypeFacts{proto::F64, "F64", 8, true},
    TypeFacts{proto::F8_E4M3, "F8_E4M3", 1, true},
    TypeFacts{proto::F8_E5M2, "F8_E5M2", 1, true},
    TypeFacts{proto::F8_E8M0, "F8_E8M0", 1, true},
    TypeFacts{proto::C64, "C64", 8, true},
    TypeFacts{proto::C128, "C128", 16, false},
    TypeFacts{proto::F8_E4M3FNUZ, "F8_E4M3FNUZ", 1, false},
    TypeFacts{proto::F8_E5M2FNUZ, "F8_E5M2FNUZ", 1, false},
    TypeFacts{proto::F4_X2, "F4_X2", 1, false},
};

// The table is indexed by the enumeration's number less one, and complete.
constexpr bool TableIsInOrder() {
  for (std::size_t i = 0; i < kTypes.size(); ++i) {
    if (static_cast<std::size_t>(kTypes[i].dtype) != i + 1) {
      return false;
    }
  }
  return kTypes.size() == static_cast<std::size_t>(proto::DataType_MAX);
}

static_assert(TableIsInOrder());

const TypeFacts* Find(proto::DataType dtype) {
  const auto number = static_cast<int>(dtype);
  if (number < 1 || number > static_cast<int>(kTypes.size())) {
    return nullptr;
  }
  return &kTypes[static_cast<std::size_t>(number - 1)];
}

Error UnknownNumber(proto::DataType dtype) {
  return Error(Errc::kInvalidArgument,
               "data type number " + std::to_string(static_cast<int>(dtype)) +
                   " is not known: it was written by newer software, or is damaged");
}

}  // namespace

Result<ByteCount> ElementBytes(proto::DataType dtype) {
  const TypeFacts* facts = Find(dtype);
  if (facts == nullptr) {
    return UnknownNumber(dtype);
  }
  return facts->element_bytes;
}

Result<std::string_view> DataTypeName(proto::DataType dtype) {
  const TypeFacts* facts = Find(dtype);
  if (facts == nullptr) {
    return UnknownNumber(dtype);
  }
  return facts->name;
}

Result<proto::DataType> ParseDataType(std::string_view name) {
  for (const TypeFacts& facts : kTypes) {
    if (facts.name == name) {
      return facts.dtype;
    }
  }
  return Error(Errc::kInvalidArgument, "unknown data type " + Quoted(name));
}

Result<std::string_view> HeaderDataTypeName(proto::DataType dtype) {
  const TypeFacts* facts = Find(dtype);
  if (facts == nullptr) {
    return UnknownNumber(dtype);
  }
  return facts->in_safetensors ? facts->name : std::string_view("U8");
}

bool SafetensorsKnows(proto::DataType dtype) {
  const TypeFacts* facts = Find(dtype);
  return facts != nullptr && facts->in_safetensors;
}

Result<proto::DataType> ParseHeaderDataType(std::string_view name) {
  HF_TRY(const proto::DataType dtype, ParseDataType(name));
  if (!SafetensorsKnows(dtype)) {
    return Error(Errc::kInvalidArgument,
                 "data type " + Quoted(name) + " does not exist in safetensors headers");
  }
  return dtype;
}

}  // namespace holdfast::layout
