/* SPDX-License-Identifier: Apache-2.0 */
/* What a device or file holds already. */
#include "daemon/signature.h"

#include <blkid/blkid.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/format.h"

/* A value of the probe's result, or NULL. */
static const char *value_of(blkid_probe probe, const char *name)
{
    const char *value;

    return blkid_probe_lookup_value(probe, name, &value, NULL) == 0 ? value : NULL;
}

static void describe(blkid_probe probe, char *what)
{
    const char *type = value_of(probe, "TYPE"), *usage = value_of(probe, "USAGE");
    const char *table = value_of(probe, "PTTYPE"), *label = value_of(probe, "LABEL");
    const char *kind = "data";

    if (usage != NULL && strcmp(usage, "filesystem") == 0)
        kind = "a file system";
    else if (usage != NULL && strcmp(usage, "raid") == 0)
        kind = "a member of an array or volume group";
    else if (usage != NULL && strcmp(usage, "crypto") == 0)
        kind = "an encrypted volume";

    if (type != NULL)
        snprintf(what, SIGNATURE_BYTES, "%s (%s%s%s%s)", kind, type, label ? ", labelled \"" : "",
                 label ? label : "", label ? "\"" : "");
    else if (table != NULL)
        snprintf(what, SIGNATURE_BYTES, "a partition table (%s)", table);
    else
        snprintf(what, SIGNATURE_BYTES, "data that libblkid knows");
}

/* As signature_find, by libblkid alone. */
static int probe_find(int fd, char *what)
{
    blkid_probe probe = blkid_new_probe();
    int found;

    if (probe == NULL)
        return -ENOMEM;
    if (blkid_probe_set_device(probe, fd, 0, 0) != 0) {
        blkid_free_probe(probe);
        return -EIO;
    }
    blkid_probe_enable_superblocks(probe, 1);
    blkid_probe_set_superblocks_flags(probe,
                                      BLKID_SUBLKS_TYPE | BLKID_SUBLKS_USAGE | BLKID_SUBLKS_LABEL);
    blkid_probe_enable_partitions(probe, 1);
    found = blkid_do_safeprobe(probe);
    if (found == 0)
        describe(probe, what);
    else if (found == -2)
        snprintf(what, SIGNATURE_BYTES, "more than one known kind of data");
    blkid_free_probe(probe);
    /* 0: found, 1: nothing, -2: ambivalent, -1: error */
    return found == 0 || found == -2 ? 1 : found == 1 ? 0 : -EIO;
}

/* Whether `bytes` at `offset` are zeros, or past the end. */
static int zeros_at(int fd, uint64_t offset, size_t bytes)
{
    unsigned char *data = malloc(bytes);
    ssize_t got;
    int zeros;

    if (data == NULL)
        return -ENOMEM;
    got = pread(fd, data, bytes, (off_t)offset);
    zeros = got < 0 ? -errno
                    : got == 0 || (data[0] == 0 && memcmp(data, data + 1, (size_t)got - 1) == 0);
    free(data);
    return zeros;
}

int signature_find(int fd, uint64_t bytes, bool is_block, char *what)
{
    uint64_t last = bytes > DATA_OFFSET ? bytes - DATA_OFFSET : 0;
    int found, zeros;

    if (bytes == 0)
        return 0;
    found = probe_find(fd, what);
    if (found != 0 || is_block)
        return found;
    zeros = zeros_at(fd, 0, DATA_OFFSET);
    if (zeros == 1)
        zeros = zeros_at(fd, last, DATA_OFFSET);
    if (zeros < 0)
        return zeros;
    if (zeros == 0)
        snprintf(what, SIGNATURE_BYTES, "data of an unknown kind");
    return !zeros;
}
