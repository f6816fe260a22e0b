/* Options of a socket that somebody else made: what we change is put back when we leave. */
#ifndef DCO_IO_OPTION_H
#define DCO_IO_OPTION_H

#include <stdbool.h>
#include <stdint.h>

#include "dco.h"

/* Each works on a list of at most DCO_OPTIONS_MAX, `*count` of them in use. */

/* Remembers the value as it is. False: the socket has no such option, or the list is full. */
bool dco_option_save(int fd, struct dco_option *list, unsigned *count, int level, int name);
/* Remembers it and sets another. */
bool dco_option_set(int fd, struct dco_option *list, unsigned *count, int level, int name,
                    int value);
/* SO_SNDBUF or SO_RCVBUF, beyond the limit of the system where that is allowed. */
void dco_option_set_buffer(int fd, struct dco_option *list, unsigned *count, int name,
                           uint32_t bytes);
/* Puts all back, the last one changed first. */
void dco_option_restore(int fd, struct dco_option *list, unsigned *count);

#endif
