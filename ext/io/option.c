#define _GNU_SOURCE
#include "io/option.h"

#include <sys/socket.h>

bool dco_option_save(int fd, struct dco_option *list, unsigned *count, int level, int name)
{
    struct dco_option *option = &list[*count];
    socklen_t size = sizeof option->saved;

    if (*count == DCO_OPTIONS_MAX || getsockopt(fd, level, name, &option->saved, &size))
        return false;
    option->level = level;
    option->name = name;
    ++*count;
    return true;
}

bool dco_option_set(int fd, struct dco_option *list, unsigned *count, int level, int name,
                    int value)
{
    if (!dco_option_save(fd, list, count, level, name))
        return false;
    if (setsockopt(fd, level, name, &value, sizeof value)) {
        --*count;
        return false;
    }
    return true;
}

/* Within rmem_max or wmem_max, or, with CAP_NET_ADMIN, beyond. */
static bool force_buffer(int fd, int name, int bytes)
{
    int force = name == SO_SNDBUF ? SO_SNDBUFFORCE : SO_RCVBUFFORCE;

    return !setsockopt(fd, SOL_SOCKET, force, &bytes, sizeof bytes)
           || !setsockopt(fd, SOL_SOCKET, name, &bytes, sizeof bytes);
}

void dco_option_set_buffer(int fd, struct dco_option *list, unsigned *count, int name,
                           uint32_t bytes)
{
    if (dco_option_save(fd, list, count, SOL_SOCKET, name))
        force_buffer(fd, name, (int)bytes);
}

/* The kernel doubles the size of a buffer that is asked for, and reports the doubled value. */
static bool restore(int fd, const struct dco_option *option)
{
    if (option->level == SOL_SOCKET && (option->name == SO_SNDBUF || option->name == SO_RCVBUF))
        return force_buffer(fd, option->name, option->saved / 2);
    return !setsockopt(fd, option->level, option->name, &option->saved, sizeof(int));
}

void dco_option_restore(int fd, struct dco_option *list, unsigned *count)
{
    while (*count)
        if (!restore(fd, &list[--*count]))
            continue; /* nothing to be done about an option that was settable a moment ago */
}
