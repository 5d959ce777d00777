/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hashing of 64-bit keys for tables and for spreading load.
 *
 * Not keyed: do not use it where an adversary who picks the keys could hurt.
 * hash_mix64() is a bijection, so different keys never collide in 64 bits.
 */
#ifndef COMMON_HASH_H
#define COMMON_HASH_H

#include <stdint.h>

/*
 * Mix a 64-bit key so that each input bit changes each output bit with a
 * probability near one half. The finalizer "Mix13" of David Stafford, as used
 * by SplitMix64 (Steele, Lea, Flood: Fast Splittable PRNGs, 2014).
 */
static inline uint64_t hash_mix64(uint64_t key)
{
    key = (key ^ (key >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    key = (key ^ (key >> 27)) * UINT64_C(0x94d049bb133111eb);
    return key ^ (key >> 31);
}

/* Hash of an ordered pair: hash_pair64(a, b) and hash_pair64(b, a) differ. */
static inline uint64_t hash_pair64(uint64_t first, uint64_t second)
{
    return hash_mix64(hash_mix64(first + UINT64_C(0x9e3779b97f4a7c15)) + second);
}

#endif
