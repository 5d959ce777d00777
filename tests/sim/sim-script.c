/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/sim-script.h"

#include <string.h>

#define B BLOCK_BYTES
#define LIST(...)                                   \
    .list = (const struct sim_want[]){__VA_ARGS__}, \
    .count = sizeof((const struct sim_want[]){__VA_ARGS__}) / sizeof(struct sim_want)

#define READ(block, blocks)                                                                \
    {                                                                                      \
        .kind = OP_READ, .offset = (block) * (uint64_t)B, .length = (blocks) * (uint64_t)B \
    }
#define WRITE(block, blocks)                                                                \
    {                                                                                       \
        .kind = OP_WRITE, .offset = (block) * (uint64_t)B, .length = (blocks) * (uint64_t)B \
    }
#define FUA(block, blocks)                                                     \
    {                                                                          \
        .kind = OP_WRITE, .flags = PIECE_FUA, .offset = (block) * (uint64_t)B, \
        .length = (blocks) * (uint64_t)B                                       \
    }
#define BYTES(from, bytes)                                    \
    {                                                         \
        .kind = OP_WRITE, .offset = (from), .length = (bytes) \
    }
#define ZERO(block, blocks)                                                                \
    {                                                                                      \
        .kind = OP_ZERO, .offset = (block) * (uint64_t)B, .length = (blocks) * (uint64_t)B \
    }
#define TRIM(block, blocks)                                                                \
    {                                                                                      \
        .kind = OP_TRIM, .offset = (block) * (uint64_t)B, .length = (blocks) * (uint64_t)B \
    }
#define FLUSH            \
    {                    \
        .kind = OP_FLUSH \
    }
#define PREFETCH(block, blocks)                                                                \
    {                                                                                          \
        .kind = OP_PREFETCH, .offset = (block) * (uint64_t)B, .length = (blocks) * (uint64_t)B \
    }
#define INVALIDATE(block, blocks)                                                                \
    {                                                                                            \
        .kind = OP_INVALIDATE, .offset = (block) * (uint64_t)B, .length = (blocks) * (uint64_t)B \
    }
#define DESTAGE                \
    {                          \
        .kind = SCRIPT_DESTAGE \
    }
#define IDLE(ns)                            \
    {                                       \
        .kind = SCRIPT_IDLE, .length = (ns) \
    }
#define RESTART                \
    {                          \
        .kind = SCRIPT_RESTART \
    }

#define SECOND_NS UINT64_C(1000000000)

const struct sim_script sim_scripts[] = {
    {.name = "overwrite",
     .text = "a block is written, flushed, and written again",
     .mode = MODE_WRITE_BACK,
     .blocks = 16,
     .depth = 1,
     .cores = 1,
     .segments = 16,
     .flash_volatile = true,
     .repeat = 1,
     LIST(WRITE(0, 1), FLUSH, WRITE(0, 1), FUA(1, 2), WRITE(0, 2), FLUSH, WRITE(1, 1))},
    {.name = "concurrent",
     .text = "overlapping writes from two connections",
     .mode = MODE_WRITE_BACK,
     .blocks = 16,
     .depth = 4,
     .cores = 2,
     .segments = 16,
     .flash_volatile = true,
     .repeat = 2,
     .step_blocks = 1,
     LIST(WRITE(0, 4), BYTES(5 * 512, 3 * B), FUA(2, 1), FLUSH, READ(0, 4), BYTES(100, 5000))},
    {.name = "partial",
     .text = "blocks written in part, over nothing, over cached and over destaged content",
     .mode = MODE_WRITE_BACK,
     .blocks = 16,
     .depth = 1,
     .cores = 1,
     .segments = 16,
     .flash_volatile = true,
     .repeat = 1,
     LIST(BYTES(512, 512), BYTES(700, 9000), FLUSH, DESTAGE, BYTES(1024, 512), READ(0, 4),
          BYTES(4090, 10), FLUSH)},
    {.name = "zeros",
     .text = "zeros and trims over data, data over zeros",
     .mode = MODE_WRITE_BACK,
     .blocks = 64,
     .depth = 1,
     .cores = 1,
     .segments = 16,
     .flash_volatile = true,
     .repeat = 1,
     LIST(WRITE(0, 8), FLUSH, TRIM(2, 4), FLUSH, ZERO(0, 1), DESTAGE, WRITE(3, 1), FLUSH,
          TRIM(0, 64), FLUSH, WRITE(5, 1))},
    {.name = "destage",
     .text = "dirty blocks reach the backing store and are written again meanwhile",
     .mode = MODE_WRITE_BACK,
     .blocks = 64,
     .depth = 2,
     .cores = 2,
     .segments = 16,
     .flash_volatile = true,
     .repeat = 1,
     LIST(WRITE(0, 10), WRITE(20, 3), FLUSH, DESTAGE, WRITE(5, 2), FLUSH, DESTAGE, WRITE(0, 1),
          IDLE(2 * SECOND_NS), FLUSH)},
    {.name = "through",
     .text = "write-through: flash before backing store before answer",
     .mode = MODE_WRITE_THROUGH,
     .blocks = 16,
     .depth = 2,
     .cores = 2,
     .segments = 16,
     .flash_volatile = true,
     .repeat = 1,
     LIST(WRITE(0, 2), BYTES(100, 5000), FLUSH, FUA(1, 1), TRIM(0, 1), WRITE(0, 3), FLUSH)},
    {.name = "around",
     .text = "write-around: cached copies die before the backing store changes",
     .mode = MODE_WRITE_AROUND,
     .blocks = 64,
     .depth = 1,
     .cores = 1,
     .segments = 16,
     .flash_volatile = true,
     .repeat = 1,
     LIST(WRITE(0, 8), FLUSH, READ(0, 8), IDLE(3 * SECOND_NS), READ(0, 8), WRITE(2, 2), READ(0, 8),
          BYTES(700, 600), FLUSH, READ(0, 8))},
    {.name = "pass-through",
     .text = "no cache at all",
     .mode = MODE_PASS_THROUGH,
     .blocks = 16,
     .depth = 2,
     .cores = 1,
     .segments = 16,
     .flash_volatile = true,
     .repeat = 1,
     LIST(WRITE(0, 3), READ(0, 4), BYTES(300, 5000), FLUSH, TRIM(0, 1), FUA(1, 1))},
    {.name = "fills",
     .text = "clean copies on flash, invalidated and overwritten",
     .mode = MODE_WRITE_BACK,
     .blocks = 512,
     .depth = 2,
     .cores = 1,
     .segments = 16,
     .flash_volatile = true,
     .repeat = 2,
     .step_blocks = 64,
     LIST(PREFETCH(0, 40), READ(8, 16), IDLE(2 * SECOND_NS), READ(8, 16), WRITE(10, 2),
          INVALIDATE(30, 4), READ(0, 40), FLUSH)},
    {.name = "restart",
     .text = "clean stops between writes",
     .mode = MODE_WRITE_BACK,
     .blocks = 16,
     .depth = 1,
     .cores = 1,
     .segments = 16,
     .flash_volatile = true,
     .repeat = 1,
     LIST(WRITE(0, 2), RESTART, READ(0, 2), WRITE(1, 2), FLUSH, DESTAGE, RESTART, WRITE(0, 1))},
    {.name = "solid",
     .text = "a flash device without a volatile cache",
     .mode = MODE_WRITE_BACK,
     .blocks = 64,
     .depth = 2,
     .cores = 2,
     .segments = 16,
     .flash_volatile = false,
     .repeat = 2,
     .step_blocks = 2,
     LIST(WRITE(0, 3), FLUSH, BYTES(1000, 6000), DESTAGE, TRIM(1, 1), WRITE(0, 1))},
    {.name = "ordered",
     .text = "epochs are destaged one by one, over two shards, with versions that differ",
     .mode = MODE_WRITE_BACK,
     .ordered = true,
     .shards = 2,
     .blocks = 256,
     .depth = 2,
     .cores = 2,
     .segments = 16,
     .flash_volatile = true,
     .repeat = 1,
     LIST(WRITE(0, 4), WRITE(64, 2), FLUSH, WRITE(0, 1), WRITE(128, 2), FUA(64, 1), WRITE(2, 1),
          WRITE(129, 1), FLUSH, TRIM(128, 1), WRITE(0, 2), FLUSH, IDLE(2 * SECOND_NS), WRITE(3, 1),
          FLUSH, WRITE(64, 1))},
    {.name = "ring",
     .text = "the log goes round: segments are reclaimed, hot blocks appended again",
     .mode = MODE_WRITE_BACK,
     .blocks = 700,
     .depth = 2,
     .cores = 1,
     .segments = 16,
     .flash_volatile = true,
     .repeat = 40,
     .step_blocks = 60,
     LIST(WRITE(0, 60), READ(0, 6), FLUSH)},
};

const uint32_t sim_script_count = sizeof(sim_scripts) / sizeof(sim_scripts[0]);

const struct sim_script *sim_script_find(const char *name)
{
    for (uint32_t i = 0; i < sim_script_count; i++)
        if (strcmp(sim_scripts[i].name, name) == 0)
            return &sim_scripts[i];
    return NULL;
}
