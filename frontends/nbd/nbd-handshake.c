/* SPDX-License-Identifier: Apache-2.0 */
/* The NBD handshake, fixed newstyle, as a pure state machine. */
#include "frontends/nbd/nbd-handshake.h"

#include <assert.h>
#include <string.h>

#include "common/endian.h"
#include "frontends/nbd/nbd-contexts.h"
#include "frontends/nbd/nbd-protocol.h"
#include "io/request.h"
#include "io/volume.h"

/* Preferred size of requests that the client is told; smaller ones are read-modify-write. */
#define BLOCK_SIZE_MIN       1u
#define BLOCK_SIZE_PREFERRED BLOCK_BYTES
#define BLOCK_SIZE_MAX       REQUEST_BYTES_MAX

/* The longest single answer of LIST or INFO, with its header. */
#define ANSWER_BYTES_MAX \
    (NBD_OPTION_REPLY_BYTES + 4 + VOLUME_NAME_BYTES + sizeof(((struct volume *)0)->description))
static_assert(NBD_HANDSHAKE_OUTPUT_BYTES >= 5 * ANSWER_BYTES_MAX,
              "all answers to INFO, and the ACK, fit into one step's output");

struct output {
    unsigned char *data;
    size_t bytes;
};

/* Where the next `bytes` of output go. */
static unsigned char *output_take(struct output *output, size_t bytes)
{
    unsigned char *place = output->data + output->bytes;

    assert(bytes <= NBD_HANDSHAKE_OUTPUT_BYTES - output->bytes);
    output->bytes += bytes;
    return place;
}

static void output_text(struct output *output, const char *text, size_t bytes)
{
    memcpy(output_take(output, bytes), text, bytes);
}

static void output_reply(struct output *output, uint32_t option, uint32_t type, size_t bytes)
{
    unsigned char *place = output_take(output, NBD_OPTION_REPLY_BYTES);

    be64_store(place, NBD_OPTION_REPLY_MAGIC);
    be32_store(place + 8, option);
    be32_store(place + 12, type);
    be32_store(place + 16, (uint32_t)bytes);
}

/* Error replies may carry a text for the client's user. */
static void output_error(struct output *output, uint32_t option, uint32_t type, const char *text)
{
    output_reply(output, option, type, strlen(text));
    output_text(output, text, strlen(text));
}

/* ---- exports ---------------------------------------------------------------------------- */

static size_t text_bytes(const char *text, size_t size)
{
    return strnlen(text, size - 1);
}

/* The exported volume of that name; NULL: none.  The empty name is that of one volume, and while that
 * is away of none: a client that connects again must not get another one's data. */
static struct volume *find_export(struct cache *cache, const unsigned char *name, size_t bytes)
{
    struct volume *volume;

    for (unsigned i = 0; (volume = volume_at(cache, i)) != NULL; i++) {
        if (!volume->nbd || atomic_load(&volume->leaving))
            continue;
        if (bytes == 0 ? atomic_load(&volume->unnamed)
                       : text_bytes(volume->name, sizeof(volume->name)) == bytes &&
                             memcmp(volume->name, name, bytes) == 0)
            return volume;
    }
    return NULL;
}

unsigned nbd_handshake_contexts(const struct nbd_handshake *handshake, const struct volume *volume)
{
    return volume == handshake->context_volume ? handshake->contexts : 0;
}

/* The transmission flags of a volume. */
static uint16_t transmission_flags(const struct nbd_handshake *handshake,
                                   const struct volume *volume)
{
    unsigned flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
                     NBD_FLAG_CAN_MULTI_CONN | NBD_FLAG_SEND_CACHE;

    if (handshake->structured || handshake->extended)
        flags |= NBD_FLAG_SEND_DF;
    if (handshake->extended && nbd_handshake_contexts(handshake, volume) != 0)
        flags |= NBD_FLAG_BLOCK_STATUS_PAYLOAD;
    if (volume->read_only)
        flags |= NBD_FLAG_READ_ONLY;
    else
        flags |= NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
    return (uint16_t)flags;
}

enum nbd_style nbd_handshake_style(const struct nbd_handshake *handshake)
{
    return handshake->extended     ? NBD_STYLE_EXTENDED
           : handshake->structured ? NBD_STYLE_STRUCTURED
                                   : NBD_STYLE_SIMPLE;
}

/* ---- options ---------------------------------------------------------------------------- */

static enum nbd_handshake_result close_because(struct nbd_handshake *handshake, const char *why)
{
    handshake->state = NBD_HANDSHAKE_DONE;
    handshake->why = why;
    return NBD_HANDSHAKE_CLOSE;
}

static enum nbd_handshake_result transmit(struct nbd_handshake *handshake, struct volume *volume)
{
    handshake->state = NBD_HANDSHAKE_DONE;
    handshake->volume = volume;
    handshake->flags = transmission_flags(handshake, volume);
    return NBD_HANDSHAKE_TRANSMIT;
}

static enum nbd_handshake_result export_name(struct nbd_handshake *handshake,
                                             const unsigned char *data, struct output *output)
{
    struct volume *volume = find_export(handshake->cache, data, handshake->length);
    unsigned char *place;

    /* The answer to this option has no way to say no. */
    if (handshake->stopping)
        return close_because(handshake, NULL);
    if (handshake->tls == NBD_TLS_REQUIRE && !handshake->secure)
        return close_because(handshake, "EXPORT_NAME without TLS, which is required");
    if (volume == NULL)
        return close_because(handshake, "unknown export in EXPORT_NAME");
    if (handshake->extended)
        return close_because(handshake, "EXPORT_NAME after EXTENDED_HEADERS");
    place = output_take(output, 10);
    be64_store(place, volume->bytes);
    be16_store(place + 8, transmission_flags(handshake, volume));
    if (!handshake->no_zeroes)
        memset(output_take(output, NBD_EXPORT_ZEROES_BYTES), 0, NBD_EXPORT_ZEROES_BYTES);
    return transmit(handshake, volume);
}

static void info_text(struct output *output, uint32_t option, uint16_t type, const char *text,
                      size_t bytes)
{
    output_reply(output, option, NBD_REP_INFO, 2 + bytes);
    be16_store(output_take(output, 2), type);
    output_text(output, text, bytes);
}

static void info_export(struct nbd_handshake *handshake, const struct volume *volume,
                        struct output *output)
{
    unsigned char *place;

    output_reply(output, handshake->option, NBD_REP_INFO, 12);
    place = output_take(output, 12);
    be16_store(place, NBD_INFO_EXPORT);
    be64_store(place + 2, volume->bytes);
    be16_store(place + 10, transmission_flags(handshake, volume));
}

static void info_block_size(struct nbd_handshake *handshake, struct output *output)
{
    unsigned char *place;

    output_reply(output, handshake->option, NBD_REP_INFO, 14);
    place = output_take(output, 14);
    be16_store(place, NBD_INFO_BLOCK_SIZE);
    be32_store(place + 2, BLOCK_SIZE_MIN);
    be32_store(place + 6, BLOCK_SIZE_PREFERRED);
    be32_store(place + 10, BLOCK_SIZE_MAX);
}

/* Data of INFO and GO: length of the name, name, number of wishes, one u16 for each. */
static enum nbd_handshake_result info(struct nbd_handshake *handshake, const unsigned char *data,
                                      struct output *output)
{
    uint32_t option = handshake->option, bytes = handshake->length, name_bytes, wishes;
    bool wanted[NBD_INFO_BLOCK_SIZE + 1] = {false};
    struct volume *volume;

    name_bytes = bytes < 6 ? UINT32_MAX : be32_load(data);
    wishes = bytes < 6 || name_bytes > bytes - 6 ? 0 : be16_load(data + 4 + name_bytes);
    if (bytes < 6 || name_bytes > bytes - 6 || bytes - 6 - name_bytes != 2 * wishes ||
        name_bytes > NBD_STRING_BYTES_MAX || memchr(data + 4, 0, name_bytes) != NULL) {
        output_error(output, option, NBD_REP_ERR_INVALID, "malformed option");
        return NBD_HANDSHAKE_MORE;
    }
    volume = find_export(handshake->cache, data + 4, name_bytes);
    if (volume == NULL) {
        output_error(output, option, NBD_REP_ERR_UNKNOWN, "no such export");
        return NBD_HANDSHAKE_MORE;
    }
    for (uint32_t i = 0; i < wishes; i++) {
        uint16_t wish = be16_load(data + 6 + name_bytes + 2 * i);

        if (wish < sizeof(wanted) / sizeof(wanted[0]))
            wanted[wish] = true;
    }
    info_export(handshake, volume, output);
    if (wanted[NBD_INFO_NAME])
        info_text(output, option, NBD_INFO_NAME, volume->name,
                  text_bytes(volume->name, sizeof(volume->name)));
    if (wanted[NBD_INFO_DESCRIPTION] && volume->description[0] != '\0')
        info_text(output, option, NBD_INFO_DESCRIPTION, volume->description,
                  text_bytes(volume->description, sizeof(volume->description)));
    if (wanted[NBD_INFO_BLOCK_SIZE])
        info_block_size(handshake, output);
    output_reply(output, option, NBD_REP_ACK, 0);
    return option == NBD_OPT_GO ? transmit(handshake, volume) : NBD_HANDSHAKE_MORE;
}

/* Lists the contexts that the queries ask for, or selects them. */
static void meta_context(struct nbd_handshake *handshake, const unsigned char *data,
                         struct output *output)
{
    uint32_t option = handshake->option;
    bool list = option == NBD_OPT_LIST_META_CONTEXT;
    struct nbd_context_query query;
    const struct volume *volume;

    if (!list)
        handshake->contexts = 0; /* whatever comes of this */
    if (!list && !handshake->structured && !handshake->extended) {
        output_error(output, option, NBD_REP_ERR_INVALID, "structured replies come first");
        return;
    }
    if (!nbd_context_parse(data, handshake->length, list, &query)) {
        output_error(output, option, NBD_REP_ERR_INVALID, "malformed option");
        return;
    }
    volume = find_export(handshake->cache, query.export_name, query.export_bytes);
    if (volume == NULL) {
        output_error(output, option, NBD_REP_ERR_UNKNOWN, "no such export");
        return;
    }
    for (unsigned context = 1; context <= NBD_CONTEXTS_ALL; context <<= 1) {
        const char *name = nbd_context_name((enum nbd_context)context);

        if (!(query.contexts & context))
            continue;
        output_reply(output, option, NBD_REP_META_CONTEXT, 4 + strlen(name));
        be32_store(output_take(output, 4), list ? 0 : context);
        output_text(output, name, strlen(name));
    }
    output_reply(output, option, NBD_REP_ACK, 0);
    if (!list) {
        handshake->contexts = query.contexts;
        handshake->context_volume = volume;
    }
}

/* When the server stops, and without TLS where it is required, nothing else is talked about.  True:
 * `option` was refused. */
static bool refuse(struct nbd_handshake *handshake, struct output *output)
{
    if (handshake->option == NBD_OPT_ABORT)
        return false;
    if (handshake->stopping) {
        output_error(output, handshake->option, NBD_REP_ERR_SHUTDOWN,
                     "the server is shutting down");
        return true;
    }
    if (handshake->tls != NBD_TLS_REQUIRE || handshake->secure ||
        handshake->option == NBD_OPT_STARTTLS)
        return false;
    output_error(output, handshake->option, NBD_REP_ERR_TLS_REQD, "TLS is required");
    return true;
}

static enum nbd_handshake_result start_tls(struct nbd_handshake *handshake, struct output *output)
{
    uint32_t option = handshake->option;

    if (handshake->length != 0 || handshake->secure) {
        output_error(output, option, NBD_REP_ERR_INVALID,
                     handshake->secure ? "TLS is in use" : "this option takes no data");
        return NBD_HANDSHAKE_MORE;
    }
    if (handshake->tls == NBD_TLS_OFF) {
        output_error(output, option, NBD_REP_ERR_POLICY, "TLS is turned off");
        return NBD_HANDSHAKE_MORE;
    }
    output_reply(output, option, NBD_REP_ACK, 0);
    return NBD_HANDSHAKE_SECURE;
}

void nbd_handshake_secured(struct nbd_handshake *handshake)
{
    handshake->secure = true;
    handshake->structured = handshake->extended = false;
    handshake->contexts = 0;
    handshake->context_volume = NULL;
}

/* As much of the list as fits; the rest follows in the next step. */
static void list_continue(struct nbd_handshake *handshake, struct output *output)
{
    const struct volume *volume;

    while ((volume = volume_at(handshake->cache, handshake->list_index)) != NULL) {
        size_t name_bytes = text_bytes(volume->name, sizeof(volume->name));
        size_t text = text_bytes(volume->description, sizeof(volume->description));

        if (NBD_HANDSHAKE_OUTPUT_BYTES - output->bytes < ANSWER_BYTES_MAX + NBD_OPTION_REPLY_BYTES)
            return;
        handshake->list_index++;
        if (!volume->nbd || atomic_load(&volume->leaving))
            continue;
        output_reply(output, NBD_OPT_LIST, NBD_REP_SERVER, 4 + name_bytes + text);
        be32_store(output_take(output, 4), (uint32_t)name_bytes);
        output_text(output, volume->name, name_bytes);
        output_text(output, volume->description, text);
    }
    output_reply(output, NBD_OPT_LIST, NBD_REP_ACK, 0);
    handshake->state = NBD_HANDSHAKE_OPTION;
}

/* An option with all of its data. */
static enum nbd_handshake_result option(struct nbd_handshake *handshake, const unsigned char *data,
                                        struct output *output)
{
    bool empty = handshake->length == 0;

    handshake->state = NBD_HANDSHAKE_OPTION;
    if (handshake->option == NBD_OPT_EXPORT_NAME)
        return export_name(handshake, data, output);
    if (refuse(handshake, output))
        return NBD_HANDSHAKE_MORE;
    switch (handshake->option) {
    case NBD_OPT_STARTTLS: return start_tls(handshake, output);
    case NBD_OPT_INFO:
    case NBD_OPT_GO: return info(handshake, data, output);
    case NBD_OPT_LIST_META_CONTEXT:
    case NBD_OPT_SET_META_CONTEXT: meta_context(handshake, data, output); return NBD_HANDSHAKE_MORE;
    case NBD_OPT_ABORT:
        output_reply(output, NBD_OPT_ABORT, NBD_REP_ACK, 0);
        return close_because(handshake, NULL);
    case NBD_OPT_LIST:
        if (empty) {
            handshake->list_index = 0;
            handshake->state = NBD_HANDSHAKE_LISTING;
            list_continue(handshake, output);
            return NBD_HANDSHAKE_MORE;
        }
        break;
    case NBD_OPT_STRUCTURED_REPLY:
        if (empty && handshake->extended) {
            output_error(output, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_EXT_HEADER_REQD,
                         "extended headers are in use");
            return NBD_HANDSHAKE_MORE;
        }
        if (empty) {
            handshake->structured = true;
            output_reply(output, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK, 0);
            return NBD_HANDSHAKE_MORE;
        }
        break;
    case NBD_OPT_EXTENDED_HEADERS:
        if (empty) {
            handshake->extended = true;
            output_reply(output, NBD_OPT_EXTENDED_HEADERS, NBD_REP_ACK, 0);
            return NBD_HANDSHAKE_MORE;
        }
        break;
    default:
        output_error(output, handshake->option, NBD_REP_ERR_UNSUP, "unknown option");
        return NBD_HANDSHAKE_MORE;
    }
    output_error(output, handshake->option, NBD_REP_ERR_INVALID, "this option takes no data");
    return NBD_HANDSHAKE_MORE;
}

/* The data of an option that was too long for us is dropped. */
static void skipped(struct nbd_handshake *handshake, struct output *output)
{
    handshake->state = NBD_HANDSHAKE_OPTION;
    if (refuse(handshake, output))
        return;
    switch (handshake->option) {
    case NBD_OPT_SET_META_CONTEXT: handshake->contexts = 0; /* fall through */
    case NBD_OPT_STARTTLS:
    case NBD_OPT_LIST_META_CONTEXT:
    case NBD_OPT_ABORT:
    case NBD_OPT_LIST:
    case NBD_OPT_INFO:
    case NBD_OPT_GO:
    case NBD_OPT_STRUCTURED_REPLY:
    case NBD_OPT_EXTENDED_HEADERS:
        output_error(output, handshake->option, NBD_REP_ERR_TOO_BIG, "too much option data");
        break;
    default: output_error(output, handshake->option, NBD_REP_ERR_UNSUP, "unknown option"); break;
    }
}

static enum nbd_handshake_result option_header(struct nbd_handshake *handshake,
                                               const unsigned char *input)
{
    if (be64_load(input) != NBD_OPTION_MAGIC)
        return close_because(handshake, "an option without its magic number");
    if (++handshake->options > NBD_HANDSHAKE_OPTIONS_MAX)
        return close_because(handshake, "too many options");
    handshake->option = be32_load(input + 8);
    handshake->length = be32_load(input + 12);
    if (handshake->length <= NBD_HANDSHAKE_DATA_BYTES_MAX)
        handshake->state = NBD_HANDSHAKE_OPTION_DATA;
    else if (handshake->option == NBD_OPT_EXPORT_NAME)
        return close_because(handshake, "too long a name in EXPORT_NAME");
    else
        handshake->state = NBD_HANDSHAKE_SKIP;
    return NBD_HANDSHAKE_MORE;
}

/* The client's flags: anything that was not offered ends the connection. */
static enum nbd_handshake_result client_flags(struct nbd_handshake *handshake,
                                              const unsigned char *input)
{
    uint32_t flags = be32_load(input);

    if ((flags & ~(uint32_t)(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)) != 0)
        return close_because(handshake, "unknown client flags");
    handshake->no_zeroes = (flags & NBD_FLAG_NO_ZEROES) != 0;
    handshake->state = NBD_HANDSHAKE_OPTION;
    return NBD_HANDSHAKE_MORE;
}

static void greeting(struct nbd_handshake *handshake, struct output *output)
{
    unsigned char *place = output_take(output, NBD_GREETING_BYTES);

    be64_store(place, NBD_MAGIC);
    be64_store(place + 8, NBD_OPTION_MAGIC);
    be16_store(place + 16, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
    handshake->state = NBD_HANDSHAKE_CLIENT_FLAGS;
}

/* ---- steps ------------------------------------------------------------------------------ */

void nbd_handshake_init(struct nbd_handshake *handshake, struct cache *cache)
{
    *handshake = (struct nbd_handshake){.cache = cache};
}

/* One transition.  *progress is false when it needs more input. */
static enum nbd_handshake_result transition(struct nbd_handshake *handshake,
                                            const unsigned char *input, size_t bytes,
                                            size_t *consumed, struct output *output, bool *progress)
{
    static const size_t needed[] = {
        [NBD_HANDSHAKE_CLIENT_FLAGS] = NBD_CLIENT_FLAGS_BYTES,
        [NBD_HANDSHAKE_OPTION] = NBD_OPTION_HEADER_BYTES,
        [NBD_HANDSHAKE_DONE] = 0,
    };
    size_t need = handshake->state == NBD_HANDSHAKE_OPTION_DATA ? handshake->length
                                                                : needed[handshake->state];

    *consumed = 0;
    *progress = bytes >= need;
    if (!*progress)
        return NBD_HANDSHAKE_MORE;
    *consumed = need;
    switch (handshake->state) {
    case NBD_HANDSHAKE_GREETING: greeting(handshake, output); break;
    case NBD_HANDSHAKE_CLIENT_FLAGS: return client_flags(handshake, input);
    case NBD_HANDSHAKE_OPTION: return option_header(handshake, input);
    case NBD_HANDSHAKE_OPTION_DATA: return option(handshake, input, output);
    case NBD_HANDSHAKE_LISTING: list_continue(handshake, output); break;
    case NBD_HANDSHAKE_SKIP:
        *consumed = bytes < handshake->length ? bytes : handshake->length;
        handshake->length -= (uint32_t)*consumed;
        *progress = handshake->length == 0;
        if (*progress)
            skipped(handshake, output);
        break;
    case NBD_HANDSHAKE_DONE: return close_because(handshake, "the handshake is over");
    }
    return NBD_HANDSHAKE_MORE;
}

enum nbd_handshake_result nbd_handshake_step(struct nbd_handshake *handshake,
                                             const unsigned char *input, size_t input_bytes,
                                             size_t *consumed, unsigned char *output,
                                             size_t *output_bytes)
{
    struct output out = {.data = output};
    enum nbd_handshake_result result;
    bool progress;
    size_t used;

    *consumed = 0;
    do {
        result = transition(handshake, input + *consumed, input_bytes - *consumed, &used, &out,
                            &progress);
        *consumed += used;
    } while (result == NBD_HANDSHAKE_MORE && progress && out.bytes == 0);
    *output_bytes = out.bytes;
    return result;
}
