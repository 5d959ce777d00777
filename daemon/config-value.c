/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One value of the configuration: from the file, or its fallback, into its field.
 *
 * A value is first taken as a text or an integer, whichever the file has; then each type makes its
 * own of it.  Fallbacks are texts and take the same way, so they are checked like the rest.
 */
#include "daemon/config-value.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/duration.h"
#include "common/size.h"
#include "daemon/suggest.h"
#include "engine/format.h"

#define NS_PER_MS UINT64_C(1000000)

static uint64_t round_down(uint64_t value, uint64_t unit)
{
    return value / unit * unit;
}

static uint64_t round_up(uint64_t value, uint64_t unit)
{
    return round_down(value + unit - 1, unit);
}

/* What the file has for one plain value. */
struct raw {
    const char *text; /* NULL: it is the integer, or neither */
    bool is_integer, is_toggle, toggle;
    int64_t integer;
};

static struct raw raw_of(const config_setting_t *setting)
{
    switch (config_setting_type(setting)) {
    case CONFIG_TYPE_STRING: return (struct raw){.text = config_setting_get_string(setting)};
    case CONFIG_TYPE_INT:
        return (struct raw){.is_integer = true, .integer = config_setting_get_int(setting)};
    case CONFIG_TYPE_INT64:
        return (struct raw){.is_integer = true, .integer = config_setting_get_int64(setting)};
    case CONFIG_TYPE_BOOL:
        return (struct raw){.is_toggle = true, .toggle = config_setting_get_bool(setting)};
    default: return (struct raw){0};
    }
}

/* ---- choices -------------------------------------------------------------------------------- */

#define CHOICES_MAX 8

struct choices {
    char copy[128];
    const char *word[CHOICES_MAX];
    unsigned count;
};

static void choices_split(struct choices *choices, const char *text)
{
    char *at = choices->copy;

    assert(strlen(text) < sizeof(choices->copy));
    strcpy(choices->copy, text);
    choices->count = 0;
    while (at != NULL) {
        assert(choices->count < CHOICES_MAX);
        choices->word[choices->count++] = strsep(&at, "|");
    }
}

/* ---- what a key wants, in words -------------------------------------------------------------- */

static void print_wanted_choice(FILE *to, const char *text)
{
    struct choices choices;

    choices_split(&choices, text);
    fputs("give one of", to);
    for (unsigned i = 0; i < choices.count; i++)
        fprintf(to, "%s \"%s\"",
                i == 0                   ? ""
                : i + 1 == choices.count ? " or"
                                         : ",",
                choices.word[i]);
}

static void print_wanted(FILE *to, const struct config_key *key)
{
    char low[SIZE_TEXT_BYTES], high[SIZE_TEXT_BYTES];

    switch (key->type) {
    case CONFIG_TEXT:
        fprintf(to, "give a string of %" PRId64 " to %" PRId64 " bytes", key->low, key->high);
        break;
    case CONFIG_SIZE:
        fprintf(to, "give a size from %s to %s, such as \"512M\"",
                size_print(low, (uint64_t)key->low), size_print(high, (uint64_t)key->high));
        break;
    case CONFIG_NUMBER:
        fprintf(to, "give a number from %" PRId64 " to %" PRId64, key->low, key->high);
        break;
    case CONFIG_PERCENT:
        fprintf(to, "give a percentage from %" PRId64 " to %" PRId64, key->low, key->high);
        break;
    case CONFIG_DURATION:
        fprintf(to, "give a time from %" PRId64 "ms to %" PRId64 "s, such as \"30s\" or 30",
                key->low, key->high / 1000);
        break;
    case CONFIG_TOGGLE: fputs("give true or false", to); break;
    case CONFIG_CHOICE: print_wanted_choice(to, key->choices); break;
    case CONFIG_NUMBERS:
        fprintf(to, "give numbers from %" PRId64 " to %" PRId64 ", such as [ 0, 1 ]", key->low,
                key->high);
        break;
    case CONFIG_TEXTS: fputs("give a list of strings, such as ( \"one\", \"two\" )", to); break;
    case CONFIG_RANGES:
        fprintf(to,
                "give ranges such as \"0-1G\" or \"10G+512M\", %" PRId64 " at most, or \"none\"",
                key->high);
        break;
    }
}

/* Reports `what` about a value, and what the key wants. */
static void refuse(const struct config_key *key, const config_setting_t *setting, const char *path,
                   struct config_report *report, const char *what)
{
    char wanted[400];
    FILE *to = fmemopen(wanted, sizeof(wanted), "w");

    if (to == NULL) {
        config_report_error(report, setting, path, "%s", what);
        return;
    }
    print_wanted(to, key);
    fclose(to);
    config_report_error(report, setting, path, "%s; %s", what, wanted);
}

static const char *type_in_words(const config_setting_t *setting)
{
    switch (config_setting_type(setting)) {
    case CONFIG_TYPE_GROUP: return "is a group";
    case CONFIG_TYPE_LIST: return "is a list";
    case CONFIG_TYPE_ARRAY: return "is an array";
    case CONFIG_TYPE_STRING: return "is a string";
    case CONFIG_TYPE_BOOL: return "is true or false";
    case CONFIG_TYPE_FLOAT: return "is a number with a fraction";
    default: return "is a number";
    }
}

/* ---- plain values: 0, -EINVAL (not of this form), -ERANGE, -EPROTOTYPE (wrong type) -----------
 */

static int in_range(const struct config_key *key, uint64_t value)
{
    return value >= (uint64_t)key->low && value <= (uint64_t)key->high ? 0 : -ERANGE;
}

static int read_text(const struct config_key *key, const struct raw *raw, void *field)
{
    if (raw->text == NULL)
        return -EPROTOTYPE;
    if (in_range(key, strlen(raw->text)))
        return -ERANGE;
    *(config_text *)field = raw->text;
    return 0;
}

static int read_size(const struct config_key *key, const struct raw *raw, void *field)
{
    uint64_t bytes;

    if (raw->is_integer) {
        if (raw->integer < 0)
            return -ERANGE;
        bytes = (uint64_t)raw->integer;
    } else if (raw->text != NULL) {
        int error = size_parse(raw->text, &bytes);

        if (error)
            return error;
    } else {
        return -EPROTOTYPE;
    }
    *(config_size *)field = bytes;
    return in_range(key, bytes);
}

static int read_number(const struct config_key *key, const struct raw *raw, void *field)
{
    int64_t value = raw->integer;

    /* Only the fallback is a text; an empty one is "not given". */
    if (raw->text != NULL && raw->text[0] == '\0') {
        *(config_number *)field = -1;
        return 0;
    }
    if (raw->text != NULL)
        value = strtoll(raw->text, NULL, 10);
    else if (!raw->is_integer)
        return -EPROTOTYPE;
    if (value < key->low || value > key->high)
        return -ERANGE;
    *(config_number *)field = value;
    return 0;
}

/* Digits with an optional unit: the units are separated by blanks; *unit is the index of the one
 * found, or -1. */
static int read_with_unit(const char *text, const char *const *units, unsigned unit_count,
                          uint64_t *value, int *unit)
{
    char *end;

    if (*text < '0' || *text > '9')
        return -EINVAL;
    errno = 0;
    *value = strtoull(text, &end, 10);
    if (errno)
        return -ERANGE;
    *unit = -1;
    if (*end == '\0')
        return 0;
    for (unsigned i = 0; i < unit_count; i++) {
        if (strcmp(end, units[i]) == 0) {
            *unit = (int)i;
            return 0;
        }
    }
    return -EINVAL;
}

static int read_percent(const struct config_key *key, const struct raw *raw, void *field)
{
    static const char *const units[] = {"%"};
    uint64_t percent;
    int unit, error;

    if (raw->is_integer) {
        if (raw->integer < 0)
            return -ERANGE;
        percent = (uint64_t)raw->integer;
    } else if (raw->text != NULL) {
        error = read_with_unit(raw->text, units, 1, &percent, &unit);
        if (error)
            return error;
    } else {
        return -EPROTOTYPE;
    }
    if (in_range(key, percent))
        return -ERANGE;
    *(config_percent *)field = (uint32_t)percent;
    return 0;
}

static int read_duration(const struct config_key *key, const struct raw *raw, void *field)
{
    uint64_t ns;
    int error;

    if (raw->text != NULL) {
        error = duration_parse(raw->text, &ns);
        if (error)
            return error;
    } else if (!raw->is_integer) {
        return -EPROTOTYPE;
    } else if (__builtin_mul_overflow((uint64_t)raw->integer, 1000 * NS_PER_MS, &ns)) {
        return -ERANGE; /* below 0, too */
    }
    *(config_duration *)field = ns;
    return in_range(key, ns / NS_PER_MS);
}

static int read_toggle(const struct config_key *key, const struct raw *raw, void *field)
{
    (void)key;
    if (raw->is_toggle)
        *(config_toggle *)field = raw->toggle;
    else if (raw->text != NULL && strcmp(raw->text, "true") == 0)
        *(config_toggle *)field = true;
    else if (raw->text != NULL && strcmp(raw->text, "false") == 0)
        *(config_toggle *)field = false;
    else
        return -EPROTOTYPE;
    return 0;
}

static int read_choice(const struct config_key *key, const struct raw *raw, void *field)
{
    struct choices choices;

    if (raw->text == NULL)
        return -EPROTOTYPE;
    choices_split(&choices, key->choices);
    for (unsigned i = 0; i < choices.count; i++) {
        if (strcmp(raw->text, choices.word[i]) == 0) {
            *(config_choice *)field = i;
            return 0;
        }
    }
    return -EINVAL;
}

/* Adds to the field; what begins or ends within a block has all of it. */
static int add_ranges(const struct raw *raw, config_ranges *field)
{
    struct ranges exact = {0}, all = *field;
    int error;

    if (raw->text == NULL)
        return -EPROTOTYPE;
    error = ranges_parse(&exact, raw->text);
    for (uint32_t i = 0; i < exact.count && !error; i++) {
        uint64_t end = exact.list[i].end;

        end = end > UINT64_MAX - BLOCK_BYTES ? UINT64_MAX : round_up(end, BLOCK_BYTES);
        error = ranges_add(&all, round_down(exact.list[i].first, BLOCK_BYTES), end);
    }
    if (!error)
        *field = all;
    return error;
}

static int read_ranges(const struct raw *raw, config_ranges *field)
{
    struct ranges ranges = {0};
    int error = add_ranges(raw, &ranges);

    if (!error)
        *field = ranges;
    return error;
}

static int read_plain(const struct config_key *key, const struct raw *raw, void *field)
{
    switch (key->type) {
    case CONFIG_TEXT: return read_text(key, raw, field);
    case CONFIG_SIZE: return read_size(key, raw, field);
    case CONFIG_NUMBER: return read_number(key, raw, field);
    case CONFIG_PERCENT: return read_percent(key, raw, field);
    case CONFIG_DURATION: return read_duration(key, raw, field);
    case CONFIG_TOGGLE: return read_toggle(key, raw, field);
    case CONFIG_CHOICE: return read_choice(key, raw, field);
    case CONFIG_RANGES: return read_ranges(raw, field);
    default: return -EPROTOTYPE;
    }
}

/* Reports why a plain value was not taken. */
static void refuse_plain(const struct config_key *key, const config_setting_t *setting,
                         const struct raw *raw, const char *path, struct config_report *report,
                         int error)
{
    char what[200];

    if (error == -EPROTOTYPE)
        snprintf(what, sizeof(what), "%s", type_in_words(setting));
    else if (raw->text != NULL && error == -ERANGE && key->type == CONFIG_TEXT)
        snprintf(what, sizeof(what), "has %zu bytes", strlen(raw->text));
    else if (raw->text != NULL)
        snprintf(what, sizeof(what), "\"%.100s\" is %s", raw->text,
                 error == -ERANGE           ? "out of range"
                 : error == -ENOSPC         ? "more than fits"
                 : key->type == CONFIG_SIZE ? "not a size"
                                            : "not possible");
    else
        snprintf(what, sizeof(what), "%" PRId64 " is out of range", raw->integer);
    refuse(key, setting, path, report, what);
}

/* ---- lists ---------------------------------------------------------------------------------- */

static bool is_list(const config_setting_t *setting)
{
    int type = config_setting_type(setting);

    return type == CONFIG_TYPE_LIST || type == CONFIG_TYPE_ARRAY;
}

static void read_numbers(const struct config_key *key, const config_setting_t *setting,
                         config_numbers *numbers, const char *path, struct config_report *report)
{
    unsigned count = (unsigned)config_setting_length(setting);

    numbers->list = calloc(count ? count : 1, sizeof(*numbers->list));
    assert(numbers->list != NULL);
    for (unsigned i = 0; i < count; i++) {
        config_setting_t *element = config_setting_get_elem(setting, i);
        struct raw raw = raw_of(element);

        if (!raw.is_integer || raw.integer < key->low || raw.integer > key->high) {
            refuse_plain(key, element, &raw, path, report, raw.is_integer ? -ERANGE : -EPROTOTYPE);
            continue;
        }
        numbers->list[numbers->count++] = (unsigned)raw.integer;
    }
}

static void read_texts(const struct config_key *key, const config_setting_t *setting,
                       config_texts *texts, const char *path, struct config_report *report)
{
    unsigned count = (unsigned)config_setting_length(setting);

    texts->list = calloc(count ? count : 1, sizeof(*texts->list));
    assert(texts->list != NULL);
    for (unsigned i = 0; i < count; i++) {
        config_setting_t *element = config_setting_get_elem(setting, i);
        struct raw raw = raw_of(element);
        int error = read_text(key, &raw, &texts->list[texts->count]);

        if (error)
            refuse_plain(key, element, &raw, path, report, error);
        else
            texts->count++;
    }
}

static void read_ranges_list(const struct config_key *key, const config_setting_t *setting,
                             config_ranges *ranges, const char *path, struct config_report *report)
{
    for (unsigned i = 0; i < (unsigned)config_setting_length(setting); i++) {
        config_setting_t *element = config_setting_get_elem(setting, i);
        struct raw raw = raw_of(element);
        int error = add_ranges(&raw, ranges);

        if (error)
            refuse_plain(key, element, &raw, path, report, error);
    }
}

/* ---- public --------------------------------------------------------------------------------- */

void config_value_read(const struct config_key *key, const config_setting_t *setting, void *field,
                       const char *path, struct config_report *report)
{
    struct raw raw = raw_of(setting);
    int error;

    if (key->type == CONFIG_NUMBERS || key->type == CONFIG_TEXTS) {
        if (!is_list(setting))
            refuse(key, setting, path, report, type_in_words(setting));
        else if (key->type == CONFIG_NUMBERS)
            read_numbers(key, setting, field, path, report);
        else
            read_texts(key, setting, field, path, report);
        return;
    }
    if (key->type == CONFIG_RANGES && is_list(setting)) {
        read_ranges_list(key, setting, field, path, report);
        return;
    }
    /* An empty text as a number is the fallback's alone. */
    if (key->type == CONFIG_NUMBER && !raw.is_integer)
        error = -EPROTOTYPE;
    else if (key->type == CONFIG_TOGGLE && !raw.is_toggle)
        error = -EPROTOTYPE;
    else
        error = read_plain(key, &raw, field);
    if (error)
        refuse_plain(key, setting, &raw, path, report, error);
}

int config_value_parse(const struct config_key *key, const char *text, void *field, char *why,
                       size_t why_bytes)
{
    struct raw raw = {.text = text};
    int error = -EINVAL;
    char wanted[400];
    FILE *to;

    if (*text != '\0' && key->type != CONFIG_NUMBERS && key->type != CONFIG_TEXTS)
        error = read_plain(key, &raw, field);
    if (!error)
        return 0;
    to = fmemopen(wanted, sizeof(wanted), "w");
    if (to == NULL)
        return -ENOMEM;
    print_wanted(to, key);
    fclose(to);
    snprintf(why, why_bytes, "\"%.100s\" is %s; %s", text,
             error == -ERANGE   ? "out of range"
             : error == -ENOSPC ? "more than fits"
                                : "not possible",
             wanted);
    return error;
}

const char *config_value_print(const struct config_key *key, const void *field,
                               char text[CONFIG_VALUE_BYTES])
{
    struct choices choices;

    text[0] = '\0';
    switch (key->type) {
    case CONFIG_SIZE: return size_print(text, *(const config_size *)field);
    case CONFIG_NUMBER:
        if (*(const config_number *)field >= 0)
            snprintf(text, CONFIG_VALUE_BYTES, "%" PRId64, *(const config_number *)field);
        break;
    case CONFIG_PERCENT:
        snprintf(text, CONFIG_VALUE_BYTES, "%" PRIu32, *(const config_percent *)field);
        break;
    case CONFIG_DURATION:
        snprintf(text, CONFIG_VALUE_BYTES, "%" PRIu64 "ms",
                 *(const config_duration *)field / NS_PER_MS);
        break;
    case CONFIG_TOGGLE:
        snprintf(text, CONFIG_VALUE_BYTES, *(const config_toggle *)field ? "true" : "false");
        break;
    case CONFIG_CHOICE:
        choices_split(&choices, key->choices);
        snprintf(text, CONFIG_VALUE_BYTES, "%s", choices.word[*(const config_choice *)field]);
        break;
    case CONFIG_RANGES: return ranges_print(text, field);
    default: break; /* no plain value, or a text as long as it likes */
    }
    return text;
}

void config_value_fall_back(const struct config_key *key, void *field)
{
    struct raw raw = {.text = key->fallback};
    int error;

    if (key->type == CONFIG_NUMBERS)
        return;
    if (key->type == CONFIG_TEXTS) {
        config_texts *texts = field;

        texts->list = calloc(1, sizeof(*texts->list));
        assert(texts->list != NULL);
        texts->list[texts->count++] = key->fallback;
        return;
    }
    error = read_plain(key, &raw, field);
    assert(error == 0);
}

bool config_value_same(const struct config_key *key, const void *one, const void *other)
{
    char text[CONFIG_VALUE_BYTES], other_text[CONFIG_VALUE_BYTES];

    if (key->type == CONFIG_TEXT)
        return strcmp(*(const config_text *)one, *(const config_text *)other) == 0;
    if (key->type == CONFIG_NUMBERS) {
        const config_numbers *a = one, *b = other;

        return a->count == b->count &&
               (a->count == 0 || memcmp(a->list, b->list, a->count * sizeof(*a->list)) == 0);
    }
    if (key->type == CONFIG_TEXTS) {
        const config_texts *a = one, *b = other;
        bool same = a->count == b->count;

        for (unsigned i = 0; same && i < a->count; i++)
            same = strcmp(a->list[i], b->list[i]) == 0;
        return same;
    }
    return strcmp(config_value_print(key, one, text), config_value_print(key, other, other_text)) ==
           0;
}

void config_value_free(const struct config_key *key, void *field)
{
    if (key->type == CONFIG_NUMBERS)
        free(((config_numbers *)field)->list);
    if (key->type == CONFIG_TEXTS)
        free(((config_texts *)field)->list);
}
