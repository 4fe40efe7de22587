#include "transport/tls.h"

#include <algorithm>
#include <ctime>
#include <utility>

#include <boost/asio/error.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ssl/error.hpp>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

#include "common/bytes.h"
#include "transport/certificate_files.h"
#include "transport/certificates.h"
#include "transport/openssl_types.h"
#include "transport/tls_impl.h"

namespace holdfast::transport {
namespace {

namespace asio = boost::asio;

// An operator's own authority may have signed ours.
constexpr int kVerifyDepth = 3;

using StoreContextPtr = std::unique_ptr<X509_STORE_CTX, OpensslFree<&X509_STORE_CTX_free>>;

Status SetRules(SSL_CTX* context) {
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_mode(context, SSL_MODE_NO_AUTO_CHAIN);  // peers have the authority themselves
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  SSL_CTX_set_verify_depth(context, kVerifyDepth);
  if (SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
      SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) != 1) {
    return OpensslError(Errc::kInternal, "ask for TLS 1.3");
  }
  return Ok();
}

Status UseAuthority(SSL_CTX* context, const std::string& file, std::string* subject) {
  HF_TRY(const std::string pem, ReadPemFile(file, false));
  const BioPtr in(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  X509_STORE* store = SSL_CTX_get_cert_store(context);
  while (true) {
    const CertificatePtr authority(PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr));
    if (authority == nullptr) {
      break;
    }
    if (X509_STORE_add_cert(store, authority.get()) != 1 ||
        SSL_CTX_add_client_CA(context, authority.get()) != 1) {
      return OpensslError(Errc::kCorruption, "take the authority of " + file);
    }
    *subject += (subject->empty() ? "" : ", ") + SubjectText(authority.get());
  }
  ERR_clear_error();  // the end of the file
  if (subject->empty()) {
    return Error(Errc::kCorruption, file + " holds no certificate");
  }
  return Ok();
}

Status UseCertificate(SSL_CTX* context, const TlsFiles& files) {
  HF_TRY(const std::string chain, ReadPemFile(files.certificate, false));
  HF_TRY(const std::string key_pem, ReadPemFile(files.key, true));
  if (SSL_CTX_use_certificate_chain_file(context, files.certificate.c_str()) != 1) {
    return OpensslError(Errc::kCorruption, files.certificate + " holds no certificate");
  }
  const BioPtr in(BIO_new_mem_buf(key_pem.data(), static_cast<int>(key_pem.size())));
  const auto no_password = [](char*, int, int, void*) { return -1; };
  const KeyPtr key(PEM_read_bio_PrivateKey(in.get(), nullptr, no_password, nullptr));
  if (key == nullptr) {
    return OpensslError(Errc::kCorruption, files.key + " holds no private key without a password");
  }
  if (SSL_CTX_use_PrivateKey(context, key.get()) != 1 || SSL_CTX_check_private_key(context) != 1) {
    ERR_clear_error();
    return Error(
        Errc::kInvalidArgument,
        files.key + " is not the key of " + files.certificate + ": bring both files of one node");
  }
  return Ok();
}

// The epoch where OpenSSL cannot read it.
WallTime EndOf(const X509* certificate) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &parts) != 1) {
    return {};
  }
  return std::chrono::system_clock::from_time_t(::timegm(&parts));
}

// Returns the earliest end of all certificates up to the authority.
Result<WallTime> CheckPurpose(SSL_CTX* context,
                              int purpose,
                              const TlsFiles& files,
                              const std::string& authority) {
  X509* own = SSL_CTX_get0_certificate(context);
  STACK_OF(X509)* chain = nullptr;
  SSL_CTX_get0_chain_certs(context, &chain);
  const StoreContextPtr check(X509_STORE_CTX_new());
  if (check == nullptr ||
      X509_STORE_CTX_init(check.get(), SSL_CTX_get_cert_store(context), own, chain) != 1) {
    return OpensslError(Errc::kInternal, "check a certificate");
  }
  X509_STORE_CTX_set_purpose(check.get(), purpose);
  if (X509_verify_cert(check.get()) != 1) {
    const int why = X509_STORE_CTX_get_error(check.get());
    ERR_clear_error();
    return Error(
        Errc::kPermission,
        files.certificate + ": " + VerifyText(why, own, authority) + " (" + files.authority + ")");
  }
  const STACK_OF(X509)* verified = X509_STORE_CTX_get0_chain(check.get());
  WallTime end = EndOf(own);
  for (int i = 0; i < sk_X509_num(verified); ++i) {
    end = std::min(end, EndOf(sk_X509_value(verified, i)));
  }
  return end;
}

// As the peers will look at it, so that a daemon that nobody accepts does not start: it connects,
// and is connected to.
Result<WallTime> CheckOwn(SSL_CTX* context, const TlsFiles& files, const std::string& authority) {
  const X509* own = SSL_CTX_get0_certificate(context);
  if (NodeUuidOf(own).empty()) {
    return Error(Errc::kPermission,
                 files.certificate + " (" + SubjectText(own) +
                     ") names no node: make one with `holdfast certs issue`");
  }
  HF_TRYV(CheckPurpose(context, X509_PURPOSE_SSL_CLIENT, files, authority));
  return CheckPurpose(context, X509_PURPOSE_SSL_SERVER, files, authority);
}

Result<std::unique_ptr<TlsContext::Impl>> MakeImpl(const TlsFiles& files, bool check) {
  std::unique_ptr<TlsContext::Impl> impl;
  try {
    impl = std::make_unique<TlsContext::Impl>();
  } catch (const boost::system::system_error& error) {
    return Error(Errc::kInternal, std::string("start OpenSSL: ") + error.what());
  }
  SSL_CTX* context = impl->context.native_handle();
  HF_TRYV(SetRules(context));
  HF_TRYV(UseAuthority(context, files.authority, &impl->authority));
  HF_TRYV(UseCertificate(context, files));
  if (check) {
    HF_TRY(impl->chain_end, CheckOwn(context, files, impl->authority));
  }
  return impl;
}

Result<std::shared_ptr<const TlsContext>> MakeContext(const TlsFiles& files, bool check) {
  HF_TRY(auto impl, MakeImpl(files, check));
  return std::make_shared<const TlsContext>(std::move(impl));
}

}  // namespace

TlsContext::TlsContext(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {
  const X509* own = SSL_CTX_get0_certificate(impl_->context.native_handle());
  node_uuid_ = NodeUuidOf(own);
  not_after_ = std::min(EndOf(own), impl_->chain_end);
}

TlsContext::~TlsContext() = default;

Result<std::shared_ptr<const TlsContext>> TlsContext::Load(const TlsFiles& files) {
  return MakeContext(files, true);
}

Result<std::shared_ptr<const TlsContext>> TlsContext::LoadUnchecked(const TlsFiles& files) {
  return MakeContext(files, false);
}

std::string VerifyText(int verify_error, const X509* certificate, const std::string& authority) {
  std::string text = "the certificate " + SubjectText(certificate) + ", issued by " +
                     IssuerText(certificate) + ", is not accepted: ";
  switch (verify_error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return text +
             "it has expired; issue a new one (`holdfast certs issue`) and restart the daemon that "
             "shows it";
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return text + "it is not valid yet; compare the clocks of the two nodes";
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
      return text + "it is not of this cluster, whose authority is " + authority +
             "; issue it with that authority's key, or find out who connects";
    case X509_V_ERR_INVALID_PURPOSE:
      return text + "it is not made for both sides of TLS; issue one with `holdfast certs issue`";
    default:
      return text + X509_verify_cert_error_string(verify_error);
  }
}

namespace {

Error SslReasonError(unsigned long code, const std::string& remote) {
  const char* words = ERR_reason_error_string(code);
  const std::string reason = words == nullptr ? "TLS error" : words;
  switch (ERR_GET_REASON(code)) {
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
      return Error(Errc::kPermission,
                   remote + " shows no certificate; give its daemon one (`holdfast certs issue`)");
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
    case SSL_R_BAD_RECORD_TYPE:
      return Error(Errc::kPermission,
                   remote + " does not speak TLS (" + reason +
                       "); configure certificates on both nodes, or on none");
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
      return Error(Errc::kPermission, remote + " does not speak TLS 1.3 (" + reason + ")");
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
    case SSL_R_TLSV1_ALERT_DECRYPT_ERROR:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
    case SSL_R_TLSV1_ALERT_ACCESS_DENIED:
      return Error(
          Errc::kPermission,
          remote + " does not accept this node's certificate (" + reason + "); its log says why");
    default:
      return Error(Errc::kPermission, "TLS with " + remote + " failed: " + reason);
  }
}

}  // namespace

Error TlsError(const boost::system::error_code& error, const std::string& remote) {
  if (error.category() == asio::error::get_ssl_category()) {
    return SslReasonError(static_cast<unsigned long>(error.value()), remote);
  }
  if (error == asio::error::operation_aborted || error == asio::error::bad_descriptor) {
    return Error(Errc::kCancelled, "the connection with " + remote + " was closed");
  }
  if (error == asio::error::eof || error == asio::ssl::error::stream_truncated ||
      error == asio::error::connection_reset || error == asio::error::broken_pipe) {
    return Error(Errc::kUnavailable, remote + " closed the connection");
  }
  if (error.category() == asio::ssl::error::get_stream_category()) {
    return Error(Errc::kUnavailable, "TLS with " + remote + " ended: " + error.message());
  }
  return ErrnoError(error.value(), "connection with " + remote);
}

Status CheckPeerSecurity(const PeerSecurity& security) {
  boost::system::error_code error;
  const auto address = asio::ip::make_address(security.listen_address, error);
  if (error) {
    return Error(Errc::kInvalidArgument,
                 "\"" + security.listen_address + "\" is no IP address to listen on");
  }
  if (security.tls || security.allow_insecure || address.is_loopback()) {
    return Ok();
  }
  return Error(Errc::kPermission,
               "peers would reach " + security.listen_address +
                   " without TLS: configure certificates (`holdfast certs init`, `holdfast certs "
                   "issue`), listen on a loopback address, or set peer.allow_insecure = true "
                   "where everybody on the network may read and forge what peers say");
}

}  // namespace holdfast::transport
