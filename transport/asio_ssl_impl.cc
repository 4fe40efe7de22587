// The bodies of Boost.Asio's TLS, compiled once, as common/asio_impl.cc does for the rest.
#include <boost/asio/ssl/impl/src.hpp>
