// The bodies of Boost.Asio, compiled once: every other file includes narrow Asio headers, which
// with BOOST_ASIO_SEPARATE_COMPILATION (a define of @sys//:boost) only declare them.
#include <boost/asio/impl/src.hpp>
