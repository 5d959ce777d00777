/* SPDX-License-Identifier: Apache-2.0 */
/* A table of texts, in columns as wide as what is in them. */
#include "daemon/table.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void table_begin(struct table *table, const char *layout)
{
    *table = (struct table){.columns = (unsigned)strlen(layout)};
    assert(table->columns > 0 && table->columns <= TABLE_COLUMNS_MAX);
    for (unsigned i = 0; i < table->columns; i++)
        table->right[i] = layout[i] == 'r';
}

/* `rows` counts cells until the end. */
void table_cell(struct table *table, const char *format, ...)
{
    va_list arguments;
    char *text = NULL;

    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0)
        text = NULL;
    va_end(arguments);
    if (table->rows == table->room) {
        table->room = table->room ? table->room * 2 : 64;
        table->cells = realloc(table->cells, table->room * sizeof(*table->cells));
        assert(table->cells != NULL);
    }
    table->cells[table->rows++] = text;
}

static size_t cell_bytes(const struct table *table, unsigned cell)
{
    return table->cells[cell] ? strlen(table->cells[cell]) : 0;
}

void table_end(struct table *table, const char *indent, FILE *to)
{
    size_t widths[TABLE_COLUMNS_MAX] = {0};

    for (unsigned i = 0; i < table->rows; i++) {
        size_t bytes = cell_bytes(table, i);

        if (bytes > widths[i % table->columns])
            widths[i % table->columns] = bytes;
    }
    for (unsigned i = 0; i < table->rows; i++) {
        unsigned column = i % table->columns;
        bool last = column + 1 == table->columns;
        int width = last && !table->right[column] ? 0 : (int)widths[column];
        const char *text = table->cells[i] ? table->cells[i] : "";

        fprintf(to, "%s%*s%s", column == 0 ? indent : "  ", table->right[column] ? width : -width,
                text, last ? "\n" : "");
        free(table->cells[i]);
    }
    free(table->cells);
}
