#define _GNU_SOURCE
#include "io/netns.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

struct visit {
    int netns_fd;
    int (*function)(void *);
    void *argument;
    int result;
};

static void *visit_main(void *argument)
{
    struct visit *visit = argument;

    if (setns(visit->netns_fd, CLONE_NEWNET))
        visit->result = -errno;
    else
        visit->result = visit->function(visit->argument);
    return NULL;
}

int dco_netns_run(int netns_fd, int (*function)(void *), void *argument)
{
    struct visit visit = {netns_fd, function, argument, 0};
    pthread_t thread;
    int error;

    if (netns_fd < 0)
        return function(argument);
    error = pthread_create(&thread, NULL, visit_main, &visit);
    if (error)
        return -error;
    pthread_join(thread, NULL);
    return visit.result;
}
