// SPDX-License-Identifier: GPL-2.0
/* More sins against the slab allocator: small ones at the fringes of objects, and damage in its books. */
#include <linux/mm.h>
#include "zoo.h"

#define animal(pen, i) ((unsigned long)(pen)->animal[i])

/* what can be trampled on: it hangs on a list */
struct zoo_row {
	struct list_head link;
	u64 serial;
	char name[40];
};

/* a pen whose animals hang on a list, by address */
static struct pen *row(const char *name, struct list_head *list, int *number)
{
	struct pen *pen = zoo_pen(name, sizeof(struct zoo_row));
	int i;

	for (i = 0; pen && i < PEN; i++)
		list_add_tail(&((struct zoo_row *)pen->animal[i])->link, list);
	*number = pen ? zoo_pair(pen) : -1;
	return *number < 0 ? NULL : pen;
}

static LIST_HEAD(zoo_nul_list);
static LIST_HEAD(zoo_three_list);

/* a string that is one longer than its object: only its NUL is outside */
static noinline int nul_past(void)
{
	int i;
	struct pen *pen = row("zoo_nul", &zoo_nul_list, &i);

	if (!pen)
		return -ENOMEM;
	zoo_scribble(animal(pen, i) + sizeof(struct zoo_row), "", 1);
	say("nul_past cache=zoo_nul object=%lx at=%lx bytes=1 victim=%lx\n", animal(pen, i),
	    animal(pen, i) + sizeof(struct zoo_row), animal(pen, i + 1));
	return 0;
}

/* array[COUNT] = pointer */
static noinline int off_by_8(void)
{
	struct pen *pen = zoo_pen("zoo_off8", 88);
	int i = pen ? zoo_pair(pen) : -1;

	if (i < 0)
		return -ENOMEM;
	zoo_scribble(animal(pen, i) + 88, &pen->animal[0], 8);
	say("off_by_8 cache=zoo_off8 object=%lx at=%lx bytes=8\n", animal(pen, i), animal(pen, i) + 88);
	return 0;
}

/* memset() with the size of the whole array, over three objects and what is between them */
static noinline int memset_three(void)
{
	static const u8 zero[256];
	int i;
	struct pen *pen = row("zoo_three", &zoo_three_list, &i);
	size_t len, end;

	if (!pen)
		return -ENOMEM;
	end = pen->stride * 2;
	for (len = 0; len < end; len++)
		zoo_scribble(animal(pen, i) - pen->stride + sizeof(struct zoo_row) + len, zero, 1);
	say("memset_three cache=zoo_three object=%lx bytes=%zu victim=%lx head=%px\n", animal(pen, i - 1), end, animal(pen, i),
	    &zoo_three_list);
	return 0;
}

/* a free object's link so that it leads to user memory */
static noinline int link_user(void)
{
	struct pen *pen = zoo_pen("zoo_linkuser", 344);
	int i = pen ? zoo_pair(pen) : -1;
	unsigned long one, two, link, value;

	if (i < 0)
		return -ENOMEM;
	one = zoo_release(pen, i);
	two = zoo_release(pen, i + 1);
	zoo_settle(pen);
	if (zoo_secret(pen, one, two) == zoo_secret(pen, two, 0))
		swap(one, two);
	link = zoo_link_of(pen, two);
	value = zoo_secret(pen, two, one) ^ swab64(link) ^ 0x7f1234567890UL;
	zoo_scribble(link, &value, sizeof(value));
	say("link_user cache=zoo_linkuser object=%lx at=%lx leads_to=7f1234567890\n", two, link);
	return 0;
}

/* and so that the list ends too early */
static noinline int link_end(void)
{
	struct pen *pen = zoo_pen("zoo_linkend", 360);
	unsigned long secret, link, value, it[3];
	int i = pen ? zoo_pair(pen) : -1, k;

	if (i < 0)
		return -ENOMEM;
	for (k = 0; k < 3; k++)
		it[k] = zoo_release(pen, i - 1 + k);
	zoo_settle(pen);
	secret = zoo_secret(pen, it[1], it[0]);
	if (secret != zoo_secret(pen, it[2], it[1]))
		secret = zoo_secret(pen, it[1], it[2]);
	link = zoo_link_of(pen, it[1]);
	value = secret ^ swab64(link);
	zoo_scribble(link, &value, sizeof(value));
	say("link_end cache=zoo_linkend object=%lx at=%lx\n", it[1], link);
	return 0;
}

/* a bit of a size in a cache's own struct, which still looks like a size */
static noinline int cache_bit(void)
{
	struct pen *pen = zoo_pen("zoo_bit", 1144);
	u32 *word;

	if (!pen)
		return -ENOMEM;
	for (word = (u32 *)pen->cache; word < (u32 *)pen->cache + 32; word++) {
		if (*word != 1144)
			continue;
		*word ^= 16;
		say("cache_bit cache=zoo_bit object=%lx at=%px was=1144 is=%u\n", (unsigned long)pen->cache, word, *word);
		return 0;
	}
	return -ENOENT;
}

/* a slab that says it belongs to another cache */
static noinline int slab_owner(void)
{
	struct pen *pen = zoo_pen("zoo_owned", 376), *other = zoo_pen("zoo_robber", 376);
	struct page *page;
	unsigned long *word;

	if (!pen || !other)
		return -ENOMEM;
	page = virt_to_head_page(pen->animal[20]);
	for (word = (unsigned long *)page; word < (unsigned long *)(page + 1); word++) {
		if (*word != (unsigned long)pen->cache)
			continue;
		*word = (unsigned long)other->cache;
		say("slab_owner cache=zoo_owned slab=%px at=%px is=zoo_robber\n", page, word);
		return 0;
	}
	return -ENOENT;
}

/* what is written to a free object of a cache with a constructor, which has no poison */
static void zoo_construct(void *object)
{
	INIT_LIST_HEAD(object);
	memset(object + 16, 0, 152 - 16);
}

static noinline int ctor_write(void)
{
	struct kmem_cache *cache = kmem_cache_create("zoo_ctor", 152, 0, SLAB_NO_MERGE, zoo_construct);
	static void *kept[PEN];
	unsigned long it;
	int i;

	for (i = 0; cache && i < PEN; i++)
		kept[i] = kmem_cache_alloc(cache, GFP_KERNEL);
	if (!cache || !kept[9])
		return -ENOMEM;
	it = (unsigned long)kept[9];
	kmem_cache_free(cache, kept[9]);
	kept[9] = NULL;
	zoo_scribble(it + 32, "written when it was free", 24);
	say("ctor_write cache=zoo_ctor object=%lx at=%lx bytes=24\n", it, it + 32);
	return 0;
}

/* a write to a page that was given back: far inside of a large block, of which nobody needs a part soon */
static noinline int page_write(void)
{
	unsigned long page = __get_free_pages(GFP_KERNEL, 8);

	if (!page)
		return -ENOMEM;
	free_pages(page, 8);
	zoo_scribble(page + 905000, "written when it was free", 24);
	say("page_write object=%lx at=%lx bytes=24\n", page, page + 905000);
	return 0;
}

/* once too often, and the count of a page in use is below zero */
static struct page *zoo_counted;

static noinline int page_count_low(void)
{
	zoo_counted = alloc_page(GFP_KERNEL);
	if (!zoo_counted)
		return -ENOMEM;
	page_ref_sub(zoo_counted, 4);
	say("page_count_low page=%px object=%px count=%d\n", zoo_counted, page_address(zoo_counted), page_ref_count(zoo_counted));
	return 0;
}

/* a slab that hangs on the list of another cache */
static noinline int slab_stranger(void)
{
	struct pen *pen = zoo_pen("zoo_strange", 392), *other = zoo_pen("zoo_alien", 392);
	struct list_head *link, *alien;
	int i, word;

	if (!pen || !other)
		return -ENOMEM;
	for (i = 0; i < PEN; i += 3) {
		zoo_release(pen, i);
		zoo_release(other, i);
	}
	kmem_cache_shrink(pen->cache);
	kmem_cache_shrink(other->cache);
	for (word = 1; word < 4; word++) {
		link = (struct list_head *)((unsigned long *)virt_to_head_page(pen->animal[1]) + word);
		alien = (struct list_head *)((unsigned long *)virt_to_head_page(other->animal[1]) + word);
		if ((long)link->prev >= 0 || (long)link->next >= 0 || ((long)link->next & 7) || ((long)link->prev & 7))
			continue;
		if (link->prev->next != link || link->next->prev != link || alien->prev->next != alien)
			continue;
		/* one that leads into another list has no end: all who look at it would hang */
		list_move(alien, link);
		say("slab_stranger cache=zoo_strange slab=%px alien=%px of=zoo_alien\n", virt_to_head_page(pen->animal[1]),
		    virt_to_head_page(other->animal[1]));
		return 0;
	}
	return -ENOENT;
}

const struct sin zoo_fringe_sins[] = {
	{ "nul_past", nul_past },
	{ "off_by_8", off_by_8 },
	{ "memset_three", memset_three },
	{ "link_user", link_user },
	{ "link_end", link_end },
	{ "cache_bit", cache_bit },
	{ "slab_owner", slab_owner },
	{ "slab_stranger", slab_stranger },
	{ "ctor_write", ctor_write },
	{ "page_write", page_write },
	{ "page_count_low", page_count_low },
	{ }
};
