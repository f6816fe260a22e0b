/* TCP connections over the loopback interface, with buffers small enough to fill. */
#ifndef DCO_TESTS_LOOPBACK_H
#define DCO_TESTS_LOOPBACK_H

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dco.h"
#include "tests/check.h"

#define LOOPBACK_WAIT_MS 20000

static const struct dco_transport_config plain_config;

static inline void set_int(int fd, int level, int name, int value)
{
    CHECK(!setsockopt(fd, level, name, &value, sizeof value));
}

static inline int get_int(int fd, int level, int name)
{
    int value;
    socklen_t size = sizeof value;
    CHECK(!getsockopt(fd, level, name, &value, &size));
    return value;
}

/* Segments much smaller than the buffers, so that a window never waits for a timer. */
static inline int stream_socket(int family, int buffer)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    if (buffer) {
        set_int(fd, IPPROTO_TCP, TCP_MAXSEG, 1000);
        set_int(fd, SOL_SOCKET, SO_SNDBUF, buffer);
        set_int(fd, SOL_SOCKET, SO_RCVBUF, buffer);
    }
    return fd;
}

/* Listens on 127.0.0.1, or with AF_INET6 on all addresses, IPv4 included. */
static inline int listen_on(int family, int buffer, struct sockaddr_in *name)
{
    struct sockaddr_in6 any = {.sin6_family = AF_INET6};
    socklen_t size = sizeof any;
    int fd = stream_socket(family, buffer);
    memset(name, 0, sizeof *name);
    name->sin_family = AF_INET;
    name->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (family == AF_INET) {
        CHECK(!bind(fd, (struct sockaddr *)name, sizeof *name));
    } else {
        set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
        CHECK(!bind(fd, (struct sockaddr *)&any, sizeof any));
    }
    CHECK(!listen(fd, 16));
    CHECK(!getsockname(fd, (struct sockaddr *)&any, &size));
    name->sin_port = family == AF_INET ? ((struct sockaddr_in *)&any)->sin_port : any.sin6_port;
    return fd;
}

static inline int connect_to(const struct sockaddr_in *name, int buffer)
{
    int fd = stream_socket(AF_INET, buffer);
    CHECK(!connect(fd, (const struct sockaddr *)name, sizeof *name));
    return fd;
}

/* The near end is of `family`; the far one of IPv4. */
static inline void connect_pair(int family, int buffer, int *near, int *far)
{
    struct sockaddr_in name;
    int listener = listen_on(family, buffer, &name);
    *far = connect_to(&name, buffer);
    *near = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    CHECK(*near >= 0);
    close(listener);
}

static inline bool wait_for(int fd, short events)
{
    struct pollfd one = {.fd = fd, .events = events};
    return poll(&one, 1, LOOPBACK_WAIT_MS) == 1;
}

#endif
