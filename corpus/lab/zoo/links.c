// SPDX-License-Identifier: GPL-2.0
/* Sins against what links objects: lists, hash chains, trees, counts. */
#include <linux/poison.h>
#include <linux/xarray.h>
#include "zoo.h"

#define ITEMS 7

static LIST_HEAD(zoo_cycle_list);
static LIST_HEAD(zoo_poison_list);
static LIST_HEAD(zoo_torn_list);
static LIST_HEAD(zoo_freed_list);
static LIST_HEAD(zoo_text_list);
static LIST_HEAD(zoo_flip_list);
static LIST_HEAD(zoo_good_list);
static struct hlist_head zoo_hash[4];
static struct rb_root zoo_red_tree = RB_ROOT, zoo_parent_tree = RB_ROOT, zoo_order_tree = RB_ROOT, zoo_good_tree = RB_ROOT;
static DEFINE_XARRAY(zoo_array);
static struct kmem_cache *zoo_item_cache;
static u32 zoo_ids;

struct zoo_item *zoo_item(const char *name)
{
	struct zoo_item *item;

	if (!zoo_item_cache)
		zoo_item_cache = kmem_cache_create("zoo_item", sizeof(struct zoo_item), 0, SLAB_NO_MERGE, NULL);
	item = zoo_item_cache ? kmem_cache_zalloc(zoo_item_cache, GFP_KERNEL) : NULL;
	if (!item)
		return NULL;
	item->id = ++zoo_ids;
	refcount_set(&item->refs, 1);
	INIT_LIST_HEAD(&item->link);
	INIT_HLIST_NODE(&item->bucket);
	RB_CLEAR_NODE(&item->branch);
	strscpy(item->name, name, sizeof(item->name));
	return item;
}

/* ITEMS items on a list */
static int fill(struct list_head *list, struct zoo_item **items, const char *name)
{
	int i;

	for (i = 0; i < ITEMS; i++) {
		items[i] = zoo_item(name);
		if (!items[i])
			return -ENOMEM;
		list_add_tail(&items[i]->link, list);
	}
	return 0;
}

/* the last leads to the second, not to the head */
static noinline int list_cycle(void)
{
	struct zoo_item *items[ITEMS];

	if (fill(&zoo_cycle_list, items, "cycle"))
		return -ENOMEM;
	items[ITEMS - 1]->link.next = &items[1]->link;
	say("list_cycle head=%px at=%px leads_to=%px item=%px\n", &zoo_cycle_list, &items[ITEMS - 1]->link, &items[1]->link,
	    items[ITEMS - 1]);
	return 0;
}

/* one was taken off, and somebody still leads there */
static noinline int list_poison(void)
{
	struct zoo_item *items[ITEMS];
	struct list_head *before;

	if (fill(&zoo_poison_list, items, "poisoned"))
		return -ENOMEM;
	before = items[3]->link.prev;
	list_del(&items[3]->link);
	before->next = &items[3]->link;
	say("list_poison head=%px at=%px item=%px from=%px\n", &zoo_poison_list, &items[3]->link, items[3], before);
	return 0;
}

/* two hands at once: a link forward that no link back answers */
static noinline int list_torn(void)
{
	struct zoo_item *items[ITEMS];

	if (fill(&zoo_torn_list, items, "torn"))
		return -ENOMEM;
	items[4]->link.prev = &items[2]->link;
	say("list_torn head=%px at=%px prev=%px should_be=%px item=%px\n", &zoo_torn_list, &items[4]->link, &items[2]->link,
	    &items[3]->link, items[4]);
	return 0;
}

/* freed, and not taken off before */
static noinline int list_freed(void)
{
	struct zoo_item *items[ITEMS];

	if (fill(&zoo_freed_list, items, "freed"))
		return -ENOMEM;
	kmem_cache_free(zoo_item_cache, items[5]);
	say("list_freed head=%px object=%px at=%px\n", &zoo_freed_list, items[5], &items[5]->link);
	return 0;
}

static noinline int list_text(void)
{
	struct zoo_item *items[ITEMS];

	if (fill(&zoo_text_list, items, "text"))
		return -ENOMEM;
	zoo_scribble((unsigned long)&items[2]->link, "GET /index.html ", 16);
	say("list_text head=%px at=%px item=%px\n", &zoo_text_list, &items[2]->link, items[2]);
	return 0;
}

static noinline int list_flip(void)
{
	struct zoo_item *items[ITEMS];
	unsigned long value;

	if (fill(&zoo_flip_list, items, "flip"))
		return -ENOMEM;
	value = (unsigned long)items[1]->link.next ^ (1UL << 17);
	zoo_scribble((unsigned long)&items[1]->link, &value, sizeof(value));
	say("list_flip head=%px at=%px bit=17 item=%px\n", &zoo_flip_list, &items[1]->link, items[1]);
	return 0;
}

static noinline int list_good(void)
{
	struct zoo_item *items[ITEMS];

	if (fill(&zoo_good_list, items, "good"))
		return -ENOMEM;
	say("list_good head=%px items=%d\n", &zoo_good_list, ITEMS);
	return 0;
}

/* what leads to a node is not what the node believes */
static noinline int hlist_torn(void)
{
	struct zoo_item *item = NULL, *middle = NULL;
	int i;

	for (i = 0; i < 5; i++) {
		item = zoo_item("hash");
		if (!item)
			return -ENOMEM;
		hlist_add_head(&item->bucket, &zoo_hash[1]);
		if (i == 2)
			middle = item;
	}
	middle->bucket.pprev = &zoo_hash[1].first;
	say("hlist_torn head=%px at=%px item=%px\n", &zoo_hash[1], &middle->bucket, middle);
	return 0;
}

static noinline int hlist_poison(void)
{
	struct zoo_item *item = zoo_item("unhashed"), *before = zoo_item("hash");

	if (!item || !before)
		return -ENOMEM;
	hlist_add_head(&item->bucket, &zoo_hash[2]);
	hlist_add_head(&before->bucket, &zoo_hash[2]);
	hlist_del(&item->bucket);
	before->bucket.next = &item->bucket;
	say("hlist_poison head=%px at=%px item=%px\n", &zoo_hash[2], &item->bucket, item);
	return 0;
}

/* put once too often: the counter saturates, and the kernel says so, once */
static noinline int refcount(void)
{
	struct zoo_item *item = zoo_item("put twice");
	static struct zoo_item *kept;

	if (!item)
		return -ENOMEM;
	kept = item;
	if (refcount_dec_and_test(&item->refs))
		refcount_dec(&item->refs);
	say("refcount item=%px at=%px value=%x\n", kept, &kept->refs, refcount_read(&kept->refs));
	return 0;
}

static void plant(struct rb_root *tree, struct zoo_item *item)
{
	struct rb_node **at = &tree->rb_node, *parent = NULL;

	while (*at) {
		parent = *at;
		at = item->id < rb_entry(parent, struct zoo_item, branch)->id ? &parent->rb_left : &parent->rb_right;
	}
	rb_link_node(&item->branch, parent, at);
	rb_insert_color(&item->branch, tree);
}

/* fifteen in a tree */
static int grow(struct rb_root *tree, const char *name)
{
	struct zoo_item *item;
	int i;

	for (i = 0; i < 15; i++) {
		item = zoo_item(name);
		if (!item)
			return -ENOMEM;
		plant(tree, item);
	}
	return 0;
}

/* a red node's child is red */
static noinline int rb_red(void)
{
	struct rb_node *node;

	if (grow(&zoo_red_tree, "red"))
		return -ENOMEM;
	for (node = rb_first(&zoo_red_tree); node; node = rb_next(node)) {
		struct rb_node *parent = rb_parent(node);

		if (!parent || (parent->__rb_parent_color & 1) || !(node->__rb_parent_color & 1))
			continue;
		node->__rb_parent_color &= ~1UL;
		say("rb_red tree=%px at=%px parent=%px\n", &zoo_red_tree, node, parent);
		return 0;
	}
	return -ENOENT;
}

/* a node that names another as its parent */
static noinline int rb_parent_wrong(void)
{
	struct rb_node *node, *other;

	if (grow(&zoo_parent_tree, "parent"))
		return -ENOMEM;
	node = rb_first(&zoo_parent_tree);
	other = rb_last(&zoo_parent_tree);
	node->__rb_parent_color = (node->__rb_parent_color & 1) | (unsigned long)other;
	say("rb_parent tree=%px at=%px parent=%px\n", &zoo_parent_tree, node, other);
	return 0;
}

/* a key changed while in the tree */
static noinline int rb_order(void)
{
	struct zoo_item *item;

	if (grow(&zoo_order_tree, "order"))
		return -ENOMEM;
	item = rb_entry(rb_next(rb_first(&zoo_order_tree)), struct zoo_item, branch);
	item->id += 1000;
	say("rb_order tree=%px at=%px item=%px id=%u\n", &zoo_order_tree, &item->branch, item, item->id);
	return 0;
}

static noinline int rb_good(void)
{
	if (grow(&zoo_good_tree, "good tree"))
		return -ENOMEM;
	say("rb_good tree=%px items=15\n", &zoo_good_tree);
	return 0;
}

/* a node of an xarray that counts wrongly, another that names a wrong parent */
static noinline int xarray(void)
{
	struct xa_node *root, *leaf;
	unsigned long i;

	for (i = 0; i < 150; i++)
		if (xa_is_err(xa_store(&zoo_array, i, xa_mk_value(i), GFP_KERNEL)))
			return -ENOMEM;
	root = (struct xa_node *)((unsigned long)zoo_array.xa_head & ~3UL);
	root->count += 5;
	leaf = (struct xa_node *)((unsigned long)root->slots[1] & ~3UL);
	*(struct xa_node **)&leaf->parent = leaf;
	say("xarray array=%px count_of=%px parent_of=%px\n", &zoo_array, root, leaf);
	return 0;
}

const struct sin zoo_link_sins[] = {
	{ "list_cycle", list_cycle },
	{ "list_poison", list_poison },
	{ "list_torn", list_torn },
	{ "list_freed", list_freed },
	{ "list_text", list_text },
	{ "list_flip", list_flip },
	{ "list_good", list_good },
	{ "hlist_torn", hlist_torn },
	{ "hlist_poison", hlist_poison },
	{ "refcount", refcount },
	{ "rb_red", rb_red },
	{ "rb_parent", rb_parent_wrong },
	{ "rb_order", rb_order },
	{ "rb_good", rb_good },
	{ "xarray", xarray },
	{ }
};
