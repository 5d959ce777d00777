/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each try is a process of its own: it runs one seed with the planted bug, and has found it when it
 * fails or crashes.  The seed must pass without the bug, or it proves nothing.
 */
#include "tests/sim/sim-mutants.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"

#define TRY_SECONDS 60u /* a try that takes longer hangs */

static const struct mutant {
    int number;
    struct sim_choice choice;
    const char *rule, *text;
} mutants[] = {
#define X(number, volatile_cache, mode, faults, style, rule, text) \
    {number, {volatile_cache, faults, -1, -1, -1, mode, -1, style}, rule, text},
    MUTANTS(X)
#undef X
};

struct attempt {
    uint64_t seed;
    unsigned rounds, faults;
};

static double now(void)
{
    return (double)clock_ns() / 1e9;
}

/* True when the run ends well. */
static bool passes(struct sim_world *world, const struct mutant *mutant, bool planted,
                   const struct attempt *attempt)
{
    struct sim_choice choice = mutant->choice;
    struct sim_config config;
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY);

        dup2(null, 1);
        dup2(null, 2);
        alarm(TRY_SECONDS);
        engine_mutant = planted ? mutant->number : 0;
        choice.faults = (int)attempt->faults;
        sim_config_choose(&config, attempt->seed, &choice);
        sim_world_begin(world, &config, false);
        sim_world_run(world, attempt->rounds);
        _exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        exit(2);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool finds(struct sim_world *world, const struct mutant *mutant,
                  const struct attempt *attempt)
{
    return !passes(world, mutant, true, attempt) && passes(world, mutant, false, attempt);
}

/* Lines of "number seed rounds faults"; # begins a comment. */
static bool find_known(struct sim_world *world, const struct mutant *mutant, const char *path,
                       struct attempt *attempt)
{
    FILE *file = path != NULL ? fopen(path, "r") : NULL;
    char line[200];
    bool found = false;
    int number;

    while (file != NULL && !found && fgets(line, sizeof(line), file) != NULL)
        if (sscanf(line, "%d %" SCNu64 " %u %u", &number, &attempt->seed, &attempt->rounds,
                   &attempt->faults) == 4 &&
            number == mutant->number)
            found = finds(world, mutant, attempt);
    if (file != NULL)
        fclose(file);
    return found;
}

static bool find_new(struct sim_world *world, const struct mutant *mutant,
                     const struct sim_mutant_hunt *hunt, struct attempt *attempt)
{
    double end = now() + (double)hunt->seconds;

    for (uint64_t i = 0; now() < end; i++) {
        unsigned faults = mutant->choice.faults >= 0 ? (unsigned)mutant->choice.faults : i % 2;

        *attempt = (struct attempt){hunt->seed + i, i % 4 < 2 ? 8 : 20, faults};
        if (finds(world, mutant, attempt))
            return true;
    }
    return false;
}

static bool hunt_one(struct sim_world *world, const struct mutant *mutant,
                     const struct sim_mutant_hunt *hunt)
{
    struct attempt attempt;
    double begin = now();
    bool known = find_known(world, mutant, hunt->known, &attempt);
    bool found = known || find_new(world, mutant, hunt, &attempt);

    if (found)
        printf("%4d %6" PRIu64 " %2u %u   # %-7s %s%s (%.1f s)\n", mutant->number, attempt.seed,
               attempt.rounds, attempt.faults, mutant->rule, mutant->text,
               known || hunt->known == NULL ? "" : ": NEW SEED", now() - begin);
    else
        printf("%4d NOT FOUND     # %-7s %s (%.1f s)\n", mutant->number, mutant->rule, mutant->text,
               now() - begin);
    return found;
}

static bool has_known(const char *path, int number)
{
    FILE *file = path != NULL ? fopen(path, "r") : NULL;
    char line[200];
    bool found = false;
    int other;

    while (file != NULL && !found && fgets(line, sizeof(line), file) != NULL)
        found = sscanf(line, "%d", &other) == 1 && other == number;
    if (file != NULL)
        fclose(file);
    return found;
}

static bool wanted(const struct sim_mutant_hunt *hunt, int number)
{
    const char *which = hunt->which;
    char *end;

    if (strcmp(which, "all") == 0)
        return true;
    if (strcmp(which, "known") == 0)
        return has_known(hunt->known, number);
    for (const char *at = which; *at != '\0'; at = *end == ',' ? end + 1 : end) {
        if (strtol(at, &end, 10) == number)
            return true;
        if (end == at)
            break;
    }
    return false;
}

/* Every jobs-th mutant; the exit status is how many were not found. */
static int worker(const struct sim_mutant_hunt *hunt, unsigned number)
{
    struct sim_world *world = sim_world_create();
    unsigned count = 0;
    int missed = 0;

    setvbuf(stdout, NULL, _IOLBF, 0);
    for (unsigned i = 0; i < sizeof(mutants) / sizeof(mutants[0]); i++)
        if (wanted(hunt, mutants[i].number) && count++ % hunt->jobs == number)
            missed += !hunt_one(world, &mutants[i], hunt);
    return missed;
}

bool sim_mutants_hunt(const struct sim_mutant_hunt *hunt)
{
    unsigned total = 0, missed = 0;
    double begin = now();

    for (unsigned i = 0; i < sizeof(mutants) / sizeof(mutants[0]); i++)
        total += wanted(hunt, mutants[i].number);
    fflush(stdout);
    for (unsigned i = 0; i < hunt->jobs; i++) {
        pid_t pid = fork();

        if (pid == 0)
            exit(worker(hunt, i));
        if (pid < 0)
            exit(2);
    }
    for (int status; wait(&status) > 0;)
        missed += WIFEXITED(status) ? (unsigned)WEXITSTATUS(status) : total;
    missed = missed < total ? missed : total;
    printf("found %u of %u mutants in %.0f s\n", total - missed, total, now() - begin);
    return missed == 0 && total > 0;
}
