#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# blkcache-replay: results add up, repeat, and order the policies as they must.
. "$srcdir/tests/functions.sh"
requires_program jq python3 zstd

replay() {
    "$builddir/blkcache-replay" --json "$@"
}

# holds JSON CONDITION: a condition in jq's language.
holds() {
    jq -e "$2" <<<"$1" >/dev/null || fail "not so: $2"$'\n'"$1"
}

generate() {
    python3 "$srcdir/tests/system/generate-trace" "$@"
}

generate runs 20000 40000 >"$tmpdir/runs.csv"
sizes=(--flash 20% --ram 10%)

plain=$(replay "${sizes[@]}" "$tmpdir/runs.csv")
holds "$plain" '.ram_hit_blocks + .flash_hit_blocks + .miss_blocks == .read_blocks'
holds "$plain" '.flash_blocks_written ==
    .flash_blocks_filled + .flash_blocks_promoted + .flash_blocks_reinserted'
holds "$plain" '.requests == 20000 and .read_requests == 20000'
holds "$plain" '(.block_miss_ratio * .read_blocks - .miss_blocks | fabs) < 2'
holds "$plain" '.request_miss_ratio > 0 and .request_miss_ratio <= 1'
holds "$plain" '.flash_blocks * 4096 < .flash_bytes'

# Compressed, and from a pipe, it is the same.
zstd -q "$tmpdir/runs.csv"
flash=$(jq .flash_bytes <<<"$plain") ram=$(jq .ram_bytes <<<"$plain")
results='del(.trace, .seconds, .requests_per_second)'
[ "$(replay "${sizes[@]}" "$tmpdir/runs.csv.zst" | jq "$results")" = \
    "$(jq "$results" <<<"$plain")" ] || fail "a compressed trace gives another result"
[ "$(replay --flash "$flash" --ram "$ram" - <"$tmpdir/runs.csv" | jq "$results")" = \
    "$(jq "$results" <<<"$plain")" ] || fail "a trace from a pipe gives another result"

# Everything fits: each block is missed once, by every policy.
generate zipf 30000 5000 >"$tmpdir/fits.csv"
footprint=$(cut -d, -f3 "$tmpdir/fits.csv" | sort -u | wc -l)
all=$(replay --flash 64M --ram 1M --policy blkcached,lru,s3fifo,wtinylfu "$tmpdir/fits.csv")
holds "$all" "length == 4 and all(.[]; .miss_blocks == $footprint)"
holds "$all" '.[0].policy == "blkcached" and .[0].flash_blocks_reinserted == 0'

# Nothing is ever used again: flash is filled once, and not worn. (A block can be mistaken for another
# one, seldom: that is what fingerprints are.)
generate once 60000 60000 >"$tmpdir/once.csv"
once=$(replay --flash 64M --ram 4M --policy blkcached,lru "$tmpdir/once.csv")
holds "$once" 'all(.[]; .block_miss_ratio == 1)'
holds "$once" '.[0].flash_blocks_promoted < 10 and .[0].flash_blocks_reinserted == 0'
holds "$once" '.[0].flash_blocks_filled <= .[0].flash_blocks'
holds "$once" '.[1].flash_blocks_written == 60000'

# More is better, and frequency beats recency where popularity is all there is.
generate zipf 150000 50000 >"$tmpdir/zipf.csv"
small=$(replay --flash 10% --ram 10% --policy blkcached,lru "$tmpdir/zipf.csv")
large=$(replay --flash 30% --ram 10% "$tmpdir/zipf.csv")
holds "$small" '.[0].block_miss_ratio < .[1].block_miss_ratio'
holds "$small" '.[0].flash_blocks_written < .[1].flash_blocks_written / 2'
holds "[$small, $large]" '.[1].block_miss_ratio < .[0][0].block_miss_ratio'

# Writes are left out unless asked for.
generate mixed 20000 40000 >"$tmpdir/mixed.csv"
reads=$(replay "${sizes[@]}" "$tmpdir/mixed.csv")
both=$(replay "${sizes[@]}" --writes "$tmpdir/mixed.csv")
holds "$reads" '.write_requests == 0 and .flash_blocks_of_writes == 0'
holds "$both" '.write_requests > 5000 and .read_requests + .write_requests == 20000'
holds "$both" '.flash_blocks_of_writes > .write_requests'

# Metadata stay below 24 bytes per block in a cache of four million.
head -n 1000 "$tmpdir/zipf.csv" >"$tmpdir/short.csv"
holds "$(replay --flash 16500M --ram 160M "$tmpdir/short.csv")" \
    '.flash_blocks > 4000000 and .ram_bytes_per_block <= 24'
