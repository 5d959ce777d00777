/* SPDX-License-Identifier: Apache-2.0 */
/* How far long work is, in one line on a terminal that is written over. */
#include "daemon/progress.h"

#include <stdio.h>

#include "common/clock.h"
#include "common/size.h"

#define PRINT_EVERY_NS UINT64_C(200000000)

void progress_begin(struct progress *progress, const char *what, bool shown)
{
    *progress = (struct progress){
        .what = what, .shown = shown, .started_ns = clock_ns(), .least = UINT64_MAX};
    progress->printed_ns = progress->gained_ns = progress->started_ns;
}

bool progress_stalls(struct progress *progress, uint64_t left, bool hindered, double patience)
{
    uint64_t now = clock_ns();

    if (left < progress->least || !hindered)
        progress->gained_ns = now;
    if (left < progress->least)
        progress->least = left;
    return hindered && (double)(now - progress->gained_ns) / 1e9 > patience;
}

void progress_bytes(struct progress *progress, uint64_t done, uint64_t total)
{
    char done_text[SIZE_TEXT_BYTES], total_text[SIZE_TEXT_BYTES], rate_text[SIZE_TEXT_BYTES];
    uint64_t now;
    double seconds, rate;

    if (!progress->shown)
        return;
    now = clock_ns();
    if (now - progress->printed_ns < PRINT_EVERY_NS)
        return;
    progress->printed_ns = now;
    seconds = (double)(now - progress->started_ns) / 1e9;
    rate = (double)done / seconds;
    fprintf(stderr, "\r%s: %s of %s", progress->what, size_print_human(done_text, done),
            size_print_human(total_text, total));
    if (done > 0) /* else nobody knows yet */
        fprintf(stderr, ", %s/s, %.0f s left", size_print_human(rate_text, (uint64_t)rate),
                (double)(total - done) / rate);
    fputs("\033[K", stderr);
}

void progress_end(struct progress *progress)
{
    if (progress->shown && progress->printed_ns != progress->started_ns)
        fputs("\r\033[K", stderr);
}
