/* SPDX-License-Identifier: Apache-2.0 */
/* "did you mean": the known word that a mistyped one is nearest to. */
#include "daemon/suggest.h"

#include <string.h>

#define WORD_BYTES_MAX 32

static unsigned smallest(unsigned a, unsigned b, unsigned c)
{
    unsigned least = a < b ? a : b;

    return least < c ? least : c;
}

/* Edit distance: insertions, deletions, changes, exchanged neighbours. */
static unsigned distance(const char *a, const char *b)
{
    size_t a_bytes = strlen(a), b_bytes = strlen(b);
    unsigned cost[WORD_BYTES_MAX + 1][WORD_BYTES_MAX + 1];

    if (a_bytes > WORD_BYTES_MAX || b_bytes > WORD_BYTES_MAX)
        return WORD_BYTES_MAX;
    for (size_t i = 0; i <= a_bytes; i++) {
        for (size_t j = 0; j <= b_bytes; j++) {
            if (i == 0 || j == 0) {
                cost[i][j] = (unsigned)(i + j);
                continue;
            }
            cost[i][j] = smallest(cost[i - 1][j] + 1, cost[i][j - 1] + 1,
                                  cost[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                cost[i - 2][j - 2] + 1 < cost[i][j])
                cost[i][j] = cost[i - 2][j - 2] + 1;
        }
    }
    return cost[a_bytes][b_bytes];
}

const char *suggest(const char *typed, const char *const *words, size_t count)
{
    /* Half the letters wrong is another word. */
    unsigned best = strlen(typed) < 4 ? 2 : 3;
    const char *nearest = NULL;

    for (size_t i = 0; i < count; i++) {
        unsigned away = distance(typed, words[i]);

        if (away < best) {
            best = away;
            nearest = words[i];
        }
    }
    return nearest;
}
