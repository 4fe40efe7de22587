#include "cli/json_text.h"

#include "cli/json_value.h"
#include "common/bytes.h"

namespace holdfast::cli {

std::string JsonText(const Json& document) {
  return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Json IdJson(const std::string& job, const proto::SnapshotId& id) {
  return {{"job", job}, {"incarnation", id.incarnation()}, {"step", id.step()}};
}

Json ProblemsJson(const std::vector<Problem>& problems) {
  Json list = Json::array();
  for (const Problem& problem : problems) {
    list.push_back({{"what", problem.what},
                    {"code", ErrcName(problem.error.code)},
                    {"message", problem.error.message}});
  }
  return list;
}

std::string UidText(const std::string& uid) {
  return ToHex(AsBytes(uid));
}

std::string ErrorJson(const Error& error, int exit_code) {
  return JsonText(
      {{"error",
        {{"code", ErrcName(error.code)}, {"message", error.message}, {"exit_code", exit_code}}}});
}

std::string FreedJson(const std::string& job, ByteCount freed_bytes) {
  return JsonText({{"job", job}, {"freed_bytes", freed_bytes}});
}

std::string CertificateJson(const CertificateJsonFacts& facts) {
  const Json uuid = facts.node_uuid.empty() ? Json(nullptr) : Json(UidText(facts.node_uuid));
  return JsonText({{"certificate", facts.certificate},
                   {"key", facts.key},
                   {"subject", facts.subject},
                   {"node_uuid", uuid},
                   {"addresses", facts.addresses},
                   {"not_after", facts.not_after_unix_ms}});
}

std::string ConfigJson(const std::string& file) {
  return JsonText({{"file", file}, {"ok", true}});
}

}  // namespace holdfast::cli
