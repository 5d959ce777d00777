/* SPDX-License-Identifier: Apache-2.0 */
/* BLOCK_STATUS: gathers the extents of a range and answers with a chunk for each context. */
#ifndef FRONTENDS_NBD_STATUS_H
#define FRONTENDS_NBD_STATUS_H

struct nbd_slot;

/* Answers the valid request of this slot, later. */
void nbd_status_start(struct nbd_slot *slot);

#endif
