/* SPDX-License-Identifier: Apache-2.0 */
/* Results, for people and for programs. */
#include "replay/report.h"

#include <inttypes.h>
#include <stdio.h>

static double share(uint64_t part, uint64_t whole)
{
    return whole ? (double)part / (double)whole : 0;
}

static uint64_t flash_written(const struct replay_result *result)
{
    return result->fill_blocks + result->promote_blocks + result->reinsert_blocks;
}

static uint64_t blocks_cached(const struct replay_result *result)
{
    return result->flash_blocks;
}

/* Only where there are several. */
static bool volumes_told(const struct replay_result *result)
{
    unsigned count = 0;

    for (unsigned i = 0; i < TRACE_VOLUMES; i++)
        count += result->volumes[i].read_blocks > 0;
    return count > 1;
}

static json_t *volumes_json(const struct replay_result *result)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < TRACE_VOLUMES; i++) {
        const struct replay_volume *volume = &result->volumes[i];

        if (volume->read_blocks > 0)
            json_array_append_new(list,
                                  json_pack("{si sI sI sf sI}", "volume", (int)i + 1, "read_blocks",
                                            (json_int_t)volume->read_blocks, "miss_blocks",
                                            (json_int_t)volume->miss_blocks, "block_miss_ratio",
                                            share(volume->miss_blocks, volume->read_blocks),
                                            "flash_blocks", (json_int_t)volume->flash_blocks));
    }
    return list;
}

json_t *report_json(const struct report *report)
{
    const struct replay_result *r = &report->result;
    json_t *json = json_object();
    const struct {
        const char *name;
        json_t *value;
    } members[] = {
        {"policy", json_string(report->policy)},
        {"trace", json_string(report->trace)},
        {"ram_bytes", json_integer((json_int_t)report->config->ram_bytes)},
        {"flash_bytes", json_integer((json_int_t)report->config->flash_bytes)},
        {"ram_blocks", json_integer((json_int_t)r->ram_blocks)},
        {"flash_blocks", json_integer((json_int_t)r->flash_blocks)},
        {"requests", json_integer((json_int_t)r->requests)},
        {"read_requests", json_integer((json_int_t)r->reads)},
        {"write_requests", json_integer((json_int_t)r->writes)},
        {"read_blocks", json_integer((json_int_t)r->read_blocks)},
        {"ram_hit_blocks", json_integer((json_int_t)r->ram_hit_blocks)},
        {"flash_hit_blocks", json_integer((json_int_t)r->flash_hit_blocks)},
        {"miss_blocks", json_integer((json_int_t)r->miss_blocks)},
        {"block_miss_ratio", json_real(share(r->miss_blocks, r->read_blocks))},
        {"request_miss_ratio", json_real(share(r->read_misses, r->reads))},
        {"flash_blocks_written", json_integer((json_int_t)flash_written(r))},
        {"flash_blocks_filled", json_integer((json_int_t)r->fill_blocks)},
        {"flash_blocks_promoted", json_integer((json_int_t)r->promote_blocks)},
        {"flash_blocks_reinserted", json_integer((json_int_t)r->reinsert_blocks)},
        {"flash_blocks_of_writes", json_integer((json_int_t)r->write_blocks)},
        {"flash_metadata_bytes", json_integer((json_int_t)r->metadata_bytes)},
        {"memory_bytes", json_integer((json_int_t)r->memory_bytes)},
        {"ram_bytes_per_block", json_real(share(r->memory_bytes, blocks_cached(r)))},
        {"shards", json_integer(r->shards)},
        {"segments_per_shard", json_integer(r->segments)},
        {"segment_bytes", json_integer((json_int_t)r->segment_bytes)},
        {"seconds", json_real(report->seconds)},
        {"requests_per_second",
         json_real(report->seconds > 0 ? (double)r->requests / report->seconds : 0)},
    };

    for (size_t i = 0; i < sizeof(members) / sizeof(*members); i++)
        if (json_object_set_new(json, members[i].name, members[i].value) < 0) {
            json_decref(json);
            return NULL;
        }
    if (volumes_told(r) && json_object_set_new(json, "volumes", volumes_json(r)) < 0) {
        json_decref(json);
        return NULL;
    }
    return json;
}

void report_print_head(void)
{
    printf("%-10s %10s %10s %10s %10s %10s %10s %10s\n", "policy", "block miss", "req. miss",
           "flash wr.", "filled", "promoted", "reinserted", "RAM/block");
}

void report_print(const struct report *report)
{
    const struct replay_result *r = &report->result;

    printf("%-10s %10.4f %10.4f %10" PRIu64 " %10" PRIu64 " %10" PRIu64 " %10" PRIu64 " %8.1f B\n",
           report->policy, share(r->miss_blocks, r->read_blocks), share(r->read_misses, r->reads),
           flash_written(r), r->fill_blocks, r->promote_blocks, r->reinsert_blocks,
           share(r->memory_bytes, blocks_cached(r)));
    for (unsigned i = 0; volumes_told(r) && i < TRACE_VOLUMES; i++)
        if (r->volumes[i].read_blocks > 0)
            printf("  volume %u %10.4f\n", i + 1,
                   share(r->volumes[i].miss_blocks, r->volumes[i].read_blocks));
}
