/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel is told about a volume, and how opcodes are written. */
#include "frontends/ublk/ublk-params.h"

#include "tests/unit/unit.h"

static struct ublk_params fill(const struct ublk_facts *facts)
{
    struct ublk_params params;

    ublk_params_fill(&params, facts, UBLK_IO_BYTES);
    ck_assert_uint_eq(params.bytes, sizeof(params));
    ck_assert_uint_eq(params.basic.physical_block_shift, 12);
    ck_assert_uint_eq(params.basic.io_minimal_shift, 12);
    ck_assert_uint_eq(params.basic.max_sectors << UBLK_SECTOR_SHIFT, UBLK_IO_BYTES);
    return params;
}

START_TEST(flushes_are_promised_only_when_they_are_needed)
{
    struct ublk_facts facts = {.bytes = 1 << 20, .sector_bytes = 512, .can_trim = true};

    ck_assert_uint_eq(fill(&facts).basic.attributes, 0);
    facts.is_volatile = true;
    ck_assert_uint_eq(fill(&facts).basic.attributes,
                      UBLK_ATTRIBUTE_VOLATILE_CACHE | UBLK_ATTRIBUTE_FUA);
}
END_TEST

START_TEST(a_read_only_volume_takes_no_discard)
{
    struct ublk_facts facts = {
        .bytes = 1 << 20, .sector_bytes = 512, .can_trim = true, .read_only = true};
    struct ublk_params params = fill(&facts);

    ck_assert_uint_eq(params.basic.attributes, UBLK_ATTRIBUTE_READ_ONLY);
    ck_assert_uint_eq(params.types, UBLK_PARAMS_BASIC);
    ck_assert_uint_eq(params.discard.max_discard_sectors, 0);
}
END_TEST

START_TEST(discard_is_offered_where_the_backing_store_can)
{
    struct ublk_facts facts = {.bytes = 1 << 20, .sector_bytes = 512, .can_trim = true};
    struct ublk_params params = fill(&facts);

    ck_assert_uint_eq(params.types, UBLK_PARAMS_BASIC | UBLK_PARAMS_DISCARD);
    ck_assert_uint_eq(params.discard.granularity, 4096);
    ck_assert_uint_gt(params.discard.max_discard_sectors, 0);
    ck_assert_uint_eq(params.discard.max_discard_segments, 1);
    facts.can_trim = false;
    params = fill(&facts);
    ck_assert_uint_eq(params.discard.max_discard_sectors, 0);
    ck_assert_uint_gt(params.discard.max_write_zeroes_sectors, 0);
}
END_TEST

START_TEST(the_size_is_in_whole_sectors_of_the_backing_store)
{
    struct ublk_facts facts = {.bytes = 3 * 4096 + 1536 + 7, .sector_bytes = 512};

    ck_assert_uint_eq(fill(&facts).basic.sectors, 3 * 8 + 3);
    ck_assert_uint_eq(fill(&facts).basic.logical_block_shift, 9);
    facts.sector_bytes = 4096;
    ck_assert_uint_eq(fill(&facts).basic.sectors, 3 * 8);
    ck_assert_uint_eq(fill(&facts).basic.logical_block_shift, 12);
}
END_TEST

/* As the kernel's header computes them. */
START_TEST(opcodes_are_the_kernels)
{
    ck_assert_uint_eq(ublk_command_opcode(UBLK_COMMAND_ADD_DEV, 0), 0x04);
    ck_assert_uint_eq(ublk_command_opcode(UBLK_COMMAND_ADD_DEV, 1), 0xc0207504);
    ck_assert_uint_eq(ublk_command_opcode(UBLK_COMMAND_GET_DEV_INFO, 1), 0x80207502);
    ck_assert_uint_eq(ublk_command_opcode(UBLK_COMMAND_GET_FEATURES, 1), 0x80207513);
    ck_assert_uint_eq(ublk_io_opcode(UBLK_IO_FETCH, 0), 0x20);
    ck_assert_uint_eq(ublk_io_opcode(UBLK_IO_COMMIT_AND_FETCH, 1), 0xc0107521);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("ublk-params");

    tcase_add_test(cases, flushes_are_promised_only_when_they_are_needed);
    tcase_add_test(cases, a_read_only_volume_takes_no_discard);
    tcase_add_test(cases, discard_is_offered_where_the_backing_store_can);
    tcase_add_test(cases, the_size_is_in_whole_sectors_of_the_backing_store);
    tcase_add_test(cases, opcodes_are_the_kernels);
    return unit_run("ublk-params", cases);
}
