/* Something done in another network namespace. */
#ifndef DCO_IO_NETNS_H
#define DCO_IO_NETNS_H

/* Runs `function` in the namespace `netns_fd` (< 0: the caller's) and returns what it returns, or a
 * negative errno. Entering a namespace changes the thread, so it is done on one that then ends. */
int dco_netns_run(int netns_fd, int (*function)(void *), void *argument);

#endif
