/* SPDX-License-Identifier: Apache-2.0 */
#include "common/list.h"

#include <check.h>

#include "tests/unit/unit.h"

struct item {
    int value;
    struct list node;
};

/* The values in order, as one decimal number; also walks back and compares. */
static int digits_of(const struct list *head)
{
    int forward = 0, backward = 0, scale = 1;

    list_for_each (node, head)
        forward = forward * 10 + container_of(node, struct item, node)->value;
    for (const struct list *node = head->prev; node != head; node = node->prev) {
        backward +=
            scale *
            ((const struct item *)((const char *)node - offsetof(struct item, node)))->value;
        scale *= 10;
    }
    ck_assert_int_eq(forward, backward);
    return forward;
}

START_TEST(add_and_remove)
{
    struct item items[4] = {{.value = 1}, {.value = 2}, {.value = 3}, {.value = 4}};
    struct list head;

    list_init(&head);
    ck_assert(list_empty(&head));
    ck_assert_ptr_null(list_first(&head));
    ck_assert_ptr_null(list_last(&head));
    ck_assert_ptr_null(list_take_first(&head));
    ck_assert_ptr_null(list_first_entry(&head, struct item, node));

    for (int i = 1; i < 4; i++)
        list_add_tail(&head, &items[i].node);
    list_add_head(&head, &items[0].node);
    ck_assert_int_eq(digits_of(&head), 1234);
    ck_assert_ptr_eq(list_first_entry(&head, struct item, node), &items[0]);
    ck_assert_ptr_eq(list_last(&head), &items[3].node);

    list_remove(&items[1].node);
    ck_assert(list_empty(&items[1].node));
    ck_assert_int_eq(digits_of(&head), 134);
    list_remove(&items[1].node);
    ck_assert_int_eq(digits_of(&head), 134);

    list_move_tail(&head, &items[0].node);
    ck_assert_int_eq(digits_of(&head), 341);
    ck_assert_ptr_eq(list_take_first(&head), &items[2].node);
    ck_assert_int_eq(digits_of(&head), 41);
}
END_TEST

START_TEST(removing_while_visiting)
{
    struct item items[6];
    struct list head = LIST_INIT(head);

    for (int i = 0; i < 6; i++) {
        items[i].value = i + 1;
        list_add_tail(&head, &items[i].node);
    }
    list_for_each_safe (node, &head)
        if (container_of(node, struct item, node)->value % 2 == 1)
            list_remove(node);
    ck_assert_int_eq(digits_of(&head), 246);
    list_for_each_safe (node, &head)
        list_remove(node);
    ck_assert(list_empty(&head));
}
END_TEST

START_TEST(splice)
{
    struct item items[4] = {{.value = 1}, {.value = 2}, {.value = 3}, {.value = 4}};
    struct list one = LIST_INIT(one), other = LIST_INIT(other);

    list_splice_tail(&one, &other);
    ck_assert(list_empty(&one));
    list_add_tail(&other, &items[0].node);
    list_add_tail(&other, &items[1].node);
    list_splice_tail(&one, &other);
    ck_assert(list_empty(&other));
    list_add_tail(&other, &items[2].node);
    list_add_tail(&other, &items[3].node);
    list_splice_tail(&one, &other);
    ck_assert(list_empty(&other));
    ck_assert_int_eq(digits_of(&one), 1234);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("list");

    tcase_add_test(cases, add_and_remove);
    tcase_add_test(cases, removing_while_visiting);
    tcase_add_test(cases, splice);
    return unit_run("list", cases);
}
