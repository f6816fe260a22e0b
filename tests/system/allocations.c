/* Preloaded by the steady-state test: counts what the engine's threads allocate and free, and apart
 * from that what all others do. Its counters are read through ctypes. */
#define _GNU_SOURCE
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *old);

atomic_int counting;
atomic_long engine_allocations, engine_frees, other_allocations;

static int is_engine(void)
{
    char name[16];

    return !prctl(PR_GET_NAME, name) && !strncmp(name, "dco-", 4);
}

static void count(void)
{
    if (atomic_load(&counting))
        atomic_fetch_add(is_engine() ? &engine_allocations : &other_allocations, 1);
}

void *malloc(size_t size)
{
    count();
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size)
{
    count();
    return __libc_calloc(number, size);
}

void *realloc(void *old, size_t size)
{
    count();
    return __libc_realloc(old, size);
}

void *memalign(size_t alignment, size_t size)
{
    count();
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    count();
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
    count();
    *out = __libc_memalign(alignment, size);
    return *out ? 0 : 12;
}

void free(void *old)
{
    if (old && atomic_load(&counting) && is_engine())
        atomic_fetch_add(&engine_frees, 1);
    __libc_free(old);
}
