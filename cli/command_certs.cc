#include <chrono>

#include "cli/commands.h"
#include "cli/json_text.h"
#include "cli/text.h"
#include "transport/certificates.h"
#include "transport/peer_messages.h"

namespace holdfast::cli {
namespace {

std::chrono::hours Days(std::uint32_t days) {
  return std::chrono::hours(24) * days;
}

ExitCode PrintFiles(const Console& console,
                    const transport::CertificateFiles& files,
                    const std::string& next) {
  const auto facts = transport::ReadCertificate(files.certificate);
  if (!facts.has_value()) {
    return console.Fail(facts.error());
  }
  CertificateJsonFacts json;
  json.certificate = files.certificate;
  json.key = files.key;
  json.subject = facts.value().subject;
  json.node_uuid = facts.value().node_uuid;
  json.addresses = facts.value().addresses;
  json.not_after_unix_ms = std::chrono::duration_cast<std::chrono::milliseconds>(
                               facts.value().not_after.time_since_epoch())
                               .count();
  if (console.json) {
    console.out << CertificateJson(json);
    return ExitCode::kOk;
  }
  const auto left = std::chrono::duration_cast<std::chrono::hours>(
      facts.value().not_after - std::chrono::system_clock::now());
  const auto days = (left + std::chrono::hours(12)) / std::chrono::hours(24);
  console.out << SafeText(files.certificate) << "  " << SafeText(facts.value().subject)
              << ", valid for " << days << " days\n"
              << SafeText(files.key) << "  its private key\n"
              << next;
  return ExitCode::kOk;
}

// A shorter life than was asked for is said: the next authority takes time to bring to all nodes.
void NoteTheEnd(const Console& console, const std::string& folder, const std::string& certificate) {
  const auto authority = transport::ReadCertificate(folder + "/ca.crt");
  const auto own = transport::ReadCertificate(certificate);
  if (authority.has_value() && own.has_value() &&
      own.value().not_after == authority.value().not_after) {
    console.Note("it ends when its authority does, " + folder +
                 "/ca.crt, before the days that it should be valid for: make a new authority in "
                 "another folder in time");
  }
}

}  // namespace

ExitCode RunCertsInit(const Context& context, const CertsOptions& options) {
  transport::AuthorityOptions authority;
  authority.validity = Days(options.days == 0 ? 3'650 : options.days);
  const auto files = transport::CreateAuthority(options.folder, authority);
  if (!files.has_value()) {
    return context.console.Fail(files.error());
  }
  return PrintFiles(context.console,
                    files.value(),
                    "Keep this folder safe: who has ca.key can be any node.  Next: holdfast certs "
                    "issue DIR --node UUID\n");
}

ExitCode RunCertsIssue(const Context& context, const CertsOptions& options) {
  const auto uuid = transport::ParseUuid(options.node);
  if (!uuid.has_value()) {
    return context.console.Fail(uuid.error(), ExitCode::kUsage);
  }
  transport::NodeOptions node;
  node.node_uuid = uuid.value();
  node.addresses = options.addresses;
  node.validity = Days(options.days == 0 ? 825 : options.days);
  const auto files = transport::IssueNodeCertificate(options.folder, node);
  if (!files.has_value()) {
    return context.console.Fail(files.error());
  }
  NoteTheEnd(context.console, options.folder, files.value().certificate);
  return PrintFiles(context.console,
                    files.value(),
                    "Bring both files and ca.crt to that node, and ca.key to none.\n");
}

}  // namespace holdfast::cli
