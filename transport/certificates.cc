#include "transport/certificates.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <functional>
#include <memory>
#include <span>
#include <utility>

#include <arpa/inet.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/random.h"
#include "transport/certificate_files.h"
#include "transport/openssl_types.h"
#include "transport/peer_messages.h"

namespace holdfast::transport {
namespace {

// Clocks of a cluster differ a little.
constexpr std::chrono::minutes kClockSlack{60};
constexpr std::size_t kMaxAddresses = 64;

Result<KeyPtr> NewKey() {
  KeyPtr key(EVP_EC_gen("P-256"));
  if (key == nullptr) {
    return OpensslError(Errc::kInternal, "make a key");
  }
  return key;
}

Status SetSerial(X509* certificate) {
  // 127 random bits: positive, and never the same twice.
  std::string bytes = RandomUid();
  bytes[0] = static_cast<char>(bytes[0] & 0x7f);
  const std::unique_ptr<BIGNUM, OpensslFree<&BN_free>> number(
      BN_bin2bn(reinterpret_cast<const unsigned char*>(bytes.data()),
                static_cast<int>(bytes.size()),
                nullptr));
  if (number == nullptr ||
      BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate)) == nullptr) {
    return OpensslError(Errc::kInternal, "set a serial number");
  }
  return Ok();
}

Status SetTimes(X509* certificate, WallTime now, WallTime until) {
  const std::time_t begin = std::chrono::system_clock::to_time_t(now - kClockSlack);
  const std::time_t end = std::chrono::system_clock::to_time_t(until);
  if (ASN1_TIME_set(X509_getm_notBefore(certificate), begin) == nullptr ||
      ASN1_TIME_set(X509_getm_notAfter(certificate), end) == nullptr) {
    return OpensslError(Errc::kInvalidArgument, "set the validity of a certificate");
  }
  return Ok();
}

Status SetName(X509* certificate, const std::string& name) {
  X509_NAME* subject = X509_get_subject_name(certificate);
  if (X509_NAME_add_entry_by_txt(subject,
                                 "CN",
                                 MBSTRING_ASC,
                                 reinterpret_cast<const unsigned char*>(name.data()),
                                 static_cast<int>(name.size()),
                                 -1,
                                 0) != 1) {
    return OpensslError(Errc::kInternal, "name a certificate");
  }
  return Ok();
}

// "value" is ours, never a user's: OpenSSL's little language would let one add names.
Status AddExtension(X509* certificate, X509* issuer, int nid, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const ExtensionPtr extension(X509V3_EXT_conf_nid(nullptr, &context, nid, value));
  if (extension == nullptr || X509_add_ext(certificate, extension.get(), -1) != 1) {
    return OpensslError(Errc::kInternal, std::string("add ") + OBJ_nid2sn(nid));
  }
  return Ok();
}

struct IpBytes {
  std::array<unsigned char, 16> bytes{};
  int size = 0;
};

IpBytes IpOf(const std::string& text) {
  IpBytes ip;
  if (::inet_pton(AF_INET, text.c_str(), ip.bytes.data()) == 1) {
    ip.size = 4;
  } else if (::inet_pton(AF_INET6, text.c_str(), ip.bytes.data()) == 1) {
    ip.size = 16;
  }
  return ip;
}

bool IsDnsName(const std::string& text) {
  constexpr std::string_view kLetters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.";
  return !text.empty() && text.size() <= 253 && text.front() != '.' && text.front() != '-' &&
         text.find_first_not_of(kLetters) == std::string::npos;
}

Status AddName(STACK_OF(GENERAL_NAME) * names, int type, const void* data, int size) {
  NamePtr name(GENERAL_NAME_new());
  const int kind = type == GEN_IPADD ? V_ASN1_OCTET_STRING : V_ASN1_IA5STRING;
  ASN1_STRING* value = ASN1_STRING_type_new(kind);
  if (name == nullptr || value == nullptr || ASN1_STRING_set(value, data, size) != 1) {
    ASN1_STRING_free(value);
    return OpensslError(Errc::kInternal, "add a name to a certificate");
  }
  GENERAL_NAME_set0_value(name.get(), type, value);
  if (sk_GENERAL_NAME_push(names, name.get()) == 0) {
    return OpensslError(Errc::kInternal, "add a name to a certificate");
  }
  (void)name.release();
  return Ok();
}

Status AddNames(X509* certificate, const NodeOptions& options) {
  const NamesPtr names(sk_GENERAL_NAME_new_null());
  const std::string uri = NodeUri(options.node_uuid);
  HF_TRYV(AddName(names.get(), GEN_URI, uri.data(), static_cast<int>(uri.size())));
  for (const std::string& address : options.addresses) {
    const IpBytes ip = IpOf(address);
    if (ip.size != 0) {
      HF_TRYV(AddName(names.get(), GEN_IPADD, ip.bytes.data(), ip.size));
    } else if (IsDnsName(address)) {
      HF_TRYV(AddName(names.get(), GEN_DNS, address.data(), static_cast<int>(address.size())));
    } else {
      return Error(Errc::kInvalidArgument, "\"" + address + "\" is no IP address and no DNS name");
    }
  }
  if (X509_add1_ext_i2d(certificate, NID_subject_alt_name, names.get(), 0, X509V3_ADD_DEFAULT) !=
      1) {
    return OpensslError(Errc::kInternal, "add the names of a certificate");
  }
  return Ok();
}

Result<std::string> ToPem(const std::function<int(BIO*)>& write) {
  const BioPtr out(BIO_new(BIO_s_secmem()));
  if (out == nullptr || write(out.get()) != 1) {
    return OpensslError(Errc::kInternal, "write PEM");
  }
  char* data = nullptr;
  const long size = BIO_get_mem_data(out.get(), &data);
  return std::string(data, static_cast<std::size_t>(size));
}

// Both or none, unless the machine dies in between: then the key is there alone, and the next call
// says so.
Result<CertificateFiles> WritePair(const std::string& folder,
                                   const std::string& name,
                                   X509* certificate,
                                   EVP_PKEY* key) {
  HF_TRY(const std::string certificate_pem,
         ToPem([certificate](BIO* out) { return PEM_write_bio_X509(out, certificate); }));
  HF_TRY(std::string key_pem, ToPem([key](BIO* out) {
           return PEM_write_bio_PrivateKey(out, key, nullptr, nullptr, 0, nullptr, nullptr);
         }));
  const CertificateFiles files{folder + "/" + name + ".crt", folder + "/" + name + ".key"};
  const Status key_written = WriteNewFile(folder, name + ".key", key_pem, true);
  OPENSSL_cleanse(key_pem.data(), key_pem.size());
  HF_TRYV(key_written);
  const Status written = WriteNewFile(folder, name + ".crt", certificate_pem, false);
  if (!written.has_value()) {
    ::unlink(files.key.c_str());  // it is the one that was made above
    return written.error();
  }
  return files;
}

Result<CertificatePtr> NewCertificate(const std::string& name, EVP_PKEY* key, const X509* issuer) {
  CertificatePtr certificate(X509_new());
  if (certificate == nullptr || X509_set_version(certificate.get(), X509_VERSION_3) != 1 ||
      X509_set_pubkey(certificate.get(), key) != 1) {
    return OpensslError(Errc::kInternal, "make a certificate");
  }
  HF_TRYV(SetSerial(certificate.get()));
  HF_TRYV(SetName(certificate.get(), name));
  const X509_NAME* by = X509_get_subject_name(issuer == nullptr ? certificate.get() : issuer);
  if (X509_set_issuer_name(certificate.get(), by) != 1) {
    return OpensslError(Errc::kInternal, "name the issuer of a certificate");
  }
  return certificate;
}

Status Sign(X509* certificate, EVP_PKEY* key) {
  if (X509_sign(certificate, key, EVP_sha256()) == 0) {
    return OpensslError(Errc::kInternal, "sign a certificate");
  }
  return Ok();
}

Result<CertificatePtr> ReadX509(const std::string& file) {
  HF_TRY(const std::string pem, ReadPemFile(file, false));
  const BioPtr in(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  CertificatePtr certificate(PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr));
  if (certificate == nullptr) {
    return OpensslError(Errc::kCorruption, file + " holds no certificate");
  }
  return certificate;
}

Result<KeyPtr> ReadKey(const std::string& file) {
  HF_TRY(const std::string pem, ReadPemFile(file, true));
  const BioPtr in(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  // No password: a prompt would hang a daemon.
  const auto no_password = [](char*, int, int, void*) { return -1; };
  KeyPtr key(PEM_read_bio_PrivateKey(in.get(), nullptr, no_password, nullptr));
  if (key == nullptr) {
    return OpensslError(Errc::kCorruption, file + " holds no private key without a password");
  }
  return key;
}

Status CheckNodeOptions(const NodeOptions& options) {
  if (options.node_uuid.size() != kUuidBytes) {
    return Error(Errc::kInvalidArgument, "a node uuid has 16 bytes");
  }
  if (options.addresses.size() > kMaxAddresses) {
    return Error(Errc::kInvalidArgument, "more than 64 addresses for one node");
  }
  return Ok();
}

WallTime TimeOf(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) {
    return {};
  }
  return std::chrono::system_clock::from_time_t(::timegm(&parts));
}

std::vector<std::string> AddressesOf(const X509* certificate) {
  std::vector<std::string> addresses;
  const NamesPtr names(static_cast<STACK_OF(GENERAL_NAME)*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    const ASN1_STRING* value = name->type == GEN_IPADD ? name->d.iPAddress
                               : name->type == GEN_DNS ? name->d.dNSName
                                                       : nullptr;
    if (value == nullptr) {
      continue;
    }
    const unsigned char* data = ASN1_STRING_get0_data(value);
    const int size = ASN1_STRING_length(value);
    if (name->type == GEN_DNS) {
      addresses.emplace_back(reinterpret_cast<const char*>(data), static_cast<std::size_t>(size));
      continue;
    }
    std::array<char, INET6_ADDRSTRLEN> text{};
    if ((size == 4 || size == 16) &&
        ::inet_ntop(size == 4 ? AF_INET : AF_INET6, data, text.data(), text.size()) != nullptr) {
      addresses.emplace_back(text.data());
    }
  }
  return addresses;
}

}  // namespace

Result<CertificateFiles> CreateAuthority(const std::string& folder,
                                         const AuthorityOptions& options) {
  HF_TRYV(MakeFolder(folder));
  HF_TRY(const KeyPtr key, NewKey());
  // A name of its own for each cluster: "signed by another cluster" can then be told by name.
  const std::string name = "Holdfast cluster " + ToHex(AsBytes(RandomUid().substr(0, 4)));
  HF_TRY(const CertificatePtr certificate, NewCertificate(name, key.get(), nullptr));
  X509* const self = certificate.get();
  const WallTime now = std::chrono::system_clock::now();
  HF_TRYV(SetTimes(self, now, now + options.validity));
  HF_TRYV(AddExtension(self, self, NID_basic_constraints, "critical,CA:TRUE,pathlen:0"));
  HF_TRYV(AddExtension(self, self, NID_key_usage, "critical,keyCertSign,cRLSign"));
  HF_TRYV(AddExtension(self, self, NID_subject_key_identifier, "hash"));
  HF_TRYV(Sign(self, key.get()));
  return WritePair(folder, "ca", self, key.get());
}

Result<CertificateFiles> IssueNodeCertificate(const std::string& folder,
                                              const NodeOptions& options) {
  HF_TRYV(CheckNodeOptions(options));
  HF_TRY(const CertificatePtr authority, ReadX509(folder + "/ca.crt"));
  HF_TRY(const KeyPtr authority_key, ReadKey(folder + "/ca.key"));
  if (X509_check_private_key(authority.get(), authority_key.get()) != 1) {
    ERR_clear_error();
    return Error(Errc::kInvalidArgument,
                 folder + "/ca.crt and ca.key do not belong together: bring back the right one");
  }
  // Peers look at both: no certificate is of use for longer than its authority.
  const WallTime authority_end = TimeOf(X509_get0_notAfter(authority.get()));
  if (authority_end <= options.now) {
    return Error(Errc::kPermission,
                 folder +
                     "/ca.crt has expired, so that no peer takes what it signs: make a new "
                     "authority in another folder (`holdfast certs init`), and with it the "
                     "certificates of all nodes");
  }
  HF_TRY(const KeyPtr key, NewKey());
  const std::string uuid = UuidText(options.node_uuid);
  HF_TRY(const CertificatePtr certificate,
         NewCertificate("Holdfast node " + uuid, key.get(), authority.get()));
  X509* const self = certificate.get();
  X509* const issuer = authority.get();
  const WallTime until = std::min(options.now + options.validity, authority_end);
  HF_TRYV(SetTimes(self, options.now, until));
  HF_TRYV(AddExtension(self, issuer, NID_basic_constraints, "critical,CA:FALSE"));
  HF_TRYV(AddExtension(self, issuer, NID_key_usage, "critical,digitalSignature"));
  HF_TRYV(AddExtension(self, issuer, NID_ext_key_usage, "serverAuth,clientAuth"));
  HF_TRYV(AddExtension(self, issuer, NID_authority_key_identifier, "keyid"));
  HF_TRYV(AddNames(self, options));
  HF_TRYV(Sign(self, authority_key.get()));
  return WritePair(folder, "node-" + uuid, self, key.get());
}

Result<CertificateFacts> ReadCertificate(const std::string& file) {
  HF_TRY(const CertificatePtr certificate, ReadX509(file));
  CertificateFacts facts;
  facts.subject = SubjectText(certificate.get());
  facts.issuer = IssuerText(certificate.get());
  facts.node_uuid = NodeUuidOf(certificate.get());
  facts.addresses = AddressesOf(certificate.get());
  const ASN1_INTEGER* serial = X509_get0_serialNumber(certificate.get());
  facts.serial = ToHex(std::as_bytes(std::span(
      ASN1_STRING_get0_data(serial), static_cast<std::size_t>(ASN1_STRING_length(serial)))));
  facts.not_before = TimeOf(X509_get0_notBefore(certificate.get()));
  facts.not_after = TimeOf(X509_get0_notAfter(certificate.get()));
  return facts;
}

std::string NodeUri(const std::string& node_uuid) {
  return std::string(kNodeUriStart) + UuidText(node_uuid);
}

}  // namespace holdfast::transport
