/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/config.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/config-rules.h"
#include "daemon/config-text.h"
#include "engine/shard.h"
#include "tests/unit/unit.h"

static char path[] = "/tmp/test-config.XXXXXX";
static char problems[8192];

/* Loads `text` from a file; what was reported is in `problems`, with the file's path as FILE. */
static int load(struct config **config, const char *text)
{
    FILE *to = fopen(path, "w");
    char *raw = NULL, *at;
    size_t bytes = 0;
    int error;

    ck_assert_ptr_nonnull(to);
    ck_assert_int_ge(fputs(text, to), 0);
    ck_assert_int_eq(fclose(to), 0);
    to = open_memstream(&raw, &bytes);
    ck_assert_ptr_nonnull(to);
    error = config_load(config, path, to);
    ck_assert_int_eq(fclose(to), 0);
    problems[0] = '\0';
    for (at = raw; *at != '\0';) {
        if (strncmp(at, path, strlen(path)) == 0) {
            strcat(problems, "FILE");
            at += strlen(path);
        } else {
            strncat(problems, at++, 1);
        }
    }
    free(raw);
    return error;
}

static void make_file(void)
{
    int fd;

    strcpy(path, "/tmp/test-config.XXXXXX");
    fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
}

static void remove_file(void)
{
    unlink(path);
}

#define CACHE  "cache = { flash = \"/dev/f\"; };\n"
#define VOLUME "volumes = ( { name = \"v\"; backing = \"/dev/b\"; } );\n"

/* A file, and all that is reported about it. */
struct bad {
    const char *text, *reported;
};

static const struct bad bad_files[] = {
    /* What is no configuration at all. */
    {CACHE VOLUME "cache = {", "FILE:3: duplicate setting name; look for what is missing at the "
                               "end of the line before, too\n"},
    {CACHE "volumes = (\n",
     "FILE:3: syntax error; look for what is missing at the end of the line before, too\n"},
    {"@include \"none.conf\"\n",
     "FILE:1: cannot open include file; look for what is missing at the end of the line before, "
     "too\n"},
    {CACHE VOLUME "nbd = { x = 99999999999999999999; };\n",
     "FILE:3: a number is too large; make it smaller\n"},

    /* Groups. */
    {VOLUME, "FILE:1: cache.flash: is missing; give a formatted block device or file\n"},
    {"\n\ncache = { ram = 0; };\n" VOLUME,
     "FILE:3: cache.flash: is missing; give a formatted block device or file\n"},
    {CACHE VOLUME "daemons = { };\n", "FILE:3: daemons: unknown key; did you mean \"daemon\"?\n"},
    {CACHE VOLUME "speed = 3;\n",
     "FILE:3: speed: unknown key; take it away, or see blkcached.conf(5) for the keys\n"},
    {CACHE VOLUME "daemon = 3;\n", "FILE:3: daemon: is no group; write { key = value; ... }\n"},
    {CACHE VOLUME "nbd = { tls = \"off\"; };\n",
     "FILE:3: nbd.tls: is no group; write { key = value; ... }\n"},
    {CACHE "volumes = { };\n", "FILE:2: volumes: is no list; write ( { ... }, { ... } )\n"},
    {CACHE "volumes = ( 3 );\n", "FILE:2: volumes[0]: is no group; write { key = value; ... }\n"},

    /* Keys. */
    {"cache = {\n flash = \"/dev/f\";\n rma = \"1G\";\n};\n" VOLUME,
     "FILE:3: cache.rma: unknown key; did you mean \"ram\"?\n"},
    {CACHE VOLUME "nbd = { tsl = { }; };\n",
     "FILE:3: nbd.tsl: unknown key; did you mean \"tls\"?\n"},
    {CACHE VOLUME "nbd = { tls = { cert = \"\"; }; };\n",
     "FILE:3: nbd.tls.cert: unknown key; take it away, or see blkcached.conf(5) for the keys\n"},
    {CACHE
     "volumes = (\n { name = \"a\"; backing = \"/b\"; },\n { name = \"b\"; backing = \"/c\";\n"
     " writeback = true; } );\n",
     "FILE:5: volumes[1].writeback: unknown key; take it away, or see blkcached.conf(5) for the "
     "keys\n"},
    {CACHE "volumes = (\n { backing = \"/b\"; } );\n",
     "FILE:3: volumes[0].name: is missing; give a name of the volume and of its NBD export: "
     "letters, digits and . _ - + : @\n"},
    {CACHE "volumes = (\n { name = \"a\"; } );\n",
     "FILE:3: volumes[0].backing: is missing; give a block device, file or NBD URI that is "
     "cached\n"},

    /* Types. */
    {"cache = { flash = 3; };\n" VOLUME,
     "FILE:1: cache.flash: is a number; give a string of 1 to 4095 bytes\n"},
    {"cache = { flash = \"\"; };\n" VOLUME,
     "FILE:1: cache.flash: has 0 bytes; give a string of 1 to 4095 bytes\n"},
    {"cache = { flash = \"/f\"; ram = 1.5; };\n" VOLUME,
     "FILE:1: cache.ram: is a number with a fraction; give a size from 0 to 64T, such as "
     "\"512M\"\n"},
    {"cache = { flash = \"/f\"; ram = true; };\n" VOLUME,
     "FILE:1: cache.ram: is true or false; give a size from 0 to 64T, such as \"512M\"\n"},
    {"cache = { flash = \"/f\"; ram = { }; };\n" VOLUME,
     "FILE:1: cache.ram: is a group; give a size from 0 to 64T, such as \"512M\"\n"},
    {CACHE VOLUME "daemon = { cores = 1; };\n",
     "FILE:3: daemon.cores: is a number; give numbers from 0 to 1023, such as [ 0, 1 ]\n"},
    {CACHE VOLUME "daemon = { cores = [ \"a\" ]; };\n",
     "FILE:3: daemon.cores: is a string; give numbers from 0 to 1023, such as [ 0, 1 ]\n"},
    {CACHE VOLUME "daemon = { cores = [ 0,\n -1 ]; };\n",
     "FILE:4: daemon.cores: -1 is out of range; give numbers from 0 to 1023, such as [ 0, 1 ]\n"},
    {CACHE VOLUME "nbd = { listen = \"unix:/a\"; };\n",
     "FILE:3: nbd.listen: is a string; give a list of strings, such as ( \"one\", \"two\" )\n"},
    {CACHE VOLUME "nbd = { listen = ( 3 ); };\n",
     "FILE:3: nbd.listen: is a number; give a list of strings, such as ( \"one\", \"two\" )\n"},
    {CACHE "volumes = ( { name = \"v\"; backing = \"/b\"; nbd = 1; } );\n",
     "FILE:2: volumes[0].nbd: is a number; give true or false\n"},
    {CACHE "volumes = ( { name = \"v\"; backing = \"/b\"; read_only = \"true\"; } );\n",
     "FILE:2: volumes[0].read_only: is a string; give true or false\n"},

    /* Values. */
    {"cache = { flash = \"/f\"; ram = \"1Q\"; };\n" VOLUME,
     "FILE:1: cache.ram: \"1Q\" is not a size; give a size from 0 to 64T, such as \"512M\"\n"},
    {"cache = { flash = \"/f\"; ram = \"100T\"; };\n" VOLUME,
     "FILE:1: cache.ram: \"100T\" is out of range; give a size from 0 to 64T, such as \"512M\"\n"},
    {"cache = { flash = \"/f\"; ram = -5; };\n" VOLUME,
     "FILE:1: cache.ram: -5 is out of range; give a size from 0 to 64T, such as \"512M\"\n"},
    {"cache = { flash = \"/f\"; ram = 9000000000000000000; };\n" VOLUME,
     "FILE:1: cache.ram: 9000000000000000000 is out of range; give a size from 0 to 64T, such as "
     "\"512M\"\n"},
    {"cache = { flash = \"/f\"; volatile_cache = \"maybe\"; };\n" VOLUME,
     "FILE:1: cache.volatile_cache: \"maybe\" is not possible; give one of \"auto\", \"yes\" or "
     "\"no\"\n"},
    {CACHE "volumes = ( { name = \"v\"; backing = \"/b\";\n mode = \"writeback\"; } );\n",
     "FILE:3: volumes[0].mode: \"writeback\" is not possible; give one of \"write-back\", "
     "\"write-through\", \"write-around\" or \"pass-through\"\n"},
    {CACHE "volumes = ( { name = \"v\"; backing = \"/b\"; dirty_max = 0; } );\n",
     "FILE:2: volumes[0].dirty_max: 0 is out of range; give a percentage from 1 to 95\n"},
    {CACHE "volumes = ( { name = \"v\"; backing = \"/b\"; dirty_max = \"96%\"; } );\n",
     "FILE:2: volumes[0].dirty_max: \"96%\" is out of range; give a percentage from 1 to 95\n"},
    {CACHE "volumes = ( { name = \"v\"; backing = \"/b\"; dirty_max = \"many\"; } );\n",
     "FILE:2: volumes[0].dirty_max: \"many\" is not possible; give a percentage from 1 to 95\n"},
    {CACHE "volumes = ( { name = \"v\"; backing = \"/b\"; backing_timeout = \"3w\"; } );\n",
     "FILE:2: volumes[0].backing_timeout: \"3w\" is not possible; give a time from 100ms to "
     "86400s, such as \"30s\" or 30\n"},
    {CACHE "volumes = ( { name = \"v\"; backing = \"/b\"; backing_timeout = \"25h\"; } );\n",
     "FILE:2: volumes[0].backing_timeout: \"25h\" is out of range; give a time from 100ms to "
     "86400s, such as \"30s\" or 30\n"},

    /* Between values. */
    {CACHE
     "volumes = ( { name = \"v\"; backing = \"/b\"; },\n\n { name = \"v\"; backing = \"/c\"; } "
     ");\n",
     "FILE:4: volumes[1].name: \"v\" is the name of the volume at line 2, too; give each volume a "
     "name of its own\n"},
    {CACHE "volumes = ( { name = \"v\"; backing = \"/b\"; },\n { name = \"w\"; backing = \"/b\"; } "
           ");\n",
     "FILE:3: volumes[1].backing: \"/b\" backs the volume at line 2, too; two caches of one store "
     "would contradict each other\n"},
    {CACHE "volumes = ( { name = \"v\"; backing = \"/dev/f\"; } );\n",
     "FILE:2: volumes[0].backing: \"/dev/f\" is the flash of the cache; a volume needs a store of "
     "its own\n"},
    {CACHE "volumes = ( { name = \"a/b\"; backing = \"/b\"; } );\n",
     "FILE:2: volumes[0].name: \"a/b\" is not possible; use letters, digits and . _ - + : @, and "
     "begin with a letter or digit\n"},
    {CACHE "volumes = ( { name = \"v\"; backing = \"http://x\"; } );\n",
     "FILE:2: volumes[0].backing: \"http://x\" has an unknown scheme; give a path, or a URI with "
     "nbd://, nbds://, nbd+unix:// or nbds+unix://\n"},
    {CACHE VOLUME "nbd = { listen = ( \"/run/x\" ); };\n",
     "FILE:3: nbd.listen: \"/run/x\" does not say how; write \"unix:PATH\" or "
     "\"tcp:HOST:PORT\"\n"},
    {CACHE VOLUME "nbd = { listen = ( \"unix:/a\",\n \"unix:/a\" ); };\n",
     "FILE:4: nbd.listen: \"unix:/a\" is there twice; take one away\n"},
    {CACHE VOLUME "daemon = { control = \"/a\"; }; nbd = { listen = ( \"unix:/a\" ); };\n",
     "FILE:3: nbd.listen: \"unix:/a\" is the control socket; give each a path of its own\n"},
    {CACHE VOLUME "nbd = { listen = ( \"tcp:localhost:0\" ); };\n",
     "FILE:3: nbd.listen: \"tcp:localhost:0\" needs a host and a port from 1 to 65535, such as "
     "\"127.0.0.1:10809\"\n"},
    {CACHE VOLUME "nbd = { listen = ( \"tcp:::1:10809\" ); };\n",
     "FILE:3: nbd.listen: \"tcp:::1:10809\" has an IPv6 address without brackets; write "
     "\"[::1]:10809\"\n"},
    {CACHE VOLUME "daemon = { cores = [ 1000 ]; };\n",
     "FILE:3: daemon.cores: this process may not run on processor 1000; see the list that "
     "\"taskset -cp $$\" prints\n"},
    {CACHE VOLUME "nbd = { listen = ( \"unix:a\" ); };\n",
     "FILE:3: nbd.listen: \"unix:a\" needs the path of a socket, from the root, of at most 107 "
     "bytes\n"},
    {CACHE VOLUME "daemon = { control = \"c\"; };\n",
     "FILE:3: daemon.control: \"c\" does not begin with a slash; give the whole path\n"},
    {"cache = { flash = \"/f\"; ram = \"60T\"; };\n" VOLUME, NULL},
    {CACHE "volumes = ( { name = \"v\"; backing = \"/b\"; share_min = 50; share_max = 40; } );\n",
     "FILE:2: volumes[0].share_min: 50 is more than share_max, 40; make it smaller\n"},
    {CACHE "volumes = ( { name = \"v\"; backing = \"/b\"; pin = ( \"0-1G\", \"2G\" ); } );\n",
     "FILE:2: volumes[0].pin: \"2G\" is not possible; give ranges such as \"0-1G\" or "
     "\"10G+512M\", 16 at most, or \"none\"\n"},
    {CACHE "volumes = ( { name = \"v\"; backing = \"/b\"; pin = 4096; } );\n",
     "FILE:2: volumes[0].pin: is a number; give ranges such as \"0-1G\" or \"10G+512M\", 16 at "
     "most, or \"none\"\n"},
    {CACHE "volumes = ( { name = \"v\"; backing = \"/b\"; ublk = 0; },\n"
           "{ name = \"w\"; backing = \"/c\"; ublk = 0; } );\n",
     "FILE:3: volumes[1].ublk: 0 is the number of the volume at line 2, too; give each volume a "
     "number of its own\n"},

    /* What this version cannot do. */
    {CACHE "volumes = ( { name = \"v\"; backing = \"/b\"; destage = \"ordered\"; } );\n",
     "FILE:2: volumes[0].destage: \"ordered\" is for mode \"write-back\" only: the other modes "
     "hold "
     "nothing back that could be ordered; use \"sorted\"\n"},
    {CACHE VOLUME "nbd = { tls = { mode = \"on\"; }; };\n",
     "FILE:3: nbd.tls.mode: TLS needs certificates, or psk, or both\n"},
    {CACHE VOLUME "nbd = { tls = { psk = \"/p\"; verify_clients = true; }; };\n",
     "FILE:3: nbd.tls.verify_clients: clients are verified with ca-cert.pem; set certificates\n"},
    {CACHE VOLUME "daemon = { metrics = \"9632\"; };\n",
     "FILE:3: daemon.metrics: \"9632\" needs a host and a port from 1 to 65535, such as "
     "\"127.0.0.1:10809\"\n"},

    /* Every problem is told, not only the first. */
    {"cache = { flash = 1; ram = \"x\"; };\nvolumes = ( { } );\n",
     "FILE:1: cache.flash: is a number; give a string of 1 to 4095 bytes\n"
     "FILE:1: cache.ram: \"x\" is not a size; give a size from 0 to 64T, such as \"512M\"\n"
     "FILE:2: volumes[0].name: is missing; give a name of the volume and of its NBD export: "
     "letters, digits and . _ - + : @\n"
     "FILE:2: volumes[0].backing: is missing; give a block device, file or NBD URI that is "
     "cached\n"},
};

START_TEST(bad_files_are_refused)
{
    struct config *config = NULL;

    ck_assert_int_eq(load(&config, bad_files[_i].text), -EINVAL);
    ck_assert_ptr_null(config);
    if (bad_files[_i].reported != NULL)
        ck_assert_str_eq(problems, bad_files[_i].reported);
    else
        ck_assert_ptr_nonnull(strstr(problems, "of this machine; leave room"));
}
END_TEST

START_TEST(fallbacks)
{
    struct config *config;

    ck_assert_int_eq(load(&config, CACHE VOLUME), 0);
    ck_assert_str_eq(problems, "");
    ck_assert_str_eq(config->daemon.control, "/run/blkcached/control.sock");
    ck_assert_str_eq(config->daemon.state_dir, "/var/lib/blkcached");
    ck_assert_str_eq(config->daemon.metrics, "127.0.0.1:9632");
    ck_assert_uint_eq(config->daemon.cores.count, 0);
    ck_assert_uint_eq(config->daemon.log_level, 3);
    ck_assert_str_eq(config->cache.flash, "/dev/f");
    ck_assert_uint_eq(config->cache.ram, 256u << 20);
    ck_assert_uint_eq(config->cache.volatile_cache, 0);
    ck_assert_uint_eq(config->nbd.listen.count, 1);
    ck_assert_str_eq(config->nbd.listen.list[0], "unix:/run/blkcached/nbd.sock");
    ck_assert_uint_eq(config->nbd.tls.mode, CONFIG_TLS_OFF);
    ck_assert_uint_eq(config->volume_count, 1);
    ck_assert_uint_eq(config->volumes[0].mode, MODE_WRITE_THROUGH);
    ck_assert(!config->volumes[0].read_only);
    ck_assert(config->volumes[0].nbd);
    ck_assert_int_eq(config->volumes[0].ublk, -1);
    ck_assert_uint_eq(config->volumes[0].dirty_max, 50);
    ck_assert_uint_eq(config->volumes[0].sequential_cutoff, 4u << 20);
    ck_assert_uint_eq(config->volumes[0].share_min, 0);
    ck_assert_uint_eq(config->volumes[0].share_max, 100);
    ck_assert_uint_eq(config->volumes[0].backing_timeout, UINT64_C(30000000000));
    config_free(config);
}
END_TEST

/* Comments, commas before closing brackets, sizes both ways, long integers. */
static const char full_file[] =
    "// one\n# two, )\n/* three,\n ) */\n"
    "daemon = { control = \"/c,)\"; state_dir = \"/s\"; cores = [ 0, ]; log_level = \"debug\"; };\n"
    "cache = { flash = \"/f \\\" ,) # x\"; ram = 1048576; volatile_cache = \"no\"; };\n"
    "nbd = { listen = ( \"unix:/n\", \"tcp:[::1]:10809\", ); tls = { mode = \"off\"; psk = \"p\"; "
    "}; };\n"
    "volumes = (\n"
    "  { name = \"vm1\"; backing = \"nbd://storage:10809/vm1\"; mode = \"write-back\";\n"
    "    read_only = true; nbd = false; destage = \"ordered\"; dirty_max = \"70%\";\n"
    "    sequential_cutoff = 5000000000; backing_timeout = \"250ms\"; },\n"
    "  { name = \"b\"; backing = \"/b\"; dirty_max = 7; sequential_cutoff = \"0\"; backing_timeout "
    "= 3; pin = [ \"5000-1G\", \"1G+4097\" ] "
    "},\n /* and */ // no more\n"
    ");\n";

START_TEST(everything_given)
{
    struct config *config;

    ck_assert_int_eq(load(&config, full_file), 0);
    ck_assert_str_eq(problems, "");
    ck_assert_str_eq(config->daemon.control, "/c,)");
    ck_assert_uint_eq(config->daemon.cores.count, 1);
    ck_assert_uint_eq(config->daemon.log_level, 4);
    ck_assert_str_eq(config->cache.flash, "/f \" ,) # x");
    ck_assert_uint_eq(config->cache.ram, 1u << 20);
    ck_assert_uint_eq(config->cache.volatile_cache, 2);
    ck_assert_uint_eq(config->nbd.listen.count, 2);
    ck_assert_str_eq(config->nbd.listen.list[1], "tcp:[::1]:10809");
    ck_assert_uint_eq(config->volume_count, 2);
    ck_assert_uint_eq(config->volumes[0].mode, MODE_WRITE_BACK);
    ck_assert_uint_eq(config->volumes[0].destage, DESTAGE_ORDERED);
    ck_assert(config->volumes[0].read_only);
    ck_assert(!config->volumes[0].nbd);
    ck_assert_uint_eq(config->volumes[0].dirty_max, 70);
    ck_assert_uint_eq(config->volumes[0].sequential_cutoff, UINT64_C(5000000000));
    ck_assert_uint_eq(config->volumes[0].backing_timeout, 250000000);
    ck_assert_uint_eq(config->volumes[1].dirty_max, 7);
    ck_assert_uint_eq(config->volumes[1].sequential_cutoff, 0);
    ck_assert_uint_eq(config->volumes[1].backing_timeout, UINT64_C(3000000000));
    ck_assert_uint_eq(config->volumes[0].pin.count, 0);
    ck_assert_uint_eq(config->volumes[1].pin.count, 1); /* whole blocks, joined */
    ck_assert_uint_eq(config->volumes[1].pin.list[0].first, 4096);
    ck_assert_uint_eq(config->volumes[1].pin.list[0].end, (1u << 30) + 8192);
    config_free(config);
}
END_TEST

START_TEST(warnings_do_not_refuse)
{
    struct config *config;

    ck_assert_int_eq(
        load(&config, CACHE "daemon = { metrics = \"[::1]:9632\"; };\nvolumes = ();\n"), 0);
    ck_assert_str_eq(problems, "FILE:1: volumes: warning: there are none, so nothing is served\n");
    ck_assert_str_eq(config->daemon.metrics, "[::1]:9632");
    ck_assert_uint_eq(config->warnings, 1);
    config_free(config);
}
END_TEST

START_TEST(a_file_that_is_not_there)
{
    struct config *config = NULL;
    char *raw = NULL;
    size_t bytes;
    FILE *to = open_memstream(&raw, &bytes);

    ck_assert_int_eq(config_load(&config, "/nonexistent/x.conf", to), -EINVAL);
    fclose(to);
    ck_assert_str_eq(raw,
                     "/nonexistent/x.conf: cannot be read: No such file or directory; name the "
                     "configuration with -c FILE\n");
    free(raw);
}
END_TEST

START_TEST(no_text_is_taken_for_one)
{
    char *text = NULL, *normal = NULL;
    unsigned line = 0;

    ck_assert_int_eq(truncate(path, 100), 0);
    ck_assert_int_eq(config_text_read(path, &text), -EILSEQ);
    ck_assert_int_eq(truncate(path, CONFIG_TEXT_BYTES_MAX + 1), 0);
    ck_assert_int_eq(config_text_read(path, &text), -EFBIG);

    /* Ends in the middle of everything. */
    static const char *const cut[] = {"a = \"x", "a = \"x\\", "/* a", "/*",
                                      "/",       "a,",        "1,",   "// a"};
    for (unsigned i = 0; i < sizeof(cut) / sizeof(cut[0]); i++) {
        ck_assert_int_eq(config_text_normalise(cut[i], strlen(cut[i]), &normal, &line), 0);
        ck_assert_str_eq(normal, cut[i]);
        free(normal);
    }
}
END_TEST

START_TEST(numbers_become_long_where_they_must)
{
    static const char text[] =
        "2147483647 2147483648 0x7fffffff 0xffffffff 4000000000L a4000000000 "
        "1.5 4000000000.0 -2147483649 \"4000000000\" #4000000000";
    char *normal;
    unsigned line;

    ck_assert_int_eq(config_text_normalise(text, strlen(text), &normal, &line), 0);
    ck_assert_str_eq(normal,
                     "2147483647 2147483648L 0x7fffffff 0xffffffffL 4000000000L a4000000000 "
                     "1.5 4000000000.0 -2147483649L \"4000000000\" #4000000000");
    free(normal);
    ck_assert_int_eq(config_text_normalise("\n\n9223372036854775808", 21, &normal, &line), -ERANGE);
    ck_assert_uint_eq(line, 3);
}
END_TEST

START_TEST(addresses)
{
    struct config_address address;
    const char *why;

    ck_assert_int_eq(config_address_parse("unix:/run/x", &address, &why), 0);
    ck_assert(address.is_unix);
    ck_assert_str_eq(address.path, "/run/x");
    ck_assert_int_eq(config_address_parse("tcp:[::]:80", &address, &why), 0);
    ck_assert_str_eq(address.host, "::");
    ck_assert_uint_eq(address.port, 80);
    ck_assert_int_eq(config_address_parse("tcp::80", &address, &why), 0);
    ck_assert_str_eq(address.host, "");
    ck_assert_int_eq(config_address_parse("unix:", &address, &why), -EINVAL);
    ck_assert_int_eq(config_address_parse("tcp:a:65536", &address, &why), -EINVAL);
    ck_assert_int_eq(config_address_parse("tcp:a:-1", &address, &why), -EINVAL);
    ck_assert_int_eq(config_address_parse("tcp:a", &address, &why), -EINVAL);
    ck_assert_int_eq(config_address_parse("tcp:[]:1", &address, &why), -EINVAL);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("config");

    tcase_add_checked_fixture(cases, make_file, remove_file);
    tcase_add_loop_test(cases, bad_files_are_refused, 0,
                        (int)(sizeof(bad_files) / sizeof(bad_files[0])));
    tcase_add_test(cases, fallbacks);
    tcase_add_test(cases, everything_given);
    tcase_add_test(cases, warnings_do_not_refuse);
    tcase_add_test(cases, a_file_that_is_not_there);
    tcase_add_test(cases, no_text_is_taken_for_one);
    tcase_add_test(cases, numbers_become_long_where_they_must);
    tcase_add_test(cases, addresses);
    return unit_run("config", cases);
}
