// Who may talk to whom: this node's certificate, the authority that it trusts, and the rule for
// running without either.
//
// Mutual TLS 1.3 and nothing older; both sides show a certificate of the cluster's authority, and
// the node uuid in it (a URI, certificates.h) says who they are.  Addresses and host names are not
// compared: they are hints, a node may have several, and pods get new ones.
//
// Threads:   Load on any thread; the context is constant afterwards.
// Errors:    say which file or certificate, why, and what to do.
#pragma once

#include <memory>
#include <string>

#include "common/clock.h"
#include "common/result.h"

namespace holdfast::transport {

struct TlsFiles {
  std::string authority;    // ca.crt: one or more certificates
  std::string certificate;  // of this node, then intermediates if there are any
  std::string key;          // of this node, mode 0600 (0640)
};

class TlsContext {
 public:
  struct Impl;

  explicit TlsContext(std::unique_ptr<Impl> impl);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  // kPermission: the certificate names no node, is out of its time, or is not the authority's.
  // kCorruption, kInvalidArgument, kNotFound: a file.
  [[nodiscard]] static Result<std::shared_ptr<const TlsContext>> Load(const TlsFiles& files);

  // For tests: a certificate that no peer would accept.
  [[nodiscard]] static Result<std::shared_ptr<const TlsContext>> LoadUnchecked(
      const TlsFiles& files);

  // 16 bytes: what the certificate says.
  [[nodiscard]] const std::string& node_uuid() const { return node_uuid_; }

  // For a warning in time: of the certificate or of its authority, whichever ends first.
  [[nodiscard]] WallTime not_after() const { return not_after_; }

  [[nodiscard]] Impl& impl() const { return *impl_; }

 private:
  const std::unique_ptr<Impl> impl_;
  std::string node_uuid_;
  WallTime not_after_;
};

struct PeerSecurity {
  std::string listen_address;  // an IP address
  bool tls = false;            // certificates are configured
  bool allow_insecure = false;
};

// What the configuration must satisfy before a daemon listens: TLS, or loopback only, or the
// operator's explicit word.  kInvalidArgument: no IP address; kPermission: the rule.  Pure.
[[nodiscard]] Status CheckPeerSecurity(const PeerSecurity& security);

}  // namespace holdfast::transport
