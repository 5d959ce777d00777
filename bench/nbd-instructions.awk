# SPDX-License-Identifier: Apache-2.0
# Lays out what nbd-instructions-guest printed: a table for people, or JSON.
# Lines: "title SERVER TEXT...", "version PROGRAM TEXT...", and
# "SERVER COLUMN INSTRUCTIONS".

BEGIN {
    server_count = split(order, servers, " ")
    column_count = split("read_qd1 write_qd1 read_qd32 write_qd32 read_256k_qd8", columns, " ")
    split("read qd1|write qd1|read qd32|write qd32|read 256k qd8", titles, "|")
}

$1 == "title" { server = $2; $1 = $2 = ""; name[server] = substr($0, 3); next }
$1 == "version" { program = $2; $1 = $2 = ""; version[program] = substr($0, 3); next }
NF == 3 { cost[$1, $2] = $3 }

# 1234567 as 1,234,567
function grouped(number,    text) {
    text = sprintf("%d", number)
    while (match(text, /^[0-9]+[0-9][0-9][0-9]/)) {
        if (!match(text, /[0-9][0-9][0-9](,|$)/))
            break
        text = substr(text, 1, RSTART - 1) "," substr(text, RSTART)
    }
    return text
}

function table(    i, j, server, cell) {
    printf "Instructions per I/O (kernel, server and fio), Unix socket, 4 KiB unless said\n\n"
    printf "%-26s", "server"
    for (j = 1; j <= column_count; j++)
        printf "%14s", titles[j]
    printf "\n"
    for (i = 1; i <= server_count; i++) {
        server = servers[i]
        printf "%-26s", name[server]
        for (j = 1; j <= column_count; j++)
            printf "%14s", (server, columns[j]) in cost ? grouped(cost[server, columns[j]]) : "-"
        printf "\n"
    }
    for (i = 1; i <= server_count; i++) {
        server = servers[i]
        if (server !~ /^blkcached/)
            continue
        printf "%-26s", "  " substr(name[server], 12) " / floor"
        for (j = 1; j <= column_count; j++) {
            cell = "-"
            if ((server, columns[j]) in cost && ("floor", columns[j]) in cost)
                cell = sprintf("%.2f", cost[server, columns[j]] / cost["floor", columns[j]])
            printf "%14s", cell
        }
        printf "\n"
    }
    printf "\n"
    for (program in version)
        printf "%s: %s\n", program, version[program] | "sort"
    close("sort")
}

function json(    i, j, server, comma, inner) {
    printf "{\n  \"unit\": \"instructions per I/O\",\n  \"versions\": {"
    for (program in version) {
        gsub(/["\\]/, "", version[program])
        printf "%s\n    \"%s\": \"%s\"", comma, program, version[program]
        comma = ","
    }
    printf "\n  },\n  \"servers\": {"
    comma = ""
    for (i = 1; i <= server_count; i++) {
        server = servers[i]
        printf "%s\n    \"%s\": {", comma, server
        comma = ","
        inner = ""
        for (j = 1; j <= column_count; j++)
            if ((server, columns[j]) in cost) {
                printf "%s \"%s\": %d", inner, columns[j], cost[server, columns[j]]
                inner = ","
            }
        printf " }"
    }
    printf "\n  },\n  \"ratio_to_floor\": {"
    comma = ""
    for (i = 1; i <= server_count; i++) {
        server = servers[i]
        if (server == "floor")
            continue
        printf "%s\n    \"%s\": {", comma, server
        comma = ","
        inner = ""
        for (j = 1; j <= column_count; j++)
            if ((server, columns[j]) in cost && ("floor", columns[j]) in cost) {
                printf "%s \"%s\": %.3f", inner, columns[j],
                    cost[server, columns[j]] / cost["floor", columns[j]]
                inner = ","
            }
        printf " }"
    }
    printf "\n  }\n}\n"
}

END {
    if (format == "json")
        json()
    else
        table()
}
