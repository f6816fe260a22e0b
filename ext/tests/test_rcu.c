/* Reclamation while it is frozen for a fork, step by step in one thread. Under several it is put to
 * the test in tsan_sync.c. */
#include "sync/rcu.h"
#include "tests/check.h"

static struct dco_rcu rcu;
static unsigned released;

static void count(struct dco_rcu_node *node)
{
    (void)node;
    released++;
}

/* The last reader passes while it cannot take what that sets free, and then sleeps for long. */
static void frozen_objects_are_not_forgotten(void)
{
    struct dco_rcu_reader *reader = dco_rcu_register(&rcu);
    struct dco_rcu_node first, second;

    dco_rcu_online(&rcu, reader);
    dco_rcu_retire(&rcu, &first, count);
    dco_rcu_retire(&rcu, &second, count);
    dco_rcu_freeze(&rcu);
    dco_rcu_quiesce(&rcu, reader);
    dco_rcu_offline(&rcu, reader);
    CHECK(released == 0 && atomic_load(&rcu.waiting) == 2);
    dco_rcu_thaw(&rcu);
    CHECK(released == 2 && atomic_load(&rcu.waiting) == 0);
}

/* In the child of a fork there are no readers, whatever they had told of themselves. */
static void destroyed_while_a_reader_is_online(void)
{
    struct dco_rcu_reader *reader = dco_rcu_register(&rcu);
    struct dco_rcu_node node;

    released = 0;
    dco_rcu_online(&rcu, reader);
    dco_rcu_retire(&rcu, &node, count);
    CHECK(released == 0);
    dco_rcu_destroy(&rcu);
    CHECK(released == 1 && !rcu.head);
}

int main(void)
{
    CHECK(!dco_rcu_init(&rcu));
    RUN(frozen_objects_are_not_forgotten);
    RUN(destroyed_while_a_reader_is_online);
    return 0;
}
