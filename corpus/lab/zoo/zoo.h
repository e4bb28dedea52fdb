/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of the zoo share: see main.c. */
#ifndef ZOO_H
#define ZOO_H

#include <linux/list.h>
#include <linux/rbtree.h>
#include <linux/refcount.h>
#include <linux/slab.h>

/* keep every sin in a cache of its own also without slub_debug */
#ifndef SLAB_NO_MERGE
#define SLAB_NO_MERGE SLAB_NOLEAKTRACE
#endif

struct sin {
	const char *name;
	int (*commit)(void);
};

extern const struct sin zoo_slab_sins[], zoo_link_sins[], zoo_lost_sins[], zoo_fringe_sins[],
	zoo_stray_sins[], zoo_outside_sins[], zoo_fenced_sins[];

__printf(1, 2) void say(const char *fmt, ...);

/*
 * A cache of its own with a few dozen objects, sorted by address: who is whose
 * neighbour is known.
 */
#define PEN 64

struct pen {
	struct kmem_cache *cache;
	unsigned int size;	/* of an object */
	unsigned long stride;	/* from one to the next */
	void *animal[PEN];
};

/* An object whose cache has its type's name. */
struct zoo_item {
	u32 id;
	refcount_t refs;
	struct list_head link;
	struct hlist_node bucket;
	struct rb_node branch;
	char *note;
	char name[24];
};

struct pen *zoo_pen(const char *name, unsigned int size);
struct pen *zoo_items(void);
struct zoo_item *zoo_item(const char *name);

/* an animal with another right behind it in the same slab; its number, or -1 */
int zoo_pair(struct pen *pen);

/* frees an animal and forgets it: its address, as a number */
unsigned long zoo_release(struct pen *pen, int number);

/* what was freed is in its slab's list of free objects, and in no CPU's sheaf: of all caches since 7.0 */
void zoo_settle(struct pen *pen);

/* writes where the compiler need not know */
void zoo_scribble(unsigned long at, const void *from, size_t len);

/* where the link to the next free object lies in a free animal */
unsigned long zoo_link_of(struct pen *pen, unsigned long animal);

/* what the link of a free animal is mixed with, if it leads to NEXT */
unsigned long zoo_secret(struct pen *pen, unsigned long animal, unsigned long next);

#endif
