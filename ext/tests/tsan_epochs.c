/* The epochs of two ends through hundreds of turns: at each end one thread seals and another opens,
 * and a fifth refills both. Built with ThreadSanitizer; what arrives is checked, too. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "peers/keyslot.h"
#include "tests/check.h"

#define PLAIN 64
#define PACKET (PLAIN + DCO_WIRE_EPOCH_OVERHEAD)
#define TURNS 300

struct end {
    struct dco_key *key;
    int in, out;
    uint64_t sent, arrived, ahead;
};

static struct end ends[2];
static atomic_bool done;

static void make_end(struct end *end, bool first)
{
    static const uint8_t a[DCO_EPOCH_SECRET] = {1}, b[DCO_EPOCH_SECRET] = {2};
    struct dco_key_config config = {
        .cipher = DCO_CIPHER_AES_GCM,
        .encrypt_key = first ? a : b,
        .decrypt_key = first ? b : a,
        .encrypt_key_size = DCO_EPOCH_SECRET,
        .decrypt_key_size = DCO_EPOCH_SECRET,
        .future_epochs = 2,
        .epoch_key_size = 32,
    };

    CHECK(!dco_key_new(&config, NULL, DCO_GCM_NONE, &end->key));
    end->key->usage_limit = 100; /* twenty packets */
    end->key->usage_soon = 90;
}

static void *seal(void *argument)
{
    struct end *end = argument;
    uint8_t plain[PLAIN] = {0}, packet[PACKET];
    uint64_t id;

    while (!atomic_load(&done)) {
        if (dco_key_take_id(end->key, PLAIN, &id) & DCO_KEY_NO_ID) {
            sched_yield();
            continue;
        }
        memcpy(plain, &end->sent, sizeof end->sent);
        CHECK(dco_key_seal(end->key, dco_wire_header(0, 1), id, plain, PLAIN, packet));
        if (send(end->out, packet, PACKET, MSG_NOSIGNAL) != PACKET)
            break; /* the other end has stopped */
        end->sent++;
    }
    shutdown(end->out, SHUT_RDWR);
    return NULL;
}

/* In order and none twice; what is missing was sent in an epoch that was not derived yet. */
static void *open_all(void *argument)
{
    struct end *end = argument;
    struct dco_epochs_opened opened;
    uint64_t expected = 0, number;
    uint8_t packet[PACKET];

    while (recv(end->in, packet, PACKET, 0) == PACKET) {
        enum dco_drop drop = dco_epochs_open(end->key->epochs, packet, PACKET, 1, &opened);
        if (drop) {
            CHECK(drop == DCO_DROP_RX_EPOCH_AHEAD);
            end->ahead++;
            continue;
        }
        memcpy(&number, packet + DCO_WIRE_EPOCH_AAD, sizeof number);
        CHECK(number >= expected && opened.newest);
        expected = number + 1;
        end->arrived++;
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[4];
    int there[2], back[2];

    CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, there));
    CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, back));
    for (int i = 0; i < 2; i++) {
        make_end(&ends[i], i == 0);
        ends[i].out = i ? back[0] : there[0];
        ends[i].in = i ? there[1] : back[1];
    }
    for (int i = 0; i < 4; i++)
        CHECK(!pthread_create(&threads[i], NULL, i % 2 ? open_all : seal, &ends[i / 2]));

    while (atomic_load(&ends[0].key->epochs->send_epoch) < TURNS) {
        for (int i = 0; i < 2; i++)
            CHECK(!dco_epochs_refill(ends[i].key->epochs));
        sched_yield();
    }
    atomic_store(&done, true);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 2; i++) {
        struct end *other = &ends[!i];
        CHECK(ends[i].arrived + ends[i].ahead <= other->sent + 1 && ends[i].arrived > 0);
        CHECK(atomic_load(&ends[i].key->epochs->receive_epoch) >= TURNS - 1);
    }
    for (int i = 0; i < 2; i++) {
        dco_key_free(ends[i].key);
        close(ends[i].in);
        close(ends[i].out);
    }
    return 0;
}
