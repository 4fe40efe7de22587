// Ends the TCP connections of this process to one address.  For transport/fabric_* only.
//
// libfabric 1.17's tcp provider crashes when an endpoint is closed while part of a read's answer
// has come (ofi_rxm takes a flushed completion that has no context for one of its own).  When the
// connection ends first, its reads fail in the ordinary way, and the endpoint closes without any.
//
// Threads:   the completion thread, which alone opens and closes such connections.
// Errors:    none: what is no address of IP, or has no connection, is left alone.
#pragma once

#include <cstddef>
#include <string>

namespace holdfast::transport {

// "address": a sockaddr's bytes.  How many were ended.
std::size_t EndConnections(const std::string& address);

}  // namespace holdfast::transport
