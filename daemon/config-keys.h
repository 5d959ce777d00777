/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every key of the configuration.  A key's line here is its definition and its documentation: the
 * structures of config.h, the parser and the check of the man page are made from it.
 *
 * X(key, type, low, high, choices, fallback, text)
 *
 *   type       text: low to high bytes        size: low to high bytes     number: low to high
 *              percent: low to high           duration: low to high ms    toggle: true or false
 *              choice: one of choices         numbers: list, each low to high
 *              texts: list of strings, each low to high bytes
 *              ranges: a string of ranges, or a list of such, high ranges at most
 *   choices    words separated by "|", in the order of the enumeration they stand for
 *   fallback   the value of a key that is not given; NULL: it must be given; "": there is none
 */
#ifndef DAEMON_CONFIG_KEYS_H
#define DAEMON_CONFIG_KEYS_H

#define CONFIG_TIB (INT64_C(1) << 40)

/* Longest path of a Unix socket: sun_path without its NUL. */
#define CONFIG_SOCKET_PATH_MAX 107

#define CONFIG_DAEMON_KEYS(X)                                                           \
    X(control, text, 1, CONFIG_SOCKET_PATH_MAX, NULL, "/run/blkcached/control.sock",    \
      "Unix socket that blkcachectl talks to; mode 0600")                               \
    X(state_dir, text, 1, 4095, NULL, "/var/lib/blkcached",                             \
      "directory for what must outlive the daemon and the flash device")                \
    X(metrics, text, 0, 255, NULL, "127.0.0.1:9632",                                    \
      "HOST:PORT of the metrics and the status page; \"\" turns it off")                \
    X(cores, numbers, 0, 1023, NULL, "",                                                \
      "processors to run on, one thread each; by default all that the process may use") \
    X(log_level, choice, 0, 0, "error|warning|notice|info|debug", "info",               \
      "least important messages that are still logged")

#define CONFIG_CACHE_KEYS(X)                                                                      \
    X(flash, text, 1, 4095, NULL, NULL, "formatted block device or file")                         \
    X(ram, size, 0, 64 * CONFIG_TIB, NULL, "256M", "memory for the RAM tier; \"0\" for none")     \
    X(volatile_cache, choice, 0, 0, "auto|yes|no", "auto",                                        \
      "whether the flash device has a volatile write cache and needs flushes")                    \
    X(missing_flash, choice, 0, 0, "refuse|pass-through", "refuse",                               \
      "what a start does when the flash cannot be opened, read or written: refuse, or serve the " \
      "volumes without it")

#define CONFIG_NBD_KEYS(X)                                                                       \
    X(listen, texts, 1, 255, NULL, "unix:/run/blkcached/nbd.sock",                               \
      "where to listen, each \"unix:PATH\" or \"tcp:HOST:PORT\"; an empty list for nowhere")     \
    X(connections_max, number, 1, 65535, NULL, "1024",                                           \
      "connections at a time; further ones are closed at once")                                  \
    X(requests_max, number, 1, 1024, NULL, "128",                                                \
      "requests in flight of one connection; further ones wait")                                 \
    X(bytes_max, size, 65536, CONFIG_TIB, NULL, "64M",                                           \
      "bytes of payload in flight of one connection; further requests wait")                     \
    X(handshake_timeout, duration, 100, 3600000, NULL, "10s",                                    \
      "time that a client has for its handshake")                                                \
    X(idle_timeout, duration, 0, 2592000000, NULL, "0",                                          \
      "time without a request after which a client is dropped; \"0\" for never")                 \
    X(send_timeout, duration, 0, 86400000, NULL, "60s",                                          \
      "time after which a client that takes nothing of its replies is dropped; \"0\" for never") \
    X(receive_timeout, duration, 0, 86400000, NULL, "60s",                                       \
      "time after which a client is dropped that began a write and sends nothing of its data; "  \
      "\"0\" for never")

#define CONFIG_TLS_KEYS(X)                                                                    \
    X(mode, choice, 0, 0, "off|on|require", "off", "whether NBD clients may or must use TLS") \
    X(certificates, text, 0, 4095, NULL, "",                                                  \
      "directory with server-cert.pem, server-key.pem, ca-cert.pem and ca-crl.pem")           \
    X(psk, text, 0, 4095, NULL, "", "file with pre-shared keys, as psktool writes it")        \
    X(verify_clients, toggle, 0, 0, NULL, "false",                                            \
      "whether clients need a certificate signed by ca-cert.pem, unless they have a key")

#define CONFIG_VOLUME_KEYS(X)                                                                      \
    X(name, text, 1, 127, NULL, NULL,                                                              \
      "name of the volume and of its NBD export: letters, digits and . _ - + : @")                 \
    X(backing, text, 1, 4095, NULL, NULL, "block device, file or NBD URI that is cached")          \
    X(mode, choice, 0, 0, "write-back|write-through|write-around|pass-through", "write-through",   \
      "when a write is acknowledged, and what is cached")                                          \
    X(read_only, toggle, 0, 0, NULL, "false", "refuse writes of clients")                          \
    X(ublk, number, 0, 1048575, NULL, "",                                                          \
      "number N of the block device /dev/ublkbN of the volume; none unless it is given")           \
    X(nbd, toggle, 0, 0, NULL, "true", "export the volume over NBD")                               \
    X(destage, choice, 0, 0, "sorted|ordered", "sorted",                                           \
      "order of writing dirty data back: the fastest, or so that the backing store alone is "      \
      "always what a disk could have left; \"ordered\" needs mode write-back")                     \
    X(dirty_max, percent, 1, 95, NULL, "50",                                                       \
      "share of the cache that dirty data may take before writers are slowed down")                \
    X(sequential_cutoff, size, 0, CONFIG_TIB, NULL, "4M",                                          \
      "what is read in sequence beyond this does not enter the cache; \"0\" for no limit; writes " \
      "are acknowledged by the flash, sequential or not")                                          \
    X(share_min, percent, 0, 100, NULL, "0",                                                       \
      "share of the flash that other volumes cannot take from it")                                 \
    X(share_max, percent, 1, 100, NULL, "100", "share of the flash that it may take")              \
    X(pin, ranges, 0, RANGES_MAX, NULL, "none",                                                    \
      "ranges that stay on flash once they are there, and get there when they are read; all pins " \
      "together take half of the flash at most")                                                   \
    X(backing_timeout, duration, 100, 86400000, NULL, "30s",                                       \
      "time after which a request to the backing store has failed")

#endif
