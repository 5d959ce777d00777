/* SPDX-License-Identifier: Apache-2.0 */
/* Standard output, which may be a full disk, a pipe that nobody reads, or closed. */
#ifndef COMMON_OUTPUT_H
#define COMMON_OUTPUT_H

#include <stdbool.h>

/* Before anything else is opened: what is closed of the descriptors 0 to 2 becomes one that can neither be
 * read nor written, so that messages do not end up in a file that got its number. */
void output_begin(void);

/* What is buffered is written now.  False: nobody gets what is printed. */
bool output_flush(void);

/* Behind the last output: 0, or the negative errno of why some of it was not written (-EIO where that
 * is not known any more).  Closes standard output. */
int output_end(void);

#endif
