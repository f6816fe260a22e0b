#include "peers/permit.h"

#include <stdlib.h>
#include <string.h>

struct dco_permit *dco_permit_new(const uint64_t *generations, size_t count)
{
    struct dco_permit *permit = calloc(1, sizeof *permit + count * sizeof *generations);

    if (!permit)
        return NULL;
    permit->count = count;
    if (count)
        memcpy(permit->generation, generations, count * sizeof *generations);
    return permit;
}

void dco_permit_free(struct dco_permit *permit)
{
    free(permit);
}

static void release(struct dco_rcu_node *node)
{
    free((char *)node - offsetof(struct dco_permit, rcu));
}

void dco_permit_retire(struct dco_rcu *rcu, struct dco_permit *permit)
{
    if (permit)
        dco_rcu_retire(rcu, &permit->rcu, release);
}

bool dco_permit_holds(const struct dco_permit *permit, uint64_t generation)
{
    size_t low = 0, high = permit ? permit->count : 0;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (permit->generation[middle] == generation)
            return true;
        if (permit->generation[middle] < generation)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}
