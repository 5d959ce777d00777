/* SPDX-License-Identifier: Apache-2.0 */
/* blkcache-replay: the command line. */
#include <config.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/output.h"
#include "common/size.h"
#include "engine/format.h"
#include "replay/policy.h"
#include "replay/report.h"

#define WHY_BYTES       400u
#define POLICIES_MAX    8u
#define RAM_DEFAULT     "64M"
#define FLASH_DEFAULT   "1G"
#define FLASH_BYTES_MAX (UINT64_C(1) << 46)

enum exit_code {
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_WRONG_USAGE
};

struct size_option {
    const char *name, *text;
    bool is_percent;
    uint64_t value; /* bytes, or hundredths of a percent */
};

struct options {
    struct size_option ram, flash;
    struct replay_config config;
    const struct replay_policy *policies[POLICIES_MAX];
    unsigned policy_count;
    bool json;
    const char *trace;
};

static void usage(FILE *to)
{
    fputs("Usage: blkcache-replay [--ram SIZE] [--flash SIZE] [--policy NAME[,NAME...]] [--json]\n"
          "                       [OPTION...] TRACE\n"
          "\n"
          "Runs a block trace through the code that decides what blkcached keeps, without\n"
          "any I/O, and says how many blocks would be missed and how much flash written.\n"
          "TRACE has lines of time_us,op(R|W),offset_bytes,length_bytes[,volume], plain\n"
          "or compressed with zstd; \"-\" is standard input.\n"
          "\n"
          "  --ram SIZE        RAM tier: 64M, or a share of the flash such as 10%\n"
          "  --flash SIZE      flash: 1G, or a share of the trace's footprint such as 10%\n"
          "  --policy NAME     what decides:\n",
          to);
    for (const struct replay_policy *const *policy = replay_policies; *policy; policy++)
        fprintf(to, "                      %-10s %s\n", (*policy)->name, (*policy)->text);
    fputs("  --writes          replay writes, too (write-back); else only reads\n"
          "  --sequential-cutoff SIZE\n"
          "                    reads of a longer sequential stream do not enter the\n"
          "                    cache, as with the volume's sequential_cutoff (there 4M\n"
          "                    unless configured); default 0, no limit\n"
          "  --share VOLUME:MIN:MAX\n"
          "                    share_min and share_max of a volume of the trace\n"
          "  --segment-size SIZE, --shards NUMBER\n"
          "                    as of blkcachectl format\n"
          "  --json            print JSON\n"
          "  --version, --help\n",
          to);
}

__attribute__((format(printf, 1, 2))) static enum exit_code misused(const char *format, ...)
{
    va_list arguments;

    fputs("blkcache-replay: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputs("\nTry: blkcache-replay --help\n", stderr);
    return EXIT_WRONG_USAGE;
}

static enum exit_code fail(const char *what, const char *why)
{
    fprintf(stderr, "blkcache-replay: %s: %s\n", what, why);
    return EXIT_FAILED;
}

/* The exit code, unless what was to be printed was not. */
static enum exit_code told(enum exit_code code)
{
    int error = output_end();

    return error != 0 ? fail("cannot write to standard output", strerror(-error)) : code;
}

/* ---- the command line --------------------------------------------------------------------- */

/* "12.5%" in hundredths of a percent. */
static bool percent_parse(const char *text, uint64_t *value)
{
    char *end;
    double number;

    if (*text < '0' || *text > '9')
        return false;
    number = strtod(text, &end);
    if (strcmp(end, "%") != 0 || !(number <= 10000))
        return false;
    *value = (uint64_t)(number * 100 + 0.5);
    return true;
}

static bool size_option_parse(struct size_option *option, const char *text)
{
    option->text = text;
    option->is_percent = text[0] != '\0' && text[strlen(text) - 1] == '%';
    return option->is_percent ? percent_parse(text, &option->value)
                              : size_parse(text, &option->value) == 0;
}

static bool policies_parse(struct options *options, const char *text)
{
    while (options->policy_count < POLICIES_MAX) {
        size_t length = strcspn(text, ",");
        const struct replay_policy *policy = replay_policy_find(text, length);

        if (!policy)
            return false;
        options->policies[options->policy_count++] = policy;
        if (text[length] == '\0')
            return true;
        text += length + 1;
    }
    return false;
}

static bool shards_parse(const char *text, uint32_t *shards)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);

    *shards = (uint32_t)value;
    return *text >= '0' && *text <= '9' && *end == '\0' && value > 0 && value <= SHARDS_MAX;
}

/* "2:40:100" */
static bool share_parse(struct options *options, const char *text)
{
    unsigned volume, least, most;
    char rest;

    if (sscanf(text, "%3u:%3u:%3u%c", &volume, &least, &most, &rest) != 3 || volume < 1 ||
        volume > TRACE_VOLUMES || least > most || most < 1 || most > 100)
        return false;
    options->config.shares[volume - 1] =
        (struct replay_share){.least_percent = least, .most_percent = most};
    return true;
}

enum option_code {
    OPTION_RAM = 1,
    OPTION_FLASH,
    OPTION_POLICY,
    OPTION_WRITES,
    OPTION_CUTOFF,
    OPTION_SHARE,
    OPTION_SEGMENT_SIZE,
    OPTION_SHARDS,
    OPTION_JSON,
    OPTION_VERSION,
    OPTION_HELP
};

static const struct option option_table[] = {
    {"ram", required_argument, NULL, OPTION_RAM},
    {"flash", required_argument, NULL, OPTION_FLASH},
    {"policy", required_argument, NULL, OPTION_POLICY},
    {"writes", no_argument, NULL, OPTION_WRITES},
    {"sequential-cutoff", required_argument, NULL, OPTION_CUTOFF},
    {"share", required_argument, NULL, OPTION_SHARE},
    {"segment-size", required_argument, NULL, OPTION_SEGMENT_SIZE},
    {"shards", required_argument, NULL, OPTION_SHARDS},
    {"json", no_argument, NULL, OPTION_JSON},
    {"version", no_argument, NULL, OPTION_VERSION},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

/* -1: go on. */
static int option_take(struct options *options, int option)
{
    bool right = true;

    switch (option) {
    case OPTION_RAM: right = size_option_parse(&options->ram, optarg); break;
    case OPTION_FLASH: right = size_option_parse(&options->flash, optarg); break;
    case OPTION_POLICY: right = policies_parse(options, optarg); break;
    case OPTION_WRITES: options->config.writes = true; break;
    case OPTION_CUTOFF: right = size_parse(optarg, &options->config.cutoff_bytes) == 0; break;
    case OPTION_SHARE: right = share_parse(options, optarg); break;
    case OPTION_SEGMENT_SIZE:
        right = size_parse(optarg, &options->config.segment_bytes) == 0 &&
                options->config.segment_bytes > 0;
        break;
    case OPTION_SHARDS: right = shards_parse(optarg, &options->config.shards); break;
    case OPTION_JSON: options->json = true; break;
    case OPTION_VERSION: printf("blkcache-replay %s\n", PACKAGE_VERSION); return told(EXIT_DONE);
    case OPTION_HELP: usage(stdout); return told(EXIT_DONE);
    default: fputs("Try: blkcache-replay --help\n", stderr); return EXIT_WRONG_USAGE;
    }
    if (!right)
        return misused("--%s: \"%s\" is not possible", option_table[option - 1].name, optarg);
    return -1;
}

static int parse(struct options *options, int argc, char **argv)
{
    int option, code = -1;

    size_option_parse(&options->ram, RAM_DEFAULT);
    size_option_parse(&options->flash, FLASH_DEFAULT);
    while (code < 0 && (option = getopt_long(argc, argv, "", option_table, NULL)) != -1)
        code = option_take(options, option);
    if (code >= 0)
        return code;
    if (argc - optind != 1)
        return misused(argc == optind ? "which trace?" : "one trace at a time");
    options->trace = argv[optind];
    if (options->policy_count == 0)
        options->policies[options->policy_count++] = replay_policies[0];
    if (strcmp(options->trace, "-") == 0 &&
        (options->policy_count > 1 || options->flash.is_percent))
        return misused("standard input can be read only once: give one policy, and the size of the "
                       "flash in bytes");
    return -1;
}

/* ---- the work ----------------------------------------------------------------------------- */

static int sizes_settle(struct options *options, char *why)
{
    uint64_t *flash = &options->config.flash_bytes, *ram = &options->config.ram_bytes;
    struct trace *trace;
    int64_t blocks;

    *flash = options->flash.value;
    if (options->flash.is_percent) {
        trace = trace_open(options->trace, why, WHY_BYTES);
        if (!trace)
            return -1;
        blocks = replay_footprint(trace, options->config.writes);
        if (blocks < 0)
            snprintf(why, WHY_BYTES, "%s",
                     *trace_why(trace) ? trace_why(trace) : "not enough memory");
        trace_close(trace);
        if (blocks < 0)
            return -1;
        *flash = (uint64_t)blocks * options->flash.value / 10000 * BLOCK_BYTES;
    }
    *ram = options->ram.value;
    if (options->ram.is_percent)
        *ram = *flash / BLOCK_BYTES * options->ram.value / 10000 * BLOCK_BYTES;
    if (*flash <= FLASH_BYTES_MAX && *ram <= FLASH_BYTES_MAX)
        return 0;
    snprintf(why, WHY_BYTES, "RAM and flash may have 64T at most");
    return -1;
}

static double seconds_now(void)
{
    return (double)clock_ns() / 1e9;
}

static int replay(const struct options *options, const struct replay_policy *policy,
                  struct report *report, char *why)
{
    struct trace *trace = trace_open(options->trace, why, WHY_BYTES);
    double start = seconds_now();
    struct trace_request request;
    struct replay *state;
    int got = -1;

    if (!trace)
        return -1;
    state = policy->create(&options->config, why, WHY_BYTES);
    if (state) {
        while ((got = trace_next(trace, &request)) > 0)
            if (!request.is_write || options->config.writes)
                policy->request(state, &request);
        if (got < 0)
            snprintf(why, WHY_BYTES, "%s", trace_why(trace));
        *report = (struct report){
            .policy = policy->name, .trace = options->trace, .config = &options->config};
        policy->result(state, &report->result);
        policy->destroy(state);
    }
    report->seconds = seconds_now() - start;
    trace_close(trace);
    return got;
}

static int print_json(const struct report *reports, unsigned count)
{
    json_t *json = count == 1 ? report_json(&reports[0]) : json_array();

    for (unsigned i = 0; json && count > 1 && i < count; i++)
        if (json_array_append_new(json, report_json(&reports[i])) < 0) {
            json_decref(json);
            json = NULL;
        }
    if (!json)
        return -1;
    json_dumpf(json, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(json);
    return 0;
}

static void print_table(const struct report *reports, unsigned count)
{
    char ram[SIZE_TEXT_BYTES], flash[SIZE_TEXT_BYTES];
    const struct replay_result *first = &reports[0].result;

    printf("%s: %" PRIu64 " reads of %" PRIu64 " blocks, %" PRIu64 " writes; RAM %s, flash %s\n",
           reports[0].trace, first->reads, first->read_blocks, first->writes,
           size_print_human(ram, reports[0].config->ram_bytes),
           size_print_human(flash, reports[0].config->flash_bytes));
    report_print_head();
    for (unsigned i = 0; i < count; i++)
        report_print(&reports[i]);
}

int main(int argc, char **argv)
{
    struct options options = {.policy_count = 0};
    struct report reports[POLICIES_MAX];
    char why[WHY_BYTES] = "";
    int code;

    output_begin();
    code = parse(&options, argc, argv);
    if (code >= 0)
        return code;
    if (sizes_settle(&options, why) < 0)
        return fail(options.trace, why);
    for (unsigned i = 0; i < options.policy_count; i++)
        if (replay(&options, options.policies[i], &reports[i], why) < 0)
            return fail(options.trace, why);
    if (reports[0].result.too_small)
        fprintf(stderr, "blkcache-replay: warning: blkcachectl format would refuse so small a "
                        "flash; it is replayed with smaller segments\n");
    if (!options.json)
        print_table(reports, options.policy_count);
    else if (print_json(reports, options.policy_count) < 0)
        return fail("--json", "not enough memory");
    return told(EXIT_DONE);
}
