/* A connection taken and given back, what it receives in any pieces, and a listener. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>

#include "codec/tcpframe.h"
#include "io/address.h"
#include "io/tcp.h"
#include "io/tcp_listen.h"
#include "tests/loopback.h"

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif

static uint8_t arena[200000], bytes[200000];

static int try_attach(int fd)
{
    struct dco_tcp tcp;
    int error = dco_tcp_attach(&tcp, fd, &plain_config);
    CHECK(error ? tcp.fd < 0 : tcp.fd > 2);
    dco_tcp_detach(&tcp);
    dco_tcp_detach(&tcp);
    close(fd);
    return error;
}

static void what_is_refused(void)
{
    struct sockaddr_in name;
    int pipes[2], units[2], near, far;
    CHECK(!pipe(pipes) && !socketpair(AF_UNIX, SOCK_STREAM, 0, units));
    close(pipes[1]);
    close(units[1]);
    CHECK(try_attach(pipes[0]) == -ENOTSOCK);
    CHECK(try_attach(units[0]) == -EAFNOSUPPORT);
    CHECK(try_attach(socket(AF_INET, SOCK_DGRAM, 0)) == -EPROTONOSUPPORT);
    CHECK(try_attach(socket(AF_INET6, SOCK_STREAM, 0)) == -ENOTCONN);
    CHECK(try_attach(listen_on(AF_INET, 0, &name)) == -EINVAL);
    struct dco_tcp tcp;
    CHECK(dco_tcp_attach(&tcp, 9999, &plain_config) == -EBADF);
    connect_pair(AF_INET, 0, &near, &far);
    close(far);
    CHECK(wait_for(near, POLLIN));
    CHECK(try_attach(near) == -ENOTCONN);
    connect_pair(AF_INET, 0, &near, &far);
    CHECK(try_attach(near) == 0);
    close(far);
}

static void options_come_and_go(void)
{
    static const int watched[][2] = {{IPPROTO_TCP, TCP_NODELAY}, {IPPROTO_TCP, TCP_NOTSENT_LOWAT},
                                     {IPPROTO_IP, IP_RECVERR},   {IPPROTO_IPV6, IPV6_RECVERR},
                                     {SOL_SOCKET, SO_RCVLOWAT},  {SOL_SOCKET, SO_RCVBUF}};
    struct dco_transport_config config = {.receive_buffer = 50000};
    int near, far, before[6], flags;
    uint32_t send, receive;
    struct dco_tcp tcp;
    connect_pair(AF_INET6, 0, &near, &far);
    set_int(near, IPPROTO_IP, IP_RECVERR, 1);
    set_int(near, SOL_SOCKET, SO_RCVLOWAT, 100);
    for (int i = 0; i < 6; i++)
        before[i] = get_int(near, watched[i][0], watched[i][1]);
    flags = fcntl(near, F_GETFL);
    CHECK(!dco_tcp_attach(&tcp, near, &config));
    CHECK(get_int(near, IPPROTO_TCP, TCP_NODELAY) == 1);
    CHECK(get_int(near, IPPROTO_TCP, TCP_NOTSENT_LOWAT) == (int)DCO_TCP_NOTSENT);
    CHECK(get_int(near, IPPROTO_IP, IP_RECVERR) == 0);
    CHECK(get_int(near, SOL_SOCKET, SO_RCVLOWAT) == 1);
    CHECK(fcntl(near, F_GETFL) == flags && fcntl(tcp.fd, F_GETFD) == FD_CLOEXEC);
    dco_tcp_buffers(&tcp, &send, &receive);
    CHECK(receive == 100000 && send > 0);
    dco_tcp_detach(&tcp);
    for (int i = 0; i < 6; i++)
        CHECK(get_int(near, watched[i][0], watched[i][1]) == before[i]);
    int lock;
    socklen_t size = sizeof lock;
    if (!getsockopt(near, SOL_SOCKET, SO_BUF_LOCK, &lock, &size))
        CHECK(lock == 0); /* the kernel tunes the buffers again */
    close(near);
    close(far);
}

/* IPv4 on an IPv6 socket is IPv4. */
static void addresses_are_folded(void)
{
    static const uint8_t loopback[16] = {127, 0, 0, 1};
    struct sockaddr_in name;
    socklen_t size = sizeof name;
    struct dco_tcp tcp;
    int near, far;
    connect_pair(AF_INET6, 0, &near, &far);
    CHECK(!dco_tcp_attach(&tcp, near, &plain_config));
    CHECK(!getsockname(far, (struct sockaddr *)&name, &size));
    CHECK(tcp.family == AF_INET6);
    CHECK(tcp.local.family == AF_INET && tcp.remote.family == AF_INET);
    CHECK(!memcmp(tcp.local.ip, loopback, 16) && !memcmp(tcp.remote.ip, loopback, 16));
    CHECK(tcp.remote.port == ntohs(name.sin_port));
    dco_tcp_detach(&tcp);
    close(near);
    close(far);
}

/* Reads until nothing is there; returns the last result. */
static ssize_t drain(struct dco_tcp *tcp, size_t room, unsigned *frames, uint32_t *last_size)
{
    ssize_t total;
    while ((total = dco_tcp_receive(tcp, arena, room)) > 0) {
        size_t offset = 0;
        uint8_t *frame;
        uint32_t size;
        int result;
        while ((result = dco_tcpframe_next(arena, (size_t)total, &offset, dco_tcp_frame_max(tcp),
                                           &frame, &size))
               == 1) {
            for (uint32_t i = 0; i < size; i++)
                CHECK(frame[i] == (uint8_t)(*frames + i));
            ++*frames;
            *last_size = size;
        }
        if (result < 0)
            return result;
        if (offset < (size_t)total)
            CHECK(!dco_tcp_keep(tcp, arena + offset, (size_t)total - offset));
    }
    return total;
}

static size_t put_frame(uint8_t *at, unsigned number, uint32_t size)
{
    dco_tcpframe_put(at, size);
    for (uint32_t i = 0; i < size; i++)
        at[2 + i] = (uint8_t)(number + i);
    return 2 + size;
}

static void send_all(int fd, const uint8_t *data, size_t size)
{
    CHECK(send(fd, data, size, MSG_NOSIGNAL) == (ssize_t)size);
}

/* Each write is one segment and arrives before the next; what came before attach is there too. */
static void frames_in_pieces(void)
{
    static const size_t pieces[] = {1, 2, 3, 500, 2049, 5000};
    for (size_t p = 0; p < sizeof pieces / sizeof pieces[0]; p++) {
        struct dco_tcp tcp;
        size_t size = 0;
        unsigned frames = 0;
        uint32_t last = 0;
        int near, far;
        for (unsigned i = 0; i < 9; i++)
            size += put_frame(bytes + size, i, i % 3 == 2 ? DCO_TCP_PENDING_FRAME : 1 + i * 7);
        connect_pair(AF_INET, 0, &near, &far);
        set_int(far, IPPROTO_TCP, TCP_NODELAY, 1);
        send_all(far, bytes, pieces[p]);
        CHECK(wait_for(near, POLLIN));
        CHECK(!dco_tcp_attach(&tcp, near, &plain_config));
        for (size_t at = 0; at < size; at += pieces[p]) {
            if (at)
                send_all(far, bytes + at, size - at < pieces[p] ? size - at : pieces[p]);
            CHECK(wait_for(near, POLLIN));
            CHECK(drain(&tcp, p % 2 ? sizeof arena : 65537, &frames, &last) == -EAGAIN);
        }
        while (frames < 9) {
            CHECK(wait_for(near, POLLIN));
            CHECK(drain(&tcp, sizeof arena, &frames, &last) == -EAGAIN);
        }
        CHECK(last == DCO_TCP_PENDING_FRAME);
        close(far);
        CHECK(wait_for(near, POLLIN) && dco_tcp_receive(&tcp, arena, sizeof arena) == 0);
        dco_tcp_detach(&tcp);
        close(near);
    }
}

static void ends_of_a_stream(void)
{
    for (int within = 0; within < 2; within++) {
        struct dco_tcp tcp;
        unsigned frames = 0;
        uint32_t last;
        int near, far;
        size_t size = put_frame(bytes, 0, 10);
        connect_pair(AF_INET, 0, &near, &far);
        CHECK(!dco_tcp_attach(&tcp, near, &plain_config));
        send_all(far, bytes, within ? size + 1 : size);
        shutdown(far, SHUT_WR);
        while (!frames)
            CHECK(wait_for(near, POLLIN) && drain(&tcp, 1000, &frames, &last) <= 0);
        CHECK(wait_for(near, POLLRDHUP) && wait_for(near, POLLIN));
        for (int again = 0; again < 2; again++)
            CHECK(dco_tcp_receive(&tcp, arena, 1000) == (within ? -ENODATA : 0));
        /* The other direction lives. */
        send_all(tcp.fd, bytes, 1);
        CHECK(wait_for(far, POLLIN) && recv(far, bytes, 9, 0) == 1);
        close(far);
        dco_tcp_detach(&tcp);
        close(near);
    }
}

static void reset(void)
{
    struct linger now = {.l_onoff = 1};
    struct dco_tcp tcp;
    int near, far;
    connect_pair(AF_INET, 0, &near, &far);
    CHECK(!dco_tcp_attach(&tcp, near, &plain_config));
    CHECK(!setsockopt(far, SOL_SOCKET, SO_LINGER, &now, sizeof now));
    close(far);
    CHECK(wait_for(near, POLLIN));
    CHECK(dco_tcp_receive(&tcp, arena, 1000) == -ECONNRESET);
    dco_tcp_detach(&tcp);
    close(near);
}

static void larger_frames_when_bound(void)
{
    struct dco_tcp tcp;
    unsigned frames = 0;
    uint32_t last = 0;
    int near, far;
    size_t first = put_frame(bytes, 0, 2000), all = first + put_frame(bytes + first, 1, 9000);
    connect_pair(AF_INET, 0, &near, &far);
    CHECK(!dco_tcp_attach(&tcp, near, &plain_config));
    send_all(far, bytes, 1500);
    CHECK(wait_for(near, POLLIN) && drain(&tcp, 60000, &frames, &last) == -EAGAIN);
    CHECK(!dco_tcp_reserve(&tcp, 8000));
    CHECK(!dco_tcp_reserve(&tcp, 9000));
    CHECK(!dco_tcp_reserve(&tcp, 3000));
    CHECK(dco_tcp_frame_max(&tcp) == DCO_TCP_PENDING_FRAME);
    send_all(far, bytes + 1500, all - 1600);
    while (frames < 1)
        CHECK(wait_for(near, POLLIN) && drain(&tcp, 60000, &frames, &last) == -EAGAIN);
    CHECK(dco_tcp_frame_max(&tcp) == 9000 && last == 2000);
    send_all(far, bytes + all - 100, 100);
    while (frames < 2)
        CHECK(wait_for(near, POLLIN) && drain(&tcp, 60000, &frames, &last) == -EAGAIN);
    CHECK(last == 9000);
    CHECK(dco_tcp_keep(&tcp, bytes, 9003) == -EMSGSIZE);
    CHECK(!dco_tcp_keep(&tcp, bytes, 9001));
    CHECK(dco_tcp_receive(&tcp, arena, 9001) == -ENOBUFS);
    CHECK(dco_tcp_receive(&tcp, arena, 9002) == -EAGAIN && tcp.tail->size == 9001);
    CHECK(!dco_tcp_reserve(&tcp, 1000000)); /* taken by nobody */
    CHECK(tcp.reserved_max == DCO_TCPFRAME_MAX);
    dco_tcp_detach(&tcp);
    close(near);
    close(far);
}

/* Before a peer is bound. */
static void too_large_a_frame(void)
{
    struct dco_tcp tcp;
    unsigned frames = 0;
    uint32_t last;
    int near, far;
    connect_pair(AF_INET, 0, &near, &far);
    CHECK(!dco_tcp_attach(&tcp, near, &plain_config));
    dco_tcpframe_put(bytes, DCO_TCP_PENDING_FRAME + 1);
    send_all(far, bytes, 2);
    CHECK(wait_for(near, POLLIN) && drain(&tcp, 60000, &frames, &last) == -EMSGSIZE);
    dco_tcp_detach(&tcp);
    close(near);
    close(far);
}

static void listening(void)
{
    struct timeval owner = {.tv_sec = 7}, seen;
    socklen_t size = sizeof seen;
    struct dco_tcp_listener listener;
    struct dco_address remote;
    struct sockaddr_in name;
    int fd = listen_on(AF_INET6, 0, &name), accepted = -1, flags = fcntl(fd, F_GETFL);
    CHECK(!setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &owner, sizeof owner));
    CHECK(!dco_tcp_listener_attach(&listener, fd));
    CHECK(fcntl(fd, F_GETFL) == flags && !(flags & O_NONBLOCK));
    CHECK(listener.local.port == ntohs(name.sin_port));
    /* On a blocking descriptor, with nobody there. */
    CHECK(dco_tcp_accept(&listener, &accepted, &remote) == -EAGAIN && accepted == -1);
    int far = connect_to(&name, 0);
    CHECK(wait_for(fd, POLLIN));
    CHECK(!dco_tcp_accept(&listener, &accepted, &remote));
    CHECK(remote.family == AF_INET && remote.ip[0] == 127 && remote.port);
    CHECK(fcntl(accepted, F_GETFD) == FD_CLOEXEC);
    CHECK(!getsockopt(accepted, SOL_SOCKET, SO_RCVTIMEO, &seen, &size) && seen.tv_sec == 7);
    CHECK(try_attach(accepted) == 0);
    dco_tcp_listener_detach(&listener);
    dco_tcp_listener_detach(&listener);
    CHECK(!getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &seen, &size));
    CHECK(seen.tv_sec == 7 && seen.tv_usec == 0);
    close(far);
    close(fd);
    CHECK(dco_tcp_listener_attach(&listener, 9999) == -EBADF && listener.fd < 0);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(dco_tcp_listener_attach(&listener, fd) == -EINVAL && listener.fd < 0);
    close(fd);
}

static void accept_errors(void)
{
    struct dco_tcp_listener listener;
    struct dco_address remote;
    struct sockaddr_in name;
    struct rlimit limit, none;
    int fd = listen_on(AF_INET, 0, &name), accepted, error;
    CHECK(!dco_tcp_listener_attach(&listener, fd));
    int far = connect_to(&name, 0);
    CHECK(wait_for(fd, POLLIN) && !getrlimit(RLIMIT_NOFILE, &limit));
    none = limit;
    none.rlim_cur = 0;
    CHECK(!setrlimit(RLIMIT_NOFILE, &none));
    error = dco_tcp_accept(&listener, &accepted, &remote);
    CHECK(!setrlimit(RLIMIT_NOFILE, &limit));
    CHECK(error == -EMFILE && dco_tcp_accept_class(error) == DCO_TCP_ACCEPT_PAUSE);
    CHECK(!dco_tcp_accept(&listener, &accepted, &remote)); /* it has waited */
    close(accepted);
    close(far);
    error = dco_tcp_accept(&listener, &accepted, &remote);
    CHECK(dco_tcp_accept_class(error) == DCO_TCP_ACCEPT_LATER);
    CHECK(dco_tcp_accept_class(-ECONNABORTED) == DCO_TCP_ACCEPT_NEXT);
    CHECK(dco_tcp_accept_class(-EHOSTUNREACH) == DCO_TCP_ACCEPT_NEXT);
    CHECK(dco_tcp_accept_class(-ENOBUFS) == DCO_TCP_ACCEPT_PAUSE);
    CHECK(!shutdown(fd, SHUT_RDWR));
    error = dco_tcp_accept(&listener, &accepted, &remote);
    CHECK(dco_tcp_accept_class(error) == DCO_TCP_ACCEPT_DEAD);
    dco_tcp_listener_detach(&listener);
    close(fd);
}

static void sources(void)
{
    struct dco_address address = {.family = AF_INET, .ip = {198, 51, 100, 7}, .port = 9};
    struct dco_prefix prefix = dco_address_source(&address);
    CHECK(prefix.family == AF_INET && prefix.length == 24);
    CHECK(!memcmp(prefix.ip, (uint8_t[16]){198, 51, 100}, 16));
    memset(address.ip, 0xAB, 16);
    address.family = AF_INET6;
    prefix = dco_address_source(&address);
    CHECK(prefix.family == AF_INET6 && prefix.length == 56);
    CHECK(!memcmp(prefix.ip, address.ip, 7) && !memcmp(prefix.ip + 7, (uint8_t[9]){0}, 9));
    address.family = 0;
    prefix = dco_address_source(&address);
    CHECK(prefix.length == 0 && !memcmp(prefix.ip, (uint8_t[16]){0}, 16));
}

int main(void)
{
    alarm(120);
    RUN(what_is_refused);
    RUN(options_come_and_go);
    RUN(addresses_are_folded);
    RUN(frames_in_pieces);
    RUN(ends_of_a_stream);
    RUN(reset);
    RUN(larger_frames_when_bound);
    RUN(too_large_a_frame);
    RUN(listening);
    RUN(accept_errors);
    RUN(sources);
    return 0;
}
