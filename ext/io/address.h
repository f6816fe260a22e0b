/* Addresses as the kernel writes them, and as the engine does: see dco.h. */
#ifndef DCO_IO_ADDRESS_H
#define DCO_IO_ADDRESS_H

#include <sys/socket.h>

#include "dco.h"

/* Folded: an IPv4-mapped IPv6 address becomes IPv4. Any other family becomes none. */
void dco_address_fold(const struct sockaddr *sockaddr, struct dco_address *address);

/* The network that counts as one source where what an unknown sender may hold is limited:
 * DCO_SOURCE_PREFIX_IPV4 or DCO_SOURCE_PREFIX_IPV6 bits of the address, the rest zero. */
struct dco_prefix dco_address_source(const struct dco_address *address);

#endif
