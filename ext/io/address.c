#include "io/address.h"

#include <netinet/in.h>
#include <string.h>

void dco_address_fold(const struct sockaddr *sockaddr, struct dco_address *address)
{
    memset(address, 0, sizeof *address);
    if (sockaddr->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)sockaddr;
        address->family = AF_INET;
        address->port = ntohs(in->sin_port);
        memcpy(address->ip, &in->sin_addr, 4);
    } else if (sockaddr->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)sockaddr;
        bool mapped = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);
        address->family = mapped ? AF_INET : AF_INET6;
        address->port = ntohs(in6->sin6_port);
        address->scope = mapped ? 0 : in6->sin6_scope_id;
        memcpy(address->ip, in6->sin6_addr.s6_addr + (mapped ? 12 : 0), mapped ? 4 : 16);
    }
}

_Static_assert(DCO_SOURCE_PREFIX_IPV4 % 8 == 0 && DCO_SOURCE_PREFIX_IPV6 % 8 == 0,
               "the prefix is copied by bytes");

struct dco_prefix dco_address_source(const struct dco_address *address)
{
    struct dco_prefix prefix = {.family = address->family};

    if (address->family == AF_INET)
        prefix.length = DCO_SOURCE_PREFIX_IPV4;
    else if (address->family == AF_INET6)
        prefix.length = DCO_SOURCE_PREFIX_IPV6;
    memcpy(prefix.ip, address->ip, prefix.length / 8);
    return prefix;
}
