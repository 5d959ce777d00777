# SPDX-License-Identifier: Apache-2.0
"""fsx.py FILE OPERATIONS SEED: random operations on a file, of any place and length, through the page
cache, around it, and through a mapping; after each read, and at the end, the file must be what a copy
in memory is.  Prints what was done; on a difference, the last operations."""
import collections
import ctypes
import mmap
import os
import random
import sys

FILE_BYTES_MAX, LENGTH_MAX, SECTOR = 512 << 10, 80 << 10, 4096
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16

path, operations, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
random.seed(seed)
fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
direct = os.open(path, os.O_RDWR | os.O_DIRECT)
aligned = mmap.mmap(-1, LENGTH_MAX + 2 * SECTOR)  # O_DIRECT wants its address to be aligned
mirror = bytearray()
done = collections.Counter()
history = collections.deque(maxlen=30)
libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def fallocate(mode, offset, length):
    """Python's own has no mode."""
    if libc.fallocate(fd, mode, offset, length) != 0:
        raise OSError(ctypes.get_errno(), "fallocate")


def compare(offset, data, what):
    """What was read there must be what was written."""
    expected = mirror[offset : offset + len(data)]
    if data != expected:
        at = next(i for i, pair in enumerate(zip(data, expected)) if pair[0] != pair[1])
        print(f"{path}: seed {seed}: {what} differs at {offset + at}:", data[at : at + 16].hex(),
              "instead of", expected[at : at + 16].hex(), *history, sep="\n")
        sys.exit(1)


def extend(end):
    """The file has at least so many bytes."""
    if len(mirror) < end:
        mirror.extend(bytes(end - len(mirror)))


def place():
    """(offset, length) anywhere."""
    offset = random.randrange(FILE_BYTES_MAX - 1)
    return offset, random.randint(1, min(random.choice((16, 5000, LENGTH_MAX)), FILE_BYTES_MAX - offset))


def inside():
    """(offset, length) within the file."""
    offset = random.randrange(len(mirror))
    return offset, random.randint(1, min(LENGTH_MAX, len(mirror) - offset))


def write(offset, length):
    data = random.randbytes(length)
    os.pwrite(fd, data, offset)
    extend(offset + length)
    mirror[offset : offset + length] = data


def write_direct(offset, length):
    offset, length = offset // SECTOR * SECTOR, -(-length // SECTOR) * SECTOR
    aligned[:length] = random.randbytes(length)
    assert os.pwritev(direct, [memoryview(aligned)[:length]], offset) == length
    extend(offset + length)
    mirror[offset : offset + length] = aligned[:length]


def read(offset, length):
    compare(offset, os.pread(fd, length, offset), "read")


def read_direct(offset, length):
    offset = offset // SECTOR * SECTOR
    count = os.preadv(direct, [memoryview(aligned)[: -(-length // SECTOR) * SECTOR]], offset)
    compare(offset, aligned[:count], "read around the page cache")


def read_device(offset, length):
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    compare(offset, os.pread(fd, length, offset), "read from the device")


def map_write(offset, length):
    with mmap.mmap(fd, len(mirror)) as mapped:
        mapped[offset : offset + length] = data = random.randbytes(length)
        mirror[offset : offset + length] = data
        if random.random() < 0.3:
            mapped.flush()


def map_read(offset, length):
    with mmap.mmap(fd, len(mirror), access=mmap.ACCESS_READ) as mapped:
        compare(offset, mapped[offset : offset + length], "mapping")


def punch(offset, length):
    fallocate(PUNCH_HOLE | KEEP_SIZE, offset, length)
    mirror[offset : offset + length] = bytes(length)


def zero(offset, length):
    fallocate(ZERO_RANGE | KEEP_SIZE, offset, length)
    mirror[offset : offset + length] = bytes(length)


def truncate(offset, _):
    os.ftruncate(fd, offset)
    extend(offset)
    del mirror[offset:]


def copy(offset, length):
    to = random.randrange(FILE_BYTES_MAX - LENGTH_MAX)
    data = os.pread(fd, length, offset)
    compare(offset, data, "source of a copy")
    os.pwrite(fd, data, to)
    extend(to + length)
    mirror[to : to + length] = data


def sync(*_):
    random.choice((os.fsync, os.fdatasync))(fd)


anywhere = (write, write, write_direct, truncate, sync)
within = (read, read_direct, read_device, map_write, map_read, punch, zero, copy)
for _ in range(operations):
    operation = random.choice(anywhere + within if mirror else anywhere)
    arguments = inside() if operation in within else place()
    history.append(f"{operation.__name__} {arguments[0]} {arguments[1]}, of {len(mirror)} bytes")
    operation(*arguments)
    done[operation.__name__] += 1
os.fsync(fd)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
assert os.fstat(fd).st_size == len(mirror), "size"
compare(0, os.pread(fd, len(mirror), 0), "the file")
print(path, *(f"{name} {count}" for name, count in sorted(done.items())))
