// SPDX-License-Identifier: GPL-2.0
/* What leads to something that is gone, lists of other kinds, and more that is lost. */
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/list_bl.h>
#include <linux/llist.h>
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/sched/task_stack.h>
#include <linux/timer.h>
#include <linux/version.h>
#include <linux/vmalloc.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 1, 0)
#include <linux/maple_tree.h>
#endif
#include "zoo.h"

static struct kmem_cache *zoo_stray_cache;

/* an object of a cache that has no type of its name */
static void *stray(void)
{
	if (!zoo_stray_cache)
		zoo_stray_cache = kmem_cache_create("zoo_stray", 200, 0, SLAB_NO_MERGE, NULL);
	return zoo_stray_cache ? kmem_cache_zalloc(zoo_stray_cache, GFP_KERNEL) : NULL;
}

static void zoo_never(struct timer_list *timer)
{
}

/* freed while it waits for its time */
static noinline int timer_freed(void)
{
	struct timer_list *timer = stray();

	if (!timer)
		return -ENOMEM;
	timer_setup(timer, zoo_never, 0);
	mod_timer(timer, jiffies + 3600 * HZ);
	kmem_cache_free(zoo_stray_cache, timer);
	say("timer_freed cache=zoo_stray object=%px\n", timer);
	return 0;
}

static struct workqueue_struct *zoo_queue;

static void zoo_busy(struct work_struct *work)
{
	msleep(10000000);
}
static DECLARE_WORK(zoo_busy_work, zoo_busy);

static void zoo_idle(struct work_struct *work)
{
}

/* freed while it waits for its turn */
static noinline int work_freed(void)
{
	struct work_struct *work = kzalloc(3000, GFP_KERNEL);	/* not where the timer was */

	zoo_queue = alloc_ordered_workqueue("zoo_queue", 0);
	if (!work || !zoo_queue)
		return -ENOMEM;
	queue_work(zoo_queue, &zoo_busy_work);
	INIT_WORK(work, zoo_idle);
	queue_work(zoo_queue, work);
	kfree(work);
	say("work_freed object=%px\n", work);
	return 0;
}

static DECLARE_WAIT_QUEUE_HEAD(zoo_wait);

static int zoo_waits(void *unused)
{
	struct wait_queue_entry entry;

	init_waitqueue_entry(&entry, current);
	add_wait_queue(&zoo_wait, &entry);
	say("wait_gone head=%px entry=%px task=%px pid=%d\n", &zoo_wait.head, &entry, current, current->pid);
	return 0;
}

/* the thread that put itself on the queue is dead, and so is its stack */
static noinline int wait_gone(void)
{
	struct task_struct *task = kthread_run(zoo_waits, NULL, "zoo_waits");

	msleep(300);
	return PTR_ERR_OR_ZERO(task);
}

static LIST_HEAD(zoo_twice_list);

/* added at its end though it is on the list already, as __list_add() would do it */
static noinline int list_twice(void)
{
	struct zoo_item *items[5];
	struct list_head *it, *last = &zoo_twice_list;
	int i;

	for (i = 0; i < 5; i++) {
		items[i] = zoo_item("twice");
		if (!items[i])
			return -ENOMEM;
		list_add_tail(&items[i]->link, &zoo_twice_list);
	}
	it = &items[2]->link;
	last = zoo_twice_list.prev;
	zoo_twice_list.prev = it;
	it->next = &zoo_twice_list;
	it->prev = last;
	last->next = it;
	say("list_twice head=%px at=%px item=%px\n", &zoo_twice_list, it, items[2]);
	return 0;
}

static struct hlist_bl_head zoo_bl[2];

/* hlist_bl: what leads to a node is not what the node believes */
static noinline int bl_torn(void)
{
	struct hlist_bl_node *nodes[4];
	int i;

	for (i = 0; i < 4; i++) {
		nodes[i] = stray();
		if (!nodes[i])
			return -ENOMEM;
		hlist_bl_lock(&zoo_bl[1]);
		hlist_bl_add_head(nodes[i], &zoo_bl[1]);
		hlist_bl_unlock(&zoo_bl[1]);
	}
	nodes[1]->pprev = &nodes[3]->next;
	say("bl_torn cache=zoo_stray head=%px at=%px object=%px\n", &zoo_bl[1], nodes[1], nodes[1]);
	return 0;
}

static DEFINE_XARRAY(zoo_freed_array);

/* freed, and still in its array */
static noinline int xa_freed(void)
{
	void *objects[80];
	int i;

	for (i = 0; i < 80; i++) {
		objects[i] = stray();
		if (!objects[i] || xa_is_err(xa_store(&zoo_freed_array, i, objects[i], GFP_KERNEL)))
			return -ENOMEM;
	}
	kmem_cache_free(zoo_stray_cache, objects[70]);
	say("xa_freed cache=zoo_stray array=%px index=70 object=%px\n", &zoo_freed_array, objects[70]);
	return 0;
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 1, 0)
static DEFINE_MTREE(zoo_maple);

/* two pivots of a leaf the wrong way round */
static noinline int maple_order(void)
{
	unsigned long *word, was;
	int i;

	for (i = 0; i < 100; i++)
		if (mtree_store_range(&zoo_maple, i * 100, i * 100 + 49, xa_mk_value(i), GFP_KERNEL))
			return -ENOMEM;
	/* the root's first slot leads to a leaf of 256 bytes, whose pivots follow its parent */
	for (word = (unsigned long *)((unsigned long)zoo_maple.ma_root & ~255UL), i = 0; i < 32; i++) {
		unsigned long *leaf = (unsigned long *)(word[i] & ~255UL);

		/* others are pivots, and their end */
		if (i < 2 || (long)word[i] >= 0 || !virt_addr_valid(leaf) || leaf == word)
			continue;
		if (leaf[2] <= leaf[1] || leaf[2] > 20000)
			continue;
		was = leaf[2];
		leaf[2] = leaf[1] - 1;
		say("maple_order tree=%px node=%px at=%px was=%lx is=%lx\n", &zoo_maple, leaf, &leaf[2], was, leaf[2]);
		return 0;
	}
	return -ENOENT;
}
#endif

static int zoo_sleeps(void *unused)
{
	msleep(10000000);
	return 0;
}

/* a stack that was used to its very end: the word there is no longer what it was */
static noinline int stack_end(void)
{
	struct task_struct *task = kthread_run(zoo_sleeps, NULL, "zoo_deep");
	unsigned long *end;

	if (IS_ERR(task))
		return PTR_ERR(task);
	msleep(300);	/* it sleeps by then, for good: the kernel looks at that word when a task is scheduled out */
	end = end_of_stack(task);
	*end = (unsigned long)&zoo_sleeps;
	say("stack_end task=%px pid=%d at=%px\n", task, task->pid, end);
	return 0;
}

static void *zoo_area;

/* vfree()d, and a variable still has its address */
static noinline int area_gone(void)
{
	zoo_area = vzalloc(300000);
	if (!zoo_area)
		return -ENOMEM;
	vfree(zoo_area);
	say("area_gone object=%px pointer=%px\n", zoo_area, &zoo_area);
	return 0;
}

/* a count that somebody decremented without looking */
static noinline int count_minus(void)
{
	static struct zoo_item *kept;

	kept = zoo_item("counted below");
	if (!kept)
		return -ENOMEM;
	*(u32 *)&kept->refs = 0xffffffff;
	say("count_minus item=%px at=%px\n", kept, &kept->refs);
	return 0;
}

static noinline int leak_percpu(void)
{
	void __percpu *lost = __alloc_percpu(1200, 8);

	say("leak_percpu percpu=%lx bytes=1200\n", (unsigned long)lost ^ ~0UL);
	return 0;
}

/* the only pointer is in an object that is free */
static noinline int leak_behind_free(void)
{
	void *lost = kzalloc(1500, GFP_KERNEL), **holder = stray();

	if (!lost || !holder)
		return -ENOMEM;
	holder[20] = lost;
	kmem_cache_free(zoo_stray_cache, holder);
	say("leak_behind_free cache=kmalloc-2k objects=%px\n", lost);
	return 0;
}

/* it has its own address, and nobody else does: an empty list */
static noinline int leak_self(void)
{
	struct list_head *lost = kzalloc(1400, GFP_KERNEL);

	if (!lost)
		return -ENOMEM;
	INIT_LIST_HEAD(lost);
	say("leak_self cache=kmalloc-2k objects=%px\n", lost);
	return 0;
}

static int zoo_forgets(void *unused)
{
	void *volatile lost[64];

	lost[40] = kzalloc(1300, GFP_KERNEL);
	say("leak_dead_stack cache=kmalloc-2k objects=%px\n", lost[40]);
	return 0;
}

/* it was on the stack of a thread that is dead */
static noinline int leak_dead_stack(void)
{
	struct task_struct *task = kthread_run(zoo_forgets, NULL, "zoo_forgets");

	msleep(200);
	return PTR_ERR_OR_ZERO(task);
}

/* a vmalloc area that holds the only pointer to an object, and is lost as well */
static noinline int leak_area_holds(void)
{
	void **area = vzalloc(30000), *lost = kzalloc(1600, GFP_KERNEL);

	if (!area || !lost)
		return -ENOMEM;
	area[1000] = lost;
	say("leak_area_holds objects=%px,%px\n", area, lost);
	return 0;
}

/* an array whose head is lost with the object that it is in */
static noinline int leak_array(void)
{
	struct xarray *lost = kzalloc(1800, GFP_KERNEL);
	int i;

	if (!lost)
		return -ENOMEM;
	xa_init(lost);
	for (i = 0; i < 200; i++)
		xa_store(lost, i, xa_mk_value(i), GFP_KERNEL);
	say("leak_array cache=kmalloc-2k objects=%px\n", lost);
	return 0;
}

static noinline int leak_one_page(void)
{
	struct page *page = alloc_page(GFP_KERNEL | __GFP_ZERO);

	say("leak_one_page page=%px object=%px bytes=4096\n", page, page ? page_address(page) : NULL);
	return 0;
}

const struct sin zoo_stray_sins[] = {
	{ "timer_freed", timer_freed },
	{ "work_freed", work_freed },
	{ "wait_gone", wait_gone },
	{ "list_twice", list_twice },
	{ "bl_torn", bl_torn },
	{ "xa_freed", xa_freed },
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 1, 0)
	{ "maple_order", maple_order },
#endif
	{ "stack_end", stack_end },
	{ "area_gone", area_gone },
	{ "count_minus", count_minus },
	{ "leak_percpu", leak_percpu },
	{ "leak_behind_free", leak_behind_free },
	{ "leak_self", leak_self },
	{ "leak_dead_stack", leak_dead_stack },
	{ "leak_area_holds", leak_area_holds },
	{ "leak_array", leak_array },
	{ "leak_one_page", leak_one_page },
	{ }
};
