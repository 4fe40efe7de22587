// Private to transport/: the parts of TLS that name OpenSSL.
#pragma once

#include <string>

#include <boost/asio/ssl/context.hpp>
#include <boost/system/error_code.hpp>
#include <openssl/x509.h>

#include "common/clock.h"
#include "common/error.h"
#include "transport/tls.h"

namespace holdfast::transport {

struct TlsContext::Impl {
  Impl() : context(boost::asio::ssl::context::tls) {}

  boost::asio::ssl::context context;
  std::string authority;  // its subject, for messages
  // The earliest end of the certificates by which ours was found good.
  WallTime chain_end = WallTime::max();
};

// Why a certificate was not accepted, and what to do: from OpenSSL's verification.
[[nodiscard]] std::string VerifyText(int verify_error,
                                     const X509* certificate,
                                     const std::string& authority);

// Of a handshake, or of a read or write after it: in TLS 1.3 a client hears only then that its
// certificate was refused.
[[nodiscard]] Error TlsError(const boost::system::error_code& error, const std::string& remote);

}  // namespace holdfast::transport
