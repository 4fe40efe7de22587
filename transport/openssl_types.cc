#include "transport/openssl_types.h"

#include <array>
#include <string_view>

#include <openssl/err.h>

#include "transport/peer_messages.h"

namespace holdfast::transport {
namespace {

std::string NameText(const X509_NAME* name) {
  const BioPtr out(BIO_new(BIO_s_mem()));
  if (name == nullptr || out == nullptr ||
      X509_NAME_print_ex(out.get(), name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) < 0) {
    return "(unreadable)";
  }
  char* data = nullptr;
  const long size = BIO_get_mem_data(out.get(), &data);
  return {data, static_cast<std::size_t>(size)};
}

}  // namespace

std::string OpensslText() {
  // The last one is the outermost, the first one the cause.
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  if (code == 0) {
    return "no reason given";
  }
  const char* reason = ERR_reason_error_string(code);
  if (reason != nullptr) {
    return reason;
  }
  std::array<char, 256> text{};
  ERR_error_string_n(code, text.data(), text.size());
  return text.data();
}

Error OpensslError(Errc code, const std::string& what) {
  return Error(code, what + ": " + OpensslText());
}

std::string SubjectText(const X509* certificate) {
  return certificate == nullptr ? "(none)" : NameText(X509_get_subject_name(certificate));
}

std::string IssuerText(const X509* certificate) {
  return certificate == nullptr ? "(none)" : NameText(X509_get_issuer_name(certificate));
}

std::string NodeUuidOf(const X509* certificate) {
  if (certificate == nullptr) {
    return {};
  }
  const NamesPtr names(static_cast<STACK_OF(GENERAL_NAME)*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  std::string uuid;
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type != GEN_URI) {
      continue;
    }
    const ASN1_STRING* uri = name->d.uniformResourceIdentifier;
    // With its length: a zero byte must not end the comparison.
    const std::string_view text(reinterpret_cast<const char*>(ASN1_STRING_get0_data(uri)),
                                static_cast<std::size_t>(ASN1_STRING_length(uri)));
    if (!text.starts_with(kNodeUriStart)) {
      continue;
    }
    auto parsed = ParseUuid(text.substr(kNodeUriStart.size()));
    if (!parsed.has_value() || !uuid.empty()) {
      return {};
    }
    uuid = std::move(parsed).value();
  }
  return uuid;
}

}  // namespace holdfast::transport
