/* SPDX-License-Identifier: Apache-2.0 */
/* A table of texts, in columns as wide as what is in them. */
#ifndef DAEMON_TABLE_H
#define DAEMON_TABLE_H

#include <stdbool.h>
#include <stdio.h>

#define TABLE_COLUMNS_MAX 16

struct table {
    unsigned columns;
    bool right[TABLE_COLUMNS_MAX]; /* flush right: numbers */
    unsigned rows, room;
    char **cells; /* rows * columns */
};

/* `layout` has a letter for each column: l or r. */
void table_begin(struct table *table, const char *layout);

/* The next cell, in reading order. */
void table_cell(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Prints it, each line after `indent`, and frees it. */
void table_end(struct table *table, const char *indent, FILE *to);

#endif
