/* SPDX-License-Identifier: Apache-2.0 */
/* blkcached --check: looks at what a configuration names. */
#include "daemon/preflight.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/size.h"
#include "common/uuid.h"
#include "daemon/config-rules.h"
#include "daemon/image.h"
#include "engine/superblock.h"
#include "frontends/nbd/nbd-credentials.h"
#include "frontends/nbd/nbd-server.h"
#include "frontends/ublk/ublk-server.h"
#include "io/attachment.h"
#include "io/backing-identity.h"
#include "io/backing.h"
#include "io/device.h"

struct flight {
    const struct config *config;
    FILE *to;
    unsigned errors;
    struct superblock *sb; /* of the flash, NULL: cannot be read */
};

static void fine(struct flight *flight, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void wrong(struct flight *flight, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void fine(struct flight *flight, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vfprintf(flight->to, format, arguments);
    va_end(arguments);
    fputc('\n', flight->to);
}

static void wrong(struct flight *flight, const char *format, ...)
{
    va_list arguments;

    flight->errors++;
    fputs("error: ", flight->to);
    va_start(arguments, format);
    vfprintf(flight->to, format, arguments);
    va_end(arguments);
    fputc('\n', flight->to);
}

/* ---- directories and sockets ----------------------------------------------------------------- */

/* Whether a file can be made at `path`: its directory is there, or can be made in its turn. */
static bool can_create(const char *path)
{
    char *dir = strdup(path), *slash;
    bool can = false;

    for (unsigned level = 0; dir != NULL && level < 2 && !can; level++) {
        slash = strrchr(dir, '/');
        if (slash == NULL) {
            can = access(".", W_OK) == 0;
            break;
        }
        slash[slash == dir ? 1 : 0] = '\0';
        can = access(dir, W_OK | X_OK) == 0;
        if (!can && errno != ENOENT)
            break;
    }
    free(dir);
    return can;
}

/* Whether somebody answers at a Unix socket. */
static bool is_served(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    bool served;
    int fd;

    if (strlen(path) >= sizeof(address.sun_path))
        return false;
    strcpy(address.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return false;
    served = connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0;
    close(fd);
    return served;
}

static void check_socket(struct flight *flight, const char *what, const char *path)
{
    struct stat status;

    if (lstat(path, &status) == 0 && !S_ISSOCK(status.st_mode))
        wrong(flight, "%s %s: there is a file of this name, which is no socket; remove it", what,
              path);
    else if (!can_create(path))
        wrong(flight,
              "%s %s: it cannot be made in its directory: %s; create the directory, or give "
              "another path",
              what, path, strerror(errno));
    else
        fine(flight, "%s %s: %s", what, path,
             is_served(path) ? "a daemon is running" : "can be made");
}

static void check_listen(struct flight *flight)
{
    const config_texts *listen = &flight->config->nbd.listen;

    for (unsigned i = 0; i < listen->count; i++) {
        struct config_address address;
        const char *why;

        if (config_address_parse(listen->list[i], &address, &why) == 0 && address.is_unix)
            check_socket(flight, "NBD socket", address.path);
        else
            fine(flight, "NBD address %s", listen->list[i]);
    }
}

static void check_tls(struct flight *flight)
{
    const struct config_tls *tls = &flight->config->nbd.tls;
    struct nbd_tls_config config = {
        .certificates = tls->certificates,
        .psk = tls->psk,
        .verify_clients = tls->verify_clients,
    };
    struct nbd_credentials *credentials;
    char why[512];

    if (tls->mode == CONFIG_TLS_OFF)
        return;
    if (nbd_credentials_load(&credentials, &config, why, sizeof(why)) != 0) {
        wrong(flight, "%s", why);
        return;
    }
    nbd_credentials_release(credentials);
    fine(flight, "TLS for NBD clients: can be used");
}

static void check_state_dir(struct flight *flight)
{
    const char *dir = flight->config->daemon.state_dir;
    struct stat status;

    if (stat(dir, &status) != 0 && errno == ENOENT && can_create(dir))
        fine(flight, "state directory %s: can be made", dir);
    else if (access(dir, W_OK | X_OK) != 0)
        wrong(flight, "state directory %s: %s; create it, or give another", dir, strerror(errno));
    else
        fine(flight, "state directory %s: is there", dir);
}

/* ---- flash ---------------------------------------------------------------------------------- */

static void describe_flash(struct flight *flight, const char *path, const struct image *image,
                           bool in_use)
{
    const struct superblock *sb = image->sb;
    char uuid[UUID_TEXT_BYTES], size[SIZE_TEXT_BYTES];
    struct uuid id;

    memcpy(id.bytes, sb->uuid, sizeof(id.bytes));
    fine(flight, "flash %s: cache %s, %s, %u shards, %s", path, uuid_print(uuid, &id),
         size_print_human(size, sb->device_bytes), sb->shard_count,
         in_use                         ? "in use by a daemon"
         : sb->flags & SUPERBLOCK_CLEAN ? "stopped cleanly"
                                        : "not stopped cleanly, the next start recovers");
    for (unsigned copy = 0; copy < 2; copy++) {
        if (image->copy_errors[copy])
            fine(flight, "flash %s: warning: superblock copy %u: %s", path, copy,
                 image->copy_whys[copy]);
    }
}

static void check_flash(struct flight *flight)
{
    const char *path = flight->config->cache.flash;
    char why[IMAGE_WHY_BYTES];
    struct image image;
    bool in_use = false;
    int error = image_open(&image, path, false, why);

    if (error == -EBUSY) {
        in_use = true;
        error = image_open(&image, path, true, why);
    }
    if (error) {
        wrong(flight, "flash %s: %s", path, why);
        return;
    }
    if (image.sb != NULL) {
        describe_flash(flight, path, &image, in_use);
        flight->sb = malloc(sizeof(*flight->sb));
        if (flight->sb != NULL)
            *flight->sb = *image.sb;
    } else {
        wrong(flight, "flash %s: %s", path, image.why);
    }
    if (access(path, W_OK) != 0)
        wrong(flight, "flash %s: cannot be written: %s", path, strerror(errno));
    image_close(&image);
}

/* ---- volumes -------------------------------------------------------------------------------- */

/* Whether it is the store that the flash knows (io/cache-volumes.c decides it at a start). */
static void check_same(struct flight *flight, const struct config_volume *volume, uint64_t bytes,
                       const uint8_t identity[BACKING_IDENTITY_BYTES])
{
    const struct superblock_volume *record =
        flight->sb != NULL ? superblock_volume_find(flight->sb, volume->name) : NULL;
    enum backing_identity store;

    if (record == NULL)
        return;
    store = backing_identity_compare(record->backing_identity, identity, volume->backing);
    if (record->bytes > bytes)
        wrong(flight,
              "volume %s: backing %s: shrank from %llu to %llu bytes; give it its old size again",
              volume->name, volume->backing, (unsigned long long)record->bytes,
              (unsigned long long)bytes);
    else if (store != BACKING_SAME)
        wrong(flight, "volume %s: backing %s: %s; a start is refused, and says what can be done",
              volume->name, volume->backing,
              store == BACKING_RENAMED ? "has another name than last time"
                                       : "is another file or disk than last time");
}

static void check_device(struct flight *flight, const struct config_volume *volume)
{
    uint8_t identity[BACKING_IDENTITY_BYTES];
    char why[400], size[SIZE_TEXT_BYTES];
    struct device device;

    if (device_open(&device, volume->backing, DEVICE_READ_ONLY | DEVICE_QUICK, why, sizeof(why))) {
        wrong(flight, "volume %s: backing %s", volume->name, why);
        return;
    }
    if (device.bytes == 0)
        wrong(flight, "volume %s: backing %s: it is empty", volume->name, volume->backing);
    else if (!volume->read_only && access(volume->backing, W_OK) != 0)
        wrong(flight, "volume %s: backing %s: cannot be written: %s; set read_only, or allow it",
              volume->name, volume->backing, strerror(errno));
    else
        fine(flight, "volume %s: backing %s: %s, %s", volume->name, volume->backing,
             device.is_block ? "block device" : "file", size_print_human(size, device.bytes));
    backing_identify(identity, volume->backing, device.fd);
    check_same(flight, volume, device.bytes, identity);
    device_close(&device);
}

static void check_server(struct flight *flight, const struct config_volume *volume)
{
    struct backing *backing;
    char why[400], size[SIZE_TEXT_BYTES];

    if (backing_open(&backing, volume->backing, true, volume->backing_timeout, why, sizeof(why))) {
        wrong(flight, "volume %s: %s", volume->name, why);
        return;
    }
    fine(flight, "volume %s: backing %s: NBD server, %s", volume->name, volume->backing,
         size_print_human(size, backing_info(backing)->bytes));
    check_same(flight, volume, backing_info(backing)->bytes, backing_info(backing)->identity);
    backing_close(backing);
}

static void check_ublk(struct flight *flight, const struct config_volume *volume)
{
    char why[400];

    if (volume->ublk < 0)
        return;
    if (ublk_server_check(why, sizeof(why)) != 0)
        wrong(flight, "volume %s: ublk: %s", volume->name, why);
    else
        fine(flight, "volume %s: /dev/ublkb%lld", volume->name, (long long)volume->ublk);
}

/* What a start would decide (docs/attachment.md). */
static void check_attachment(struct flight *flight, const struct config_volume *volume)
{
    static const char *const refusals[] = {
        [ATTACH_STALE] =
            "the flash is stale: the volume was used since without it, or with a later "
            "copy of it",
        [ATTACH_BLOCKS] = "blocks of it are dirty on another flash",
        [ATTACH_UNKNOWN] = "it was used with another flash and not stopped cleanly",
        [ATTACH_STATE] = "the state directory does not know it, or is older than the flash",
    };
    struct superblock_volume *record = NULL;
    struct attach_flash flash = {.here = flight->sb != NULL};
    struct attachment file;
    struct attach_plan plan;
    char why[PATH_MAX + 256];

    if (attachment_load(flight->config->daemon.state_dir, volume->name, &file, why, sizeof(why))) {
        wrong(flight, "volume %s: %s", volume->name, why);
        return;
    }
    if (flash.here) {
        record = superblock_volume_find(flight->sb, volume->name);
        flash.known = record != NULL;
        flash.epoch = record != NULL ? record->attachment_epoch : 0;
        flash.sequence = flight->sb->sequence;
        memcpy(flash.uuid, flight->sb->uuid, sizeof(flash.uuid));
        memcpy(flash.replaces, flight->sb->replaces, sizeof(flash.replaces));
    }
    plan = attach_decide(&file, &flash, 0);
    free(file.dirty);
    if (flash.here && attach_refuses(&plan))
        wrong(flight, "volume %s: %s; a start is refused, and says what can be done", volume->name,
              refusals[plan.verdict]);
    else if (plan.verdict == ATTACH_RETURNS)
        fine(flight,
             "volume %s: was used without the flash: its dirty data there, %llu bytes, go "
             "to the backing store at the start",
             volume->name, (unsigned long long)(file.dirty_count * BLOCK_BYTES));
}

unsigned preflight(const struct config *config, FILE *to)
{
    struct flight flight = {.config = config, .to = to};

    check_flash(&flight);
    check_state_dir(&flight);
    check_socket(&flight, "control socket", config->daemon.control);
    check_listen(&flight);
    check_tls(&flight);
    for (unsigned i = 0; i < config->volume_count; i++) {
        const struct config_volume *volume = &config->volumes[i];

        if (strstr(volume->backing, "://") != NULL)
            check_server(&flight, volume);
        else
            check_device(&flight, volume);
        check_ublk(&flight, volume);
        check_attachment(&flight, volume);
    }
    free(flight.sb);
    return flight.errors;
}
