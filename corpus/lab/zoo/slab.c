// SPDX-License-Identifier: GPL-2.0
/* Sins against the slab allocator. */
#include <linux/mm.h>
#include "zoo.h"

#define animal(pen, i) ((unsigned long)(pen)->animal[i])

static struct pen *pen_and_pair(const char *name, unsigned int size, int *number)
{
	struct pen *pen = zoo_pen(name, size);

	*number = pen ? zoo_pair(pen) : -1;
	return *number < 0 ? NULL : pen;
}

#define PREPARE(name, size)						\
	int i;								\
	struct pen *pen = pen_and_pair(name, size, &i);			\
	unsigned long it;						\
									\
	if (!pen)							\
		return -ENOMEM;						\
	it = animal(pen, i)

/* a few bytes past the end, into the red zone where there is one */
static noinline int overflow(void)
{
	PREPARE("zoo_overflow", 72);
	zoo_scribble(it + 72, "AAAAA", 5);
	say("overflow cache=zoo_overflow object=%lx at=%lx bytes=5\n", it, it + 72);
	return 0;
}

/* what the victims of the next sin are: they hang on a list */
struct zoo_far {
	struct list_head link;
	u64 serial;
	char name[64];
};

static LIST_HEAD(zoo_far_list);

/* through everything between two objects, and into the next one */
static noinline int overflow_far(void)
{
	const size_t size = sizeof(struct zoo_far);
	struct zoo_far *far;
	size_t len;

	PREPARE("zoo_far", sizeof(struct zoo_far));
	for (len = 0; len < PEN; len++) {
		far = pen->animal[len];
		far->serial = len;
		list_add_tail(&far->link, &zoo_far_list);
	}
	for (len = 0; len < pen->stride - size + 12; len++)
		zoo_scribble(it + size + len, "user-input-too-long." + len % 20, 1);
	say("overflow_far cache=zoo_far object=%lx at=%lx bytes=%zu victim=%lx head=%px\n", it, it + size, len,
	    animal(pen, i + 1), &zoo_far_list);
	return 0;
}

/* the same where the next object is free: its link is in the way */
static noinline int overflow_free(void)
{
	unsigned long next;
	size_t len;

	PREPARE("zoo_ovfree", 104);
	next = zoo_release(pen, i + 1);
	zoo_settle(pen);
	for (len = 0; len < pen->stride - 104 + 64; len++)
		zoo_scribble(it + 104 + len, "name=%s&value=%s;" + len % 17, 1);
	say("overflow_free cache=zoo_ovfree object=%lx at=%lx bytes=%zu victim=%lx\n", it, it + 104, len, next);
	return 0;
}

/* past what was asked for, but not past the object */
static noinline int overflow_short(void)
{
	char *object = kmalloc(20, GFP_KERNEL);
	static char *kept;

	if (!object)
		return -ENOMEM;
	kept = object;
	zoo_scribble((unsigned long)kept + 20, "xyz", 3);
	say("overflow_short cache=kmalloc-32 object=%lx at=%lx bytes=3\n", (unsigned long)kept, (unsigned long)kept + 20);
	return 0;
}

static noinline int underflow(void)
{
	PREPARE("zoo_underflow", 64);
	zoo_scribble(it - 4, "\x01\x02\x03\x04", 4);
	say("underflow cache=zoo_underflow object=%lx at=%lx bytes=4\n", it, it - 4);
	return 0;
}

static noinline int uaf_write(void)
{
	static const u32 when = 1234567;

	PREPARE("zoo_uaf", 136);
	zoo_release(pen, i);
	zoo_scribble(it + 16, &when, sizeof(when));
	say("uaf_write cache=zoo_uaf object=%lx at=%lx bytes=4\n", it, it + 16);
	return 0;
}

/* a pointer to something that lives, written into what does not */
static noinline int uaf_pointer(void)
{
	void *value;

	PREPARE("zoo_uafptr", 168);
	zoo_release(pen, i);
	value = pen->animal[i + 1];
	zoo_scribble(it + 24, &value, sizeof(value));
	say("uaf_pointer cache=zoo_uafptr object=%lx at=%lx bytes=8 value=%px\n", it, it + 24, value);
	return 0;
}

/* reading leaves no trace but the pointer that was followed and what was read */
static u64 *zoo_reader;
static u64 zoo_has_read;

static noinline int uaf_read(void)
{
	PREPARE("zoo_uafread", 152);
	zoo_reader = (u64 *)it;
	zoo_release(pen, i);
	zoo_has_read = READ_ONCE(zoo_reader[2]);
	say("uaf_read cache=zoo_uafread object=%lx pointer=%px read=%llx\n", it, &zoo_reader, zoo_has_read);
	return 0;
}

static noinline int double_free(void)
{
	struct kmem_cache *cache;

	PREPARE("zoo_double", 120);
	cache = pen->cache;
	zoo_release(pen, i);
	zoo_release(pen, i + 1);	/* the kernel would see the same one twice in a row */
	kmem_cache_free(cache, (void *)it);
	say("double_free cache=zoo_double object=%lx\n", it);
	return 0;
}

/* the kernel notices, says so, and gives it to the right cache */
static noinline int wrong_cache(void)
{
	struct pen *other = zoo_pen("zoo_other", 184);

	PREPARE("zoo_wrong", 184);
	if (!other)
		return -ENOMEM;
	pen->animal[i] = NULL;
	kmem_cache_free(other->cache, (void *)it);
	say("wrong_cache cache=zoo_wrong object=%lx freed_to=zoo_other\n", it);
	return 0;
}

/* what the link of a free object is mixed with, if it leads to NEXT */
unsigned long zoo_secret(struct pen *pen, unsigned long it, unsigned long next)
{
	unsigned long link = zoo_link_of(pen, it);

	return *(volatile unsigned long *)link ^ next ^ swab64(link);
}

/* as if it had not noticed: an object of one cache in the free list of another */
static noinline int wrong_list(void)
{
	struct pen *other = zoo_pen("zoo_guest", 200);
	unsigned long one, two, link, secret, value;

	PREPARE("zoo_host", 200);
	if (!other)
		return -ENOMEM;
	one = zoo_release(pen, i);
	two = zoo_release(pen, i + 1);
	zoo_settle(pen);
	if (zoo_secret(pen, one, two) == zoo_secret(pen, two, 0))
		swap(one, two);	/* the other is the first of the list */
	link = zoo_link_of(pen, two);
	secret = zoo_secret(pen, two, one);
	value = animal(other, 3) ^ secret ^ swab64(link);
	zoo_scribble(link, &value, sizeof(value));
	say("wrong_list cache=zoo_host object=%lx at=%lx guest=%lx of=zoo_guest it_led_to=%lx\n", two, link,
	    animal(other, 3), one);
	return 0;
}

/* the link of a free object overwritten with LEN bytes of FROM */
static int spoil_link(struct pen *pen, int i, const char *sin, const char *name, const void *from, size_t len)
{
	unsigned long it, link;

	zoo_release(pen, i + 1);
	it = zoo_release(pen, i);
	zoo_settle(pen);
	link = zoo_link_of(pen, it);
	zoo_scribble(link, from, len);
	say("%s cache=%s object=%lx at=%lx bytes=%zu\n", sin, name, it, link, len);
	return 0;
}

static noinline int link_text(void)
{
	PREPARE("zoo_linktext", 216);
	return it ? spoil_link(pen, i, "link_text", "zoo_linktext", "/etc/pas", 8) : 0;
}

static noinline int link_pointer(void)
{
	void *value = &zoo_reader;

	PREPARE("zoo_linkptr", 232);
	return it ? spoil_link(pen, i, "link_pointer", "zoo_linkptr", &value, sizeof(value)) : 0;
}

static noinline int link_flip(void)
{
	unsigned long link, value;

	PREPARE("zoo_linkflip", 248);
	zoo_release(pen, i + 1);
	zoo_release(pen, i);
	zoo_settle(pen);
	link = zoo_link_of(pen, it);
	value = *(volatile unsigned long *)link ^ (1UL << 21);
	zoo_scribble(link, &value, sizeof(value));
	say("link_flip cache=zoo_linkflip object=%lx at=%lx bit=21\n", it, link);
	return 0;
}

/* one bit of a free object's memory */
static noinline int bit_flip(void)
{
	u8 byte;

	PREPARE("zoo_flip", 264);
	zoo_release(pen, i);
	byte = *(volatile u8 *)(it + 40) ^ 0x08;
	zoo_scribble(it + 40, &byte, 1);
	say("bit_flip cache=zoo_flip object=%lx at=%lx bit=3\n", it, it + 40);
	return 0;
}

/* somebody who had no business here: across the end of one free object, not from its start, and into the next */
static noinline int wild(void)
{
	static const u8 noise[] = { 0x13, 0x9c, 0x00, 0xe7, 0x42, 0xf1, 0x08, 0x77, 0x60, 0xd5, 0x21, 0x3e };

	PREPARE("zoo_wild", 280);
	zoo_release(pen, i + 1);
	zoo_release(pen, i);
	zoo_settle(pen);
	zoo_scribble(zoo_link_of(pen, it) - 3, noise, sizeof(noise));
	say("wild cache=zoo_wild object=%lx at=%lx bytes=12\n", it, zoo_link_of(pen, it) - 3);
	return 0;
}

/* the record of who allocated it, where there is one */
static noinline int track(void)
{
	PREPARE("zoo_track", 296);
	if (pen->stride < 296 + 64) {
		say("track cache=zoo_track none\n");
		return 0;
	}
	zoo_scribble(it + 296 + 16, "\x11\x22\x33\x44\x55\x66\x77\x08", 8);
	say("track cache=zoo_track object=%lx at=%lx bytes=8\n", it, it + 296 + 16);
	return 0;
}

/* the size of objects in a cache's own struct */
static noinline int cache_field(void)
{
	u32 *word;

	PREPARE("zoo_sick", 1112);
	for (word = (u32 *)pen->cache; word < (u32 *)pen->cache + 32; word++) {
		if (*word != 1112)
			continue;
		*word = 0x41414141;
		say("cache_field cache=zoo_sick object=%lx at=%px was=1112 is=41414141\n", (unsigned long)pen->cache, word);
		return it ? 0 : -EINVAL;
	}
	return -ENOENT;
}

/* how many of a slab's objects are in use: 16 bits next to 15 with their number, in its struct page */
static noinline int slab_count(void)
{
	unsigned long *page;
	u32 *word, wrong;
	int used = 0, all;

	PREPARE("zoo_count", 312);
	page = (unsigned long *)virt_to_head_page((void *)it);
	for (all = 0; all < PEN; all++)
		used += (unsigned long *)virt_to_head_page(pen->animal[all]) == page;
	for (word = (u32 *)page; word < (u32 *)(page + 8); word++) {
		/* allocated until it was full, so that all of it is in use */
		if ((*word & 0xffff) < used || (*word & 0xffff) > ((*word >> 16) & 0x7fff) || ((*word >> 16) & 0x7fff) > 512)
			continue;
		wrong = *word - 2;
		say("slab_count cache=zoo_count slab=%px at=%px was=%x is=%x\n", page, word, *word, wrong);
		*word = wrong;
		return 0;
	}
	return -ENOENT;
}

/* where a pointer to a struct page or to a list's head can point */
static bool is_kernel(void *pointer)
{
	return (unsigned long)pointer >= PAGE_OFFSET && IS_ALIGNED((unsigned long)pointer, 8);
}

/* a slab on the list of those with free objects that does not point back */
static noinline int slab_list(void)
{
	struct list_head *link;
	unsigned long *page;

	PREPARE("zoo_slablist", 328);
	for (i = 0; i < PEN; i += 3)
		zoo_release(pen, i);
	kmem_cache_shrink(pen->cache);	/* none shall be in a CPU's hands */
	it = animal(pen, 1);
	page = (unsigned long *)virt_to_head_page((void *)it);
	/* at the same place as struct page's lru, or a word behind it: mm/slab.h */
	for (i = 1; i < 4; i++) {
		link = (struct list_head *)(page + i);
		if (!is_kernel(link->prev) || !is_kernel(link->next) || link->prev->next != link || link->next->prev != link)
			continue;
		say("slab_list cache=zoo_slablist slab=%px at=%px was=%px\n", page, &link->prev, link->prev);
		link->prev = (void *)&zoo_reader;
		return 0;
	}
	return -ENOENT;
}

const struct sin zoo_slab_sins[] = {
	{ "overflow", overflow },
	{ "overflow_far", overflow_far },
	{ "overflow_free", overflow_free },
	{ "overflow_short", overflow_short },
	{ "underflow", underflow },
	{ "uaf_write", uaf_write },
	{ "uaf_pointer", uaf_pointer },
	{ "uaf_read", uaf_read },
	{ "double_free", double_free },
	{ "wrong_cache", wrong_cache },
	{ "wrong_list", wrong_list },
	{ "link_text", link_text },
	{ "link_pointer", link_pointer },
	{ "link_flip", link_flip },
	{ "bit_flip", bit_flip },
	{ "wild", wild },
	{ "track", track },
	{ "cache_field", cache_field },
	{ "slab_count", slab_count },
	{ "slab_list", slab_list },
	{ }
};
