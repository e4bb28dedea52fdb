// SPDX-License-Identifier: GPL-2.0
/* What is lost, what is not lost though it looks so, what outlives its owner, and who waits for ever. */
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/namei.h>
#include <linux/vmalloc.h>
#include "zoo.h"

struct zoo_lost {
	u64 magic;
	struct zoo_lost *next;
	char what[112];
};

static struct kmem_cache *zoo_lost_cache;

static struct zoo_lost *lose(const char *what)
{
	struct zoo_lost *lost;

	if (!zoo_lost_cache)
		zoo_lost_cache = kmem_cache_create("zoo_lost", sizeof(struct zoo_lost), 0, SLAB_NO_MERGE, NULL);
	lost = zoo_lost_cache ? kmem_cache_zalloc(zoo_lost_cache, GFP_KERNEL) : NULL;
	if (lost) {
		lost->magic = 0x7a6f6f6c6f737421ULL;
		strscpy(lost->what, what, sizeof(lost->what));
	}
	return lost;
}

static noinline int leak_single(void)
{
	struct zoo_lost *one = lose("single"), *two = lose("single");

	say("leak_single cache=zoo_lost objects=%px,%px\n", one, two);
	return 0;
}

/* four in a row, and nobody has the first */
static noinline int leak_chain(void)
{
	struct zoo_lost *a = lose("chain 1"), *b = lose("chain 2"), *c = lose("chain 3"), *d = lose("chain 4");

	if (!a || !b || !c || !d)
		return -ENOMEM;
	a->next = b;
	b->next = c;
	c->next = d;
	say("leak_chain cache=zoo_lost objects=%px,%px,%px,%px\n", a, b, c, d);
	return 0;
}

/* they have each other */
static noinline int leak_cycle(void)
{
	struct zoo_lost *a = lose("cycle 1"), *b = lose("cycle 2"), *c = lose("cycle 3");

	if (!a || !b || !c)
		return -ENOMEM;
	a->next = b;
	b->next = c;
	c->next = a;
	say("leak_cycle cache=zoo_lost objects=%px,%px,%px\n", a, b, c);
	return 0;
}

/* somebody knows where its middle is: no leak */
static char *zoo_inside;

static noinline int interior(void)
{
	struct zoo_lost *kept = lose("interior, not lost");

	if (!kept)
		return -ENOMEM;
	kept->next = lose("behind it, not lost");
	zoo_inside = &kept->what[40];
	say("interior cache=zoo_lost kept=%px,%px pointer=%px\n", kept, kept->next, &zoo_inside);
	return 0;
}

static noinline int leak_kmalloc(void)
{
	void *a = kzalloc(700, GFP_KERNEL), *b = kzalloc(700, GFP_KERNEL);

	say("leak_kmalloc cache=kmalloc-1k objects=%px,%px\n", a, b);
	return 0;
}

/* too large for a slab */
static noinline int leak_large(void)
{
	void *a = kzalloc(40000, GFP_KERNEL);

	say("leak_large object=%px bytes=40000\n", a);
	return 0;
}

static noinline int leak_vmalloc(void)
{
	void *a = vzalloc(20000);

	say("leak_vmalloc object=%px bytes=20000\n", a);
	return 0;
}

static noinline int leak_page(void)
{
	struct page *page = alloc_pages(GFP_KERNEL | __GFP_ZERO, 1);

	say("leak_page page=%px object=%px bytes=8192\n", page, page ? page_address(page) : NULL);
	return 0;
}

/* freed, and a variable still points there */
static struct zoo_lost *zoo_dangling;

static noinline int dangling(void)
{
	zoo_dangling = lose("dangling");
	if (!zoo_dangling)
		return -ENOMEM;
	kmem_cache_free(zoo_lost_cache, zoo_dangling);
	say("dangling cache=zoo_lost object=%px pointer=%px\n", zoo_dangling, &zoo_dangling);
	return 0;
}

/* looked up, and never put */
static noinline int dentry_leak(void)
{
	struct path path;
	int err = kern_path("/lab/zoo_dentry", 0, &path);

	if (err)
		return err;
	dget(path.dentry);
	dget(path.dentry);
	say("dentry_leak dentry=%px too_many=2 count=%d\n", path.dentry, path.dentry->d_lockref.count);
	path_put(&path);
	return 0;
}

/* opened, and forgotten */
static noinline int file_leak(void)
{
	struct file *file = filp_open("/lab/zoo_file", O_RDWR | O_CREAT, 0600);

	if (IS_ERR(file))
		return PTR_ERR(file);
	say("file_leak file=%px\n", file);
	return 0;
}

static DEFINE_MUTEX(zoo_mutex_a);
static DEFINE_MUTEX(zoo_mutex_b);

static int zoo_takes_both(struct mutex *first, struct mutex *second)
{
	mutex_lock(first);
	msleep(100);
	mutex_lock(second);
	mutex_unlock(second);
	mutex_unlock(first);
	return 0;
}

static int zoo_ab(void *unused)
{
	return zoo_takes_both(&zoo_mutex_a, &zoo_mutex_b);
}

static int zoo_ba(void *unused)
{
	return zoo_takes_both(&zoo_mutex_b, &zoo_mutex_a);
}

static noinline int deadlock(void)
{
	struct task_struct *one = kthread_run(zoo_ab, NULL, "zoo_ab"), *two = kthread_run(zoo_ba, NULL, "zoo_ba");

	if (IS_ERR(one) || IS_ERR(two))
		return -ENOMEM;
	msleep(300);
	say("deadlock one=%px pid=%d holds=%px two=%px pid=%d holds=%px\n", one, one->pid, &zoo_mutex_a, two, two->pid,
	    &zoo_mutex_b);
	return 0;
}

const struct sin zoo_lost_sins[] = {
	{ "leak_single", leak_single },
	{ "leak_chain", leak_chain },
	{ "leak_cycle", leak_cycle },
	{ "interior", interior },
	{ "leak_kmalloc", leak_kmalloc },
	{ "leak_large", leak_large },
	{ "leak_vmalloc", leak_vmalloc },
	{ "leak_page", leak_page },
	{ "dangling", dangling },
	{ "dentry_leak", dentry_leak },
	{ "file_leak", file_leak },
	{ "deadlock", deadlock },
	{ }
};
