/* SPDX-License-Identifier: Apache-2.0 */
/* Patience: so many tries, so long. */
#include "common/patience.h"

#include "common/clock.h"
#include "tests/unit/unit.h"

START_TEST(so_many_tries)
{
    struct patience patience = {.left_ms = 35, .step_ms = 10};
    uint64_t begin_ns = clock_ns();
    unsigned waits = 0;

    while (patience_wait(&patience))
        waits++;
    ck_assert_uint_eq(waits, 4);
    ck_assert_uint_ge(clock_ns() - begin_ns, 40 * UINT64_C(1000000));
    ck_assert(!patience_wait(&patience));
}
END_TEST

START_TEST(none_at_all)
{
    struct patience patience = {.left_ms = 0, .step_ms = 10};

    ck_assert(!patience_wait(&patience));
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("patience");

    tcase_add_test(cases, so_many_tries);
    tcase_add_test(cases, none_at_all);
    return unit_run("patience", cases);
}
