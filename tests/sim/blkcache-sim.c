/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blkcache-sim: runs the engine on simulated machines that crash.
 *
 *   blkcache-sim --seed 1 --seeds 100 --rounds 30      a hundred machines, thirty lives each
 *   blkcache-sim --seed 7 --rounds 30 --trace          one of them again, with every decision
 *   blkcache-sim --script all --every crash            each crash point of each short script
 *   blkcache-sim --seconds 600 --jobs 2                as many as there is time for
 *
 * blkcache-sim-mutants is the same with bugs planted in it:
 *
 *   blkcache-sim-mutants --mutant 14 --seed 7            a run with one of them
 *   blkcache-sim-mutants --mutants all --seconds 60      looks for each
 *
 * Each seed runs twice, and both runs must decide the same (--once: it runs once).  A failure says
 * how to repeat it, and ends the program with 1.
 */
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/sim/sim-drive.h"
#include "tests/sim/sim-mutants.h"
#include "tests/sim/sim-report.h"

#ifndef SIM_COMMIT
#    define SIM_COMMIT "unknown"
#endif

#ifdef ENGINE_MUTANTS
int engine_mutant; /* the planted bug that is active */
#endif

struct options {
    struct sim_choice choice;
    uint64_t seed, seeds, rounds, steps;
    uint64_t seconds;
    unsigned jobs;
    bool once, trace, quiet;
    const char *images;
    const char *script, *every; /* every: crash, double, error */
    struct sim_mutant_hunt hunt;
    struct sim_drive drive;
};

/* clang-format off: one a line */
static const struct option long_options[] = {
    {"seed", required_argument, NULL, 's'},
    {"seeds", required_argument, NULL, 'n'},
    {"rounds", required_argument, NULL, 'r'},
    {"steps", required_argument, NULL, 'S'},
    {"seconds", required_argument, NULL, 't'},
    {"jobs", required_argument, NULL, 'j'},
    {"volatile", required_argument, NULL, 'v'},
    {"faults", required_argument, NULL, 'f'},
    {"cores", required_argument, NULL, 'c'},
    {"shards", required_argument, NULL, 'H'},
    {"volumes", required_argument, NULL, 'V'},
    {"mode", required_argument, NULL, 'm'},
    {"ordered", required_argument, NULL, 'O'},
    {"style", required_argument, NULL, 'Y'},
    {"once", no_argument, NULL, 'o'},
    {"trace", no_argument, NULL, 'T'},
    {"mutant", required_argument, NULL, 'M'},
    {"mutants", required_argument, NULL, 'U'},
    {"known", required_argument, NULL, 'k'},
    {"script", required_argument, NULL, 'x'},
    {"every", required_argument, NULL, 'e'},
    {"variants", required_argument, NULL, 'N'},
    {"stride", required_argument, NULL, 'I'},
    {"crash-at", required_argument, NULL, 'C'},
    {"second-at", required_argument, NULL, 'D'},
    {"variant", required_argument, NULL, 'R'},
    {"kill", required_argument, NULL, 'K'},
    {"fail-device", required_argument, NULL, 'F'},
    {"fail-at", required_argument, NULL, 'A'},
    {"images", required_argument, NULL, 'G'},
    {"quiet", no_argument, NULL, 'q'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};
/* clang-format on */

static void usage(FILE *to)
{
    fputs("usage: blkcache-sim [--seed N] [--seeds N] [--rounds N] [--steps N] [--once] [--trace]\n"
          "         [--seconds N] [--jobs N] [--volatile 0|1] [--faults 0|1] [--cores 1..4]\n"
          "         [--shards 1|2|4] [--volumes 1..4] [--mode 0..3] [--ordered 0|1] [--style 0..3] "
          "[--quiet]\n"
          "         [--images DIRECTORY]\n"
          "       blkcache-sim --script NAME|all --every crash|double|error [--variants N] "
          "[--stride N]\n"
          "       blkcache-sim --script NAME [--crash-at STEP] [--second-at STEP] [--variant N]\n"
          "         [--kill 0|1] [--fail-device N] [--fail-at N] [--trace]\n"
          "scripts:\n",
          to);
    for (uint32_t i = 0; i < sim_script_count; i++)
        fprintf(to, "  %-14s %s\n", sim_scripts[i].name, sim_scripts[i].text);
}

static bool parse(struct options *options, int argc, char **argv)
{
    struct sim_mishap *only = &options->drive.only;
    int option;

    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        unsigned long long value = optarg != NULL ? strtoull(optarg, NULL, 0) : 0;

        switch (option) {
        case 's': options->seed = value; break;
        case 'n': options->seeds = value; break;
        case 'r': options->rounds = value; break;
        case 'S': options->steps = value; break;
        case 't': options->seconds = value; break;
        case 'j': options->jobs = (unsigned)value; break;
        case 'v': options->choice.flash_volatile = (int)value; break;
        case 'f': options->choice.faults = (int)value; break;
        case 'c': options->choice.cores = (int)value; break;
        case 'H': options->choice.shards = (int)value; break;
        case 'V': options->choice.volumes = (int)value; break;
        case 'm': options->choice.mode = (int)value; break;
        case 'O': options->choice.ordered = (int)value; break;
        case 'Y': options->choice.style = (int)value; break;
        case 'o': options->once = true; break;
        case 'T': options->trace = options->once = true; break;
#ifdef ENGINE_MUTANTS
        case 'M': engine_mutant = (int)value; break;
        case 'U': options->hunt.which = optarg; break;
        case 'k': options->hunt.known = optarg; break;
#endif
        case 'x': options->script = optarg; break;
        case 'e': options->every = optarg; break;
        case 'N': options->drive.variants = (uint32_t)value; break;
        case 'I': options->drive.stride = (uint32_t)value; break;
        case 'C': only->crash_step = value; break;
        case 'D': only->second_step = value; break;
        case 'R': only->variant = (uint32_t)value; break;
        case 'K': only->killed = value != 0; break;
        case 'F': only->fail_device = (uint32_t)value; break;
        case 'A': only->fail_io = value; break;
        case 'G': options->images = optarg; break;
        case 'q': options->quiet = true; break;
        case 'h': usage(stdout); exit(0);
        default: return false;
        }
    }
    return optind == argc && options->jobs >= 1 && options->jobs <= 64;
}

/* ---- failures ---------------------------------------------------------------------------- */

static void on_signal(int number)
{
    struct sim_world *world = sim_failing_world;

    signal(SIGABRT, SIG_DFL);
    if (world != NULL)
        sim_fail(world, "signal %d (%s)", number, strsignal(number));
    _exit(1);
}

static const char *replay_line(const struct options *options, uint64_t seed)
{
    static char line[400];
    const struct sim_choice *choice = &options->choice;
    int used = snprintf(line, sizeof(line), "blkcache-sim --seed %" PRIu64 " --rounds %" PRIu64,
                        seed, options->rounds);
    const struct {
        const char *name;
        int value;
    } fixed[] = {{"volatile", choice->flash_volatile},
                 {"faults", choice->faults},
                 {"cores", choice->cores},
                 {"shards", choice->shards},
                 {"volumes", choice->volumes},
                 {"mode", choice->mode},
                 {"ordered", choice->ordered},
                 {"style", choice->style}};

    for (unsigned i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
        if (fixed[i].value >= 0)
            used += snprintf(line + used, sizeof(line) - (size_t)used, " --%s %d", fixed[i].name,
                             fixed[i].value);
    if (options->steps != 0)
        used +=
            snprintf(line + used, sizeof(line) - (size_t)used, " --steps %" PRIu64, options->steps);
    snprintf(line + used, sizeof(line) - (size_t)used, " --trace   (commit %s)", SIM_COMMIT);
    return line;
}

/* ---- running ----------------------------------------------------------------------------- */

static void run_seed(struct sim_world *world, const struct options *options, uint64_t seed)
{
    struct sim_config config;
    uint64_t first = 0;

    sim_config_choose(&config, seed, &options->choice);
    if (options->steps != 0)
        config.steps_max = (uint32_t)options->steps;
    world->replay = replay_line(options, seed);
    for (unsigned run = 0; run < (options->once ? 1 : 2); run++) {
        struct sim_totals totals = world->totals;

        world->images = run == 0 ? options->images : NULL;

        sim_world_begin(world, &config, options->trace);
        sim_world_run(world, (uint32_t)options->rounds);
        if (run == 0) {
            first = world->trace.hash;
        } else {
            world->totals = totals; /* counted once */
            if (world->trace.hash != first)
                sim_fail(world, "two runs of the seed differ: %016" PRIx64 " and %016" PRIx64,
                         first, world->trace.hash);
        }
    }
    if (options->trace)
        printf("hash %016" PRIx64 "\n", first);
}

static void run_script(struct sim_world *world, const struct options *options,
                       const struct sim_script *script)
{
    const struct sim_drive *drive = &options->drive;

    if (options->every == NULL)
        sim_drive_one(world, script, drive);
    else if (strcmp(options->every, "crash") == 0)
        sim_drive_crashes(world, script, drive);
    else if (strcmp(options->every, "double") == 0)
        sim_drive_double(world, script, drive);
    else
        sim_drive_errors(world, script, drive);
}

static void run_scripts(struct sim_world *world, const struct options *options)
{
    bool all = strcmp(options->script, "all") == 0;
    const struct sim_script *one = sim_script_find(options->script);

    if (!all && one == NULL) {
        fprintf(stderr, "blkcache-sim: no script is called %s\n", options->script);
        exit(2);
    }
    for (uint32_t i = 0; i < sim_script_count; i++)
        if (all || &sim_scripts[i] == one)
            run_script(world, options, &sim_scripts[i]);
}

static void run_seeds(struct sim_world *world, const struct options *options, unsigned number)
{
    time_t end = time(NULL) + (time_t)options->seconds;

    for (uint64_t i = number;; i += options->jobs) {
        if (options->seconds != 0 ? time(NULL) >= end : i >= options->seeds)
            break;
        run_seed(world, options, options->seed + i);
    }
}

static int worker(struct options *options, unsigned number, int report)
{
    struct sim_world *world = sim_world_create();

    sim_failing_world = world;
    signal(SIGABRT, on_signal);
    signal(SIGSEGV, on_signal);
    options->drive.seed = options->seed;
    options->drive.print = options->trace;
    options->drive.worker = number;
    options->drive.workers = options->jobs;
    if (options->script != NULL)
        run_scripts(world, options);
    else
        run_seeds(world, options, number);
    if (write(report, &world->totals, sizeof(world->totals)) != sizeof(world->totals))
        return 1;
    return 0;
}

static bool run_workers(struct options *options, struct sim_totals *sum)
{
    bool good = true;
    int ends[2];

    if (pipe(ends) != 0)
        return false;
    for (unsigned i = 0; i < options->jobs; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            close(ends[0]);
            exit(worker(options, i, ends[1]));
        }
        good &= pid > 0;
    }
    close(ends[1]);
    for (struct sim_totals totals; read(ends[0], &totals, sizeof(totals)) == sizeof(totals);)
        sim_totals_add(sum, &totals);
    for (int status; wait(&status) > 0;)
        good &= WIFEXITED(status) && WEXITSTATUS(status) == 0;
    return good;
}

int main(int argc, char **argv)
{
    struct options options = {.choice = {-1, -1, -1, -1, -1, -1, -1, -1},
                              .seed = 1,
                              .seeds = 1,
                              .rounds = 30,
                              .jobs = 1,
                              .drive.variants = 3,
                              .drive.stride = 10};
    struct sim_totals sum = {0};
    uint64_t begin_ns;
    bool good;

    if (!parse(&options, argc, argv)) {
        usage(stderr);
        return 2;
    }
#ifdef ENGINE_MUTANTS
    if (options.hunt.which != NULL) {
        options.hunt.seed = options.seed;
        options.hunt.seconds = options.seconds;
        options.hunt.jobs = options.jobs;
        return sim_mutants_hunt(&options.hunt) ? 0 : 1;
    }
#endif
    begin_ns = clock_ns();
    good = run_workers(&options, &sum);
    if (!options.quiet)
        sim_report(&sum, (double)(clock_ns() - begin_ns) / 1e9);
    puts(good ? "lost or wrong: 0" : "FAILED");
    return good ? 0 : 1;
}
