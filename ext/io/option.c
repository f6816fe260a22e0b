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

/* The kernel doubles what is asked for, and reports the doubled value. */
void dco_option_set_buffer(int fd, struct dco_option *list, unsigned *count, int name, int force,
                           uint32_t bytes)
{
    int value = (int)bytes;

    if (dco_option_set(fd, list, count, SOL_SOCKET, name, value)) {
        list[*count - 1].saved /= 2;
        setsockopt(fd, SOL_SOCKET, force, &value, sizeof value);
    }
}

void dco_option_restore(int fd, struct dco_option *list, unsigned *count)
{
    while (*count) {
        struct dco_option *option = &list[--*count];
        if (setsockopt(fd, option->level, option->name, &option->saved, sizeof(int)))
            continue; /* nothing to be done about an option that was settable a moment ago */
    }
}
