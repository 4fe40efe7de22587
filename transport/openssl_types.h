// Private to transport/: OpenSSL's objects as values that free themselves, and its errors as ours.
//
// Threads:   OpenSSL's error queue belongs to the calling thread.
// Ownership: each pointer owns its object.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "common/error.h"

namespace holdfast::transport {

template <auto Free>
struct OpensslFree {
  template <class T>
  void operator()(T* object) const {
    Free(object);
  }
};

inline void FreeExtensions(STACK_OF(GENERAL_NAME) * names) {
  sk_GENERAL_NAME_pop_free(names, GENERAL_NAME_free);
}

using BioPtr = std::unique_ptr<BIO, OpensslFree<&BIO_free_all>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, OpensslFree<&EVP_PKEY_free>>;
using CertificatePtr = std::unique_ptr<X509, OpensslFree<&X509_free>>;
using ExtensionPtr = std::unique_ptr<X509_EXTENSION, OpensslFree<&X509_EXTENSION_free>>;
using NamesPtr = std::unique_ptr<STACK_OF(GENERAL_NAME), OpensslFree<&FreeExtensions>>;
using NamePtr = std::unique_ptr<GENERAL_NAME, OpensslFree<&GENERAL_NAME_free>>;

// The newest error of this thread's queue as text ("no start line"); empties the queue.
[[nodiscard]] std::string OpensslText();

// The error with OpenSSL's words behind "what".
[[nodiscard]] Error OpensslError(Errc code, const std::string& what);

// "CN=Holdfast node …"; "(none)" without a certificate.
[[nodiscard]] std::string SubjectText(const X509* certificate);
[[nodiscard]] std::string IssuerText(const X509* certificate);

inline constexpr std::string_view kNodeUriStart = "holdfast://node/";

// The node that the certificate names: 16 bytes; empty where it names none, or several.
[[nodiscard]] std::string NodeUuidOf(const X509* certificate);

}  // namespace holdfast::transport
