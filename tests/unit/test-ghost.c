/* SPDX-License-Identifier: Apache-2.0 */
/* Ghosts against a plain list. */
#include "common/hash.h"
#include "engine/shard-private.h"
#include "tests/unit/unit.h"

#define KEYS 48u

struct ghost {
    uint64_t key;
    unsigned use; /* 0: an empty place */
};

static uint16_t set[GHOST_WAYS];
static struct shard shard = {.ghosts = set, .ghost_sets = 1};
static struct ghost model[GHOST_WAYS]; /* the youngest first */

static uint32_t random_below(uint32_t count)
{
    static uint64_t state;

    return (uint32_t)(hash_mix64(++state) % count);
}

static void model_add(uint64_t key, unsigned use)
{
    uint32_t place = 0;

    for (uint32_t i = 0; i < GHOST_WAYS; i++)
        place = model[i].use <= model[place].use ? i : place;
    memmove(&model[1], &model[0], place * sizeof(model[0]));
    model[0] = (struct ghost){key, use};
}

static unsigned model_take(uint64_t key)
{
    for (uint32_t i = 0; i < GHOST_WAYS; i++) {
        unsigned use = model[i].use;

        if (use == 0 || model[i].key != key)
            continue;
        memmove(&model[i], &model[i + 1], (GHOST_WAYS - 1 - i) * sizeof(model[0]));
        model[GHOST_WAYS - 1].use = 0;
        return use;
    }
    return 0;
}

/* Keys that the set tells from each other. */
static void keys_choose(uint64_t *keys)
{
    uint64_t key = 0;

    for (uint32_t count = 0; count < KEYS; count++) {
        bool alone;

        do {
            key++;
            alone = true;
            for (uint32_t i = 0; i < count; i++) {
                ghost_add(&shard, keys[i], 1);
                alone &= ghost_take(&shard, key) == 0;
                memset(set, 0, sizeof(set));
            }
        } while (!alone);
        keys[count] = key;
    }
}

START_TEST(same_as_list)
{
    uint64_t keys[KEYS], taken = 0;

    keys_choose(keys);
    for (uint32_t i = 0; i < 200000; i++) {
        uint64_t key = keys[random_below(KEYS)];
        uint32_t first = random_below(GHOST_WAYS);
        unsigned use = random_below(USE_MAX + 1);
        uint64_t levels[USE_MAX + 1] = {0};

        switch (random_below(20)) {
        case 0:
            ghost_age(&shard, first, GHOST_WAYS - first);
            for (uint32_t k = first; k < GHOST_WAYS; k++)
                model[k].use /= 2;
            break;
        case 1:
            ghost_count(&shard, first, GHOST_WAYS - first, levels);
            for (uint32_t k = first; k < GHOST_WAYS; k++)
                levels[model[k].use]--;
            for (use = 0; use <= USE_MAX; use++)
                ck_assert_uint_eq(levels[use], 0);
            break;
        case 2:
        case 3:
        case 4:
            use = model_take(key);
            ck_assert_uint_eq(ghost_take(&shard, key), use);
            taken += use > 0;
            break;
        default:
            ghost_add(&shard, key, use);
            if (use > 0)
                model_add(key, use);
        }
    }
    ck_assert_uint_ge(taken, 1000);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("ghost");

    tcase_add_test(cases, same_as_list);
    return unit_run("ghost", cases);
}
