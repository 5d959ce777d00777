/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold between the values of a configuration, and what this version cannot do. */
#include "daemon/config-rules.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/size.h"
#include "engine/format.h"
#include "engine/shard.h"

/* The setting of `key` in a group, or the group itself when the key is not given. */
static const config_setting_t *place(const config_setting_t *group, const char *key)
{
    const config_setting_t *member = group ? config_setting_get_member(group, key) : NULL;

    return member ? member : group;
}

static const char *volume_path(char path[CONFIG_PATH_BYTES], unsigned index, const char *key)
{
    snprintf(path, CONFIG_PATH_BYTES, "volumes[%u].%s", index, key);
    return path;
}

/* ---- addresses ------------------------------------------------------------------------------ */

static int port_parse(const char *text, unsigned *port)
{
    char *end;
    unsigned long value;

    if (*text < '0' || *text > '9')
        return -EINVAL;
    errno = 0;
    value = strtoul(text, &end, 10);
    if (errno || *end != '\0' || value < 1 || value > 65535)
        return -EINVAL;
    *port = (unsigned)value;
    return 0;
}

/* HOST:PORT, [HOST]:PORT */
int config_host_port_parse(const char *text, struct config_address *address, const char **why)
{
    const char *colon = strrchr(text, ':');
    size_t bytes;

    *why = "needs a host and a port from 1 to 65535, such as \"127.0.0.1:10809\"";
    if (colon == NULL || port_parse(colon + 1, &address->port))
        return -EINVAL;
    bytes = (size_t)(colon - text);
    if (text[0] == '[') {
        if (bytes < 3 || text[bytes - 1] != ']')
            return -EINVAL;
        text++;
        bytes -= 2;
    } else if (memchr(text, ':', bytes) != NULL) {
        *why = "has an IPv6 address without brackets; write \"[::1]:10809\"";
        return -EINVAL;
    }
    if (bytes >= sizeof(address->host))
        return -EINVAL;
    memcpy(address->host, text, bytes);
    address->host[bytes] = '\0';
    return 0;
}

int config_address_parse(const char *text, struct config_address *address, const char **why)
{
    memset(address, 0, sizeof(*address));
    if (strncmp(text, "unix:", 5) == 0) {
        address->is_unix = true;
        address->path = text + 5;
        if (address->path[0] == '/' && strlen(address->path) <= CONFIG_SOCKET_PATH_MAX)
            return 0;
        *why = "needs the path of a socket, from the root, of at most 107 bytes";
        return -EINVAL;
    }
    if (strncmp(text, "tcp:", 4) == 0)
        return config_host_port_parse(text + 4, address, why);
    *why = "does not say how; write \"unix:PATH\" or \"tcp:HOST:PORT\"";
    return -EINVAL;
}

/* ---- daemon --------------------------------------------------------------------------------- */

static void check_cores(const struct config_daemon *daemon, struct config_report *report)
{
    const config_setting_t *at = place(daemon->setting, "cores");
    cpu_set_t usable;

    if (sched_getaffinity(0, sizeof(usable), &usable))
        CPU_ZERO(&usable);
    for (unsigned i = 0; i < daemon->cores.count; i++) {
        unsigned core = daemon->cores.list[i];

        if (CPU_COUNT(&usable) > 0 && !CPU_ISSET(core, &usable))
            config_report_error(report, at, "daemon.cores",
                                "this process may not run on processor %u; see the list that "
                                "\"taskset -cp $$\" prints",
                                core);
        for (unsigned j = 0; j < i; j++) {
            if (daemon->cores.list[j] == core)
                config_report_error(report, at, "daemon.cores",
                                    "names processor %u twice; name each once", core);
        }
    }
}

static void check_metrics(const struct config_daemon *daemon, struct config_report *report)
{
    const config_setting_t *at = place(daemon->setting, "metrics");
    struct config_address address;
    const char *why;

    if (daemon->metrics[0] == '\0')
        return;
    if (config_host_port_parse(daemon->metrics, &address, &why))
        config_report_error(report, at, "daemon.metrics", "\"%s\" %s", daemon->metrics, why);
}

/* Another program finds it by this path, from wherever it runs. */
static void check_control(const struct config_daemon *daemon, struct config_report *report)
{
    if (daemon->control[0] != '/')
        config_report_error(report, place(daemon->setting, "control"), "daemon.control",
                            "\"%s\" does not begin with a slash; give the whole path",
                            daemon->control);
}

/* ---- cache ---------------------------------------------------------------------------------- */

static void check_ram(const struct config_cache *cache, struct config_report *report)
{
    uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    char wanted[SIZE_TEXT_BYTES], has[SIZE_TEXT_BYTES];

    if (cache->ram >= memory)
        config_report_error(
            report, place(cache->setting, "ram"), "cache.ram",
            "%s is more than the %s of this machine; leave room for everything else",
            size_print_human(wanted, cache->ram), size_print_human(has, memory));
}

/* ---- nbd ------------------------------------------------------------------------------------ */

static void check_listen(const struct config *config, struct config_report *report)
{
    const config_setting_t *list = place(config->nbd.setting, "listen");

    for (unsigned i = 0; i < config->nbd.listen.count; i++) {
        const char *text = config->nbd.listen.list[i];
        const config_setting_t *at =
            list && config_setting_length(list) > (int)i ? config_setting_get_elem(list, i) : list;
        struct config_address address;
        const char *why;

        if (config_address_parse(text, &address, &why)) {
            config_report_error(report, at, "nbd.listen", "\"%s\" %s", text, why);
            continue;
        }
        if (address.is_unix && strcmp(address.path, config->daemon.control) == 0)
            config_report_error(report, at, "nbd.listen",
                                "\"%s\" is the control socket; give each a path of its own", text);
        for (unsigned j = 0; j < i; j++) {
            if (strcmp(config->nbd.listen.list[j], text) == 0)
                config_report_error(report, at, "nbd.listen",
                                    "\"%s\" is there twice; take one away", text);
        }
    }
}

static void check_tls(const struct config_tls *tls, struct config_report *report)
{
    bool certificates = tls->certificates[0] != '\0', keys = tls->psk[0] != '\0';

    if (tls->mode != CONFIG_TLS_OFF && !certificates && !keys)
        config_report_error(report, place(tls->setting, "mode"), "nbd.tls.mode",
                            "TLS needs certificates, or psk, or both");
    if (tls->verify_clients && !certificates)
        config_report_error(report, place(tls->setting, "verify_clients"), "nbd.tls.verify_clients",
                            "clients are verified with ca-cert.pem; set certificates");
}

/* ---- volumes -------------------------------------------------------------------------------- */

static bool name_is_plain(const char *name)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                  "0123456789._-+:@";

    return name[strspn(name, allowed)] == '\0' && name[0] != '.' && name[0] != '-';
}

static bool is_uri(const char *backing)
{
    return strstr(backing, "://") != NULL;
}

static bool is_nbd_uri(const char *backing)
{
    static const char *const schemes[] = {"nbd://",       "nbds://",      "nbd+unix://",
                                          "nbds+unix://", "nbd+vsock://", "nbds+vsock://"};

    for (unsigned i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        if (strncmp(backing, schemes[i], strlen(schemes[i])) == 0)
            return true;
    }
    return false;
}

static void check_name(const struct config *config, unsigned index, struct config_report *report)
{
    const struct config_volume *volume = &config->volumes[index];
    const config_setting_t *at = place(volume->setting, "name");
    char path[CONFIG_PATH_BYTES];

    volume_path(path, index, "name");
    if (!name_is_plain(volume->name))
        config_report_error(report, at, path,
                            "\"%s\" is not possible; use letters, digits and . _ - + : @, and "
                            "begin with a letter or digit",
                            volume->name);
    for (unsigned i = 0; i < index; i++) {
        const struct config_volume *other = &config->volumes[i];

        if (other->name != NULL && strcmp(other->name, volume->name) == 0)
            config_report_error(report, at, path,
                                "\"%s\" is the name of the volume at line %u, too; give each "
                                "volume a name of its own",
                                volume->name, config_setting_source_line(other->setting));
    }
}

static void check_backing(const struct config *config, unsigned index, struct config_report *report)
{
    const struct config_volume *volume = &config->volumes[index];
    const config_setting_t *at = place(volume->setting, "backing");
    char path[CONFIG_PATH_BYTES];

    volume_path(path, index, "backing");
    if (is_uri(volume->backing) && !is_nbd_uri(volume->backing))
        config_report_error(report, at, path,
                            "\"%s\" has an unknown scheme; give a path, or a URI with nbd://, "
                            "nbds://, nbd+unix:// or nbds+unix://",
                            volume->backing);
    if (config->cache.flash != NULL && strcmp(volume->backing, config->cache.flash) == 0)
        config_report_error(report, at, path,
                            "\"%s\" is the flash of the cache; a volume needs a store of its own",
                            volume->backing);
    for (unsigned i = 0; i < index; i++) {
        const struct config_volume *other = &config->volumes[i];

        if (other->backing != NULL && strcmp(other->backing, volume->backing) == 0)
            config_report_error(report, at, path,
                                "\"%s\" backs the volume at line %u, too; two caches of one store "
                                "would contradict each other",
                                volume->backing, config_setting_source_line(other->setting));
    }
}

static void check_ublk(const struct config *config, unsigned index, struct config_report *report)
{
    const struct config_volume *volume = &config->volumes[index];
    char path[CONFIG_PATH_BYTES];

    for (unsigned i = 0; i < index && volume->ublk >= 0; i++) {
        const struct config_volume *other = &config->volumes[i];

        if (other->ublk == volume->ublk)
            config_report_error(
                report, place(volume->setting, "ublk"), volume_path(path, index, "ublk"),
                "%lld is the number of the volume at line %u, too; give each "
                "volume a number of its own",
                (long long)volume->ublk, config_setting_source_line(other->setting));
    }
}

static void check_destage(const struct config_volume *volume, unsigned index,
                          struct config_report *report)
{
    char path[CONFIG_PATH_BYTES];

    if (volume->destage == DESTAGE_ORDERED && volume->mode != MODE_WRITE_BACK)
        config_report_error(report, place(volume->setting, "destage"),
                            volume_path(path, index, "destage"),
                            "\"ordered\" is for mode \"write-back\" only: the other modes hold "
                            "nothing back that could be ordered; use \"sorted\"");
}

static void check_shares(const struct config *config, struct config_report *report)
{
    char path[CONFIG_PATH_BYTES];
    unsigned sum = 0;

    for (unsigned i = 0; i < config->volume_count; i++) {
        const struct config_volume *volume = &config->volumes[i];
        const config_setting_t *at = place(volume->setting, "share_min");

        volume_path(path, i, "share_min");
        if (volume->share_min > volume->share_max)
            config_report_error(report, at, path, "%u is more than share_max, %u; make it smaller",
                                volume->share_min, volume->share_max);
        sum += volume->share_min;
        if (sum > 100 && sum - volume->share_min <= 100)
            config_report_error(report, at, path,
                                "the volumes up to this one are promised %u percent; promise at "
                                "most 100",
                                sum);
    }
}

static void check_volumes(const struct config *config, struct config_report *report)
{
    if (config->volume_count > VOLUMES_MAX)
        config_report_error(report, config->volumes[VOLUMES_MAX].setting, "volumes",
                            "there are %u volumes; a cache takes at most %u", config->volume_count,
                            VOLUMES_MAX);
    if (config->volume_count == 0)
        config_report_warning(report, NULL, "volumes", "there are none, so nothing is served");
    for (unsigned i = 0; i < config->volume_count; i++) {
        /* Where one is missing, that was reported. */
        if (config->volumes[i].name != NULL)
            check_name(config, i, report);
        if (config->volumes[i].backing != NULL)
            check_backing(config, i, report);
        check_ublk(config, i, report);
        check_destage(&config->volumes[i], i, report);
    }
    check_shares(config, report);
}

void config_rules_check(const struct config *config, struct config_report *report)
{
    check_control(&config->daemon, report);
    check_cores(&config->daemon, report);
    check_metrics(&config->daemon, report);
    check_ram(&config->cache, report);
    check_listen(config, report);
    check_tls(&config->nbd.tls, report);
    check_volumes(config, report);
}
