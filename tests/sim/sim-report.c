/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/sim-report.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static_assert(sizeof(struct sim_totals) % sizeof(uint64_t) == 0, "totals are numbers only");

void sim_totals_add(struct sim_totals *sum, const struct sim_totals *more)
{
    uint64_t *to = (uint64_t *)sum;
    const uint64_t *from = (const uint64_t *)more;

    uint64_t ns_max =
        sum->alone_ns_max > more->alone_ns_max ? sum->alone_ns_max : more->alone_ns_max;
    uint64_t boundaries_max = sum->alone_boundaries_max > more->alone_boundaries_max
                                  ? sum->alone_boundaries_max
                                  : more->alone_boundaries_max;

    for (size_t i = 0; i < sizeof(*sum) / sizeof(uint64_t); i++)
        to[i] += from[i];
    sum->alone_ns_max = ns_max;
    sum->alone_boundaries_max = boundaries_max;
}

void sim_report(const struct sim_totals *t, double seconds)
{
    static const char *const notices[] = {
#define X(name, text) [name] = text,
        NOTICES(X)
#undef X
    };

    printf("seeds %" PRIu64 ", rounds %" PRIu64 " (%.0f per second), steps %" PRIu64 "\n", t->seeds,
           t->rounds, seconds > 0 ? (double)t->rounds / seconds : 0.0, t->steps);
    if (t->crash_points + t->failed_ios > 0)
        printf("scripts: crash points %" PRIu64 ", failed I/Os %" PRIu64 "\n", t->crash_points,
               t->failed_ios);
    printf("crashes: %" PRIu64 " of power, %" PRIu64 " of the process, %" PRIu64
           " of these before serving; clean stops %" PRIu64 "\n",
           t->crashes_power, t->crashes_kill, t->crashes_boot, t->clean_stops);
    printf("requests: read %" PRIu64 " write %" PRIu64 " zero %" PRIu64 " trim %" PRIu64
           " prefetch %" PRIu64 " invalidate %" PRIu64 " flush %" PRIu64 "; failed %" PRIu64 "\n",
           t->requests[OP_READ], t->requests[OP_WRITE], t->requests[OP_ZERO], t->requests[OP_TRIM],
           t->requests[OP_PREFETCH], t->requests[OP_INVALIDATE], t->requests[OP_FLUSH],
           t->request_errors);
    printf("checked %" PRIu64 " MiB; open after crashes %" PRIu64 " units, not followed %" PRIu64
           "\n",
           t->bytes_checked >> 20, t->ambiguous, t->lost_track);
    printf("power cuts: writes landed %" PRIu64 " vanished %" PRIu64 " torn %" PRIu64
           " garbage %" PRIu64 "\n",
           t->fates_landed, t->fates_vanished, t->fates_torn, t->fates_garbage);
    printf("faults: errors on read %" PRIu64 " write %" PRIu64 " flush %" PRIu64 ", slow %" PRIu64
           " stuck %" PRIu64 " misdirected %" PRIu64 " rot %" PRIu64 " wrong reads %" PRIu64
           ", dropped by flushes %" PRIu64 "\n",
           t->read_errors, t->write_errors, t->flush_errors, t->faults_slow, t->faults_stuck,
           t->faults_misdirected, t->faults_rot, t->faults_wrong, t->faults_dropped);
    printf("faults: flash removed %" PRIu64 " and back %" PRIu64 ", backing removed %" PRIu64
           " and back %" PRIu64 ", clock jumps %" PRIu64 ", crashes in recovery %" PRIu64 "\n",
           t->flash_removed, t->flash_inserted, t->backing_removed, t->backing_inserted,
           t->clock_jumps, t->crashes_boot);
    printf("changes: of modes %" PRIu64 ", volumes removed %" PRIu64 "\n", t->mode_changes,
           t->volumes_removed);
    printf("engine: segments reclaimed %" PRIu64 " kept %" PRIu64 " retired %" PRIu64
           ", blocks reinserted %" PRIu64 " destaged %" PRIu64 " healed %" PRIu64 "\n",
           t->segments_reclaimed, t->segments_kept, t->segments_retired, t->reinserted, t->destaged,
           t->healed);
    if (t->alone_checks > 0)
        printf("flash lost, ordered volumes: %" PRIu64
               " backing stores legal, behind by %.1f epochs "
               "and %.3f s on average, %" PRIu64 " and %.3f s at most; epochs destaged %" PRIu64
               "; not checked (recovering, damaged) %" PRIu64 "\n",
               t->alone_checks, (double)t->alone_boundaries / (double)t->alone_checks,
               (double)t->alone_ns / 1e9 / (double)t->alone_checks, t->alone_boundaries_max,
               (double)t->alone_ns_max / 1e9, t->epochs_opened, t->alone_skipped);
    if (t->attach_losses + t->attach_without > 0)
        printf("flash: lost in use %" PRIu64 ", started without %" PRIu64 ", back %" PRIu64
               " with %" PRIu64 " dirty blocks, given up %" PRIu64 "\n",
               t->attach_losses, t->attach_without, t->attach_returns, t->attach_kept,
               t->attach_given_up);
    for (unsigned i = 0; i < sizeof(notices) / sizeof(notices[0]); i++)
        if (t->notices[i] != 0)
            printf("notice: %s: %" PRIu64 "\n", notices[i], t->notices[i]);
}
