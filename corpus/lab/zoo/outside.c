// SPDX-License-Identifier: GPL-2.0
/* Sins of those who do not know this zoo: wrong frees, words of known structures, links of every kind. */
#include <linux/cred.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/in.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/net.h>
#include <linux/sched.h>
#include <linux/timer.h>
#include <linux/version.h>
#include <linux/vmalloc.h>
#include <linux/wait.h>
#include <linux/xarray.h>
#include <net/net_namespace.h>
#include <net/sock.h>
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 1, 0)
#include <linux/maple_tree.h>
#endif
#include "zoo.h"

#define animal(pen, i) ((unsigned long)(pen)->animal[i])

/* whose link is not in front */
struct zoo_guest {
	char name[64];
	struct list_head link;
	u64 serial;
};

static LIST_HEAD(zoo_stale_list);

/* freed and given to somebody else, who is written over through the pointer of the first */
static noinline int stale_write(void)
{
	static const u32 counter[3] = { 17, 18, 4711 };
	struct pen *pen = zoo_pen("zoo_stale", sizeof(struct zoo_guest));
	struct zoo_guest *guest;
	unsigned long stale;
	int i, n;

	if (!pen)
		return -ENOMEM;
	i = PEN / 2;
	stale = zoo_release(pen, i);
	/* until the same place comes again */
	for (n = 0, guest = NULL; n < 4 * PEN && (unsigned long)guest != stale; n++) {
		guest = kmem_cache_zalloc(pen->cache, GFP_KERNEL);
		if (!guest)
			return -ENOMEM;
		list_add_tail(&guest->link, &zoo_stale_list);
	}
	for (n = 0; n < PEN; n++)
		if (n != i)
			list_add_tail(&((struct zoo_guest *)pen->animal[n])->link, &zoo_stale_list);
	if ((unsigned long)guest != stale)
		return -EAGAIN;
	zoo_scribble(stale + 64, counter, sizeof(counter));
	say("stale_write cache=zoo_stale object=%lx at=%lx bytes=12\n", stale, stale + 64);
	return 0;
}

/* the address of a member is freed */
static noinline int free_inside(void)
{
	struct pen *pen = zoo_pen("zoo_inside", 408);
	int i = pen ? zoo_pair(pen) : -1;

	if (i < 0)
		return -ENOMEM;
	kmem_cache_free(pen->cache, pen->animal[i] + 16);
	say("free_inside cache=zoo_inside object=%lx freed=%lx\n", animal(pen, i), animal(pen, i) + 16);
	return 0;
}

static noinline int vfree_twice(void)
{
	void *area = vzalloc(50000);

	if (!area)
		return -ENOMEM;
	say("vfree_twice object=%px\n", area);
	vfree(area);
	vfree(area);
	return 0;
}

static int zoo_cred_kept(void *unused)
{
	struct cred *cred = prepare_creds();

	if (!cred)
		return -ENOMEM;
	commit_creds(cred);
	memset((void *)&cred->usage, 0xff, sizeof(cred->usage));
	*(u8 *)&cred->usage = 0xf9;
	say("cred_count task=%px pid=%d cred=%px at=%px value=-7\n", current, current->pid, cred, &cred->usage);
	msleep(10000000);
	return 0;
}

/* somebody's credentials were put too often */
static noinline int cred_count(void)
{
	struct task_struct *task = kthread_run(zoo_cred_kept, NULL, "zoo_cred");

	msleep(300);
	return PTR_ERR_OR_ZERO(task);
}

static LIST_HEAD(zoo_null_list);
static LIST_HEAD(zoo_errptr_list);

static int queue_up(struct list_head *list, struct zoo_item **items, const char *name)
{
	int i;

	for (i = 0; i < 6; i++) {
		items[i] = zoo_item(name);
		if (!items[i])
			return -ENOMEM;
		list_add_tail(&items[i]->link, list);
	}
	return 0;
}

/* the head of a list, in a variable */
static noinline int head_null(void)
{
	struct zoo_item *items[6];

	if (queue_up(&zoo_null_list, items, "head"))
		return -ENOMEM;
	zoo_null_list.next = NULL;
	say("head_null head=%px at=%px first=%px\n", &zoo_null_list, &zoo_null_list, &items[0]->link);
	return 0;
}

/* an error that nobody looked at */
static noinline int list_errptr(void)
{
	struct zoo_item *items[6];

	if (queue_up(&zoo_errptr_list, items, "error"))
		return -ENOMEM;
	items[2]->link.next = ERR_PTR(-ENOMEM);
	say("list_errptr head=%px at=%px item=%px\n", &zoo_errptr_list, &items[2]->link, items[2]);
	return 0;
}

static struct rb_root zoo_same_tree = RB_ROOT, zoo_loop_tree = RB_ROOT;

static int bush(struct rb_root *tree, const char *name)
{
	int i;

	for (i = 0; i < 15; i++) {
		struct zoo_item *item = zoo_item(name);
		struct rb_node **at = &tree->rb_node, *parent = NULL;

		if (!item)
			return -ENOMEM;
		while (*at) {
			parent = *at;
			at = &parent->rb_right;
		}
		rb_link_node(&item->branch, parent, at);
		rb_insert_color(&item->branch, tree);
	}
	return 0;
}

/* both children are the same */
static noinline int rb_same(void)
{
	struct rb_node *node;

	if (bush(&zoo_same_tree, "same"))
		return -ENOMEM;
	node = zoo_same_tree.rb_node->rb_left;
	node->rb_right = node->rb_left;
	say("rb_same tree=%px at=%px\n", &zoo_same_tree, node);
	return 0;
}

/* a leaf that leads back to the top */
static noinline int rb_loop(void)
{
	struct rb_node *node;

	if (bush(&zoo_loop_tree, "loop"))
		return -ENOMEM;
	node = rb_first(&zoo_loop_tree);
	node->rb_left = zoo_loop_tree.rb_node;
	say("rb_loop tree=%px at=%px top=%px\n", &zoo_loop_tree, node, zoo_loop_tree.rb_node);
	return 0;
}

static DEFINE_XARRAY(zoo_offset_array);

/* a node in the wrong slot of its parent */
static noinline int xa_offset(void)
{
	struct xa_node *root, *leaf;
	unsigned long i;

	for (i = 0; i < 200; i++)
		if (xa_is_err(xa_store(&zoo_offset_array, i, xa_mk_value(i), GFP_KERNEL)))
			return -ENOMEM;
	root = (struct xa_node *)((unsigned long)zoo_offset_array.xa_head & ~3UL);
	leaf = (struct xa_node *)((unsigned long)root->slots[2] & ~3UL);
	leaf->offset = 5;
	say("xa_offset array=%px at=%px\n", &zoo_offset_array, leaf);
	return 0;
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 1, 0)
static DEFINE_MTREE(zoo_dead_maple);

/* a node of a maple tree that says of itself that it is dead */
static noinline int maple_dead(void)
{
	unsigned long *leaf;
	int i;

	for (i = 0; i < 100; i++)
		if (mtree_store_range(&zoo_dead_maple, i * 100, i * 100 + 49, xa_mk_value(i), GFP_KERNEL))
			return -ENOMEM;
	/* the first slot of the root, whatever it is: all nodes are as large as they are aligned */
	for (i = 2; i < 32; i++) {
		leaf = (unsigned long *)(((unsigned long *)((unsigned long)zoo_dead_maple.ma_root & ~255UL))[i] & ~255UL);
		if ((long)leaf >= 0 || !virt_addr_valid(leaf) || (leaf[0] & ~255UL) != ((unsigned long)zoo_dead_maple.ma_root & ~255UL))
			continue;
		leaf[0] = (unsigned long)leaf;
		say("maple_dead tree=%px node=%px\n", &zoo_dead_maple, leaf);
		return 0;
	}
	return -ENOENT;
}
#endif

static int zoo_lingers(void *unused)
{
	msleep(10000000);
	return 0;
}

/* text in a task's struct, where it has a pointer */
static noinline int task_text(void)
{
	struct task_struct *task = kthread_run(zoo_lingers, NULL, "zoo_text");

	if (IS_ERR(task))
		return PTR_ERR(task);
	msleep(300);
	zoo_scribble((unsigned long)&task->plug, "password", 8);
	say("task_text task=%px pid=%d at=%px\n", task, task->pid, &task->plug);
	return 0;
}

static struct socket *zoo_socket;

/* a queue that says that it has three more packets than it has */
static noinline int skb_qlen(void)
{
	int err = sock_create_kern(&init_net, AF_INET, SOCK_DGRAM, IPPROTO_UDP, &zoo_socket);

	if (err)
		return err;
	zoo_socket->sk->sk_receive_queue.qlen += 3;
	say("skb_qlen sock=%px at=%px qlen=3\n", zoo_socket->sk, &zoo_socket->sk->sk_receive_queue);
	return 0;
}

static DECLARE_WAIT_QUEUE_HEAD(zoo_below);

static noinline void zoo_queues(void)
{
	struct wait_queue_entry entries[36];

	memset(entries, 0, sizeof(entries));
	init_waitqueue_entry(&entries[0], current);
	add_wait_queue(&zoo_below, &entries[0]);
	say("wait_below head=%px entry=%px task=%px pid=%d\n", &zoo_below.head, &entries[0], current, current->pid);
}

static int zoo_returns(void *unused)
{
	zoo_queues();
	msleep(10000000);
	return 0;
}

/* an entry of a wait queue on the part of a stack that its function has left */
static noinline int wait_below(void)
{
	struct task_struct *task = kthread_run(zoo_returns, NULL, "zoo_returns");

	msleep(300);
	return PTR_ERR_OR_ZERO(task);
}

static struct timer_list zoo_timer;

static void zoo_timed(struct timer_list *timer)
{
}

/* a timer whose function was unloaded */
static noinline int timer_code(void)
{
	void *code = vzalloc(8192);

	if (!code)
		return -ENOMEM;
	timer_setup(&zoo_timer, zoo_timed, 0);
	zoo_timer.function = code + 64;
	vfree(code);
	mod_timer(&zoo_timer, jiffies + 3600 * HZ);
	say("timer_code at=%px function=%px\n", &zoo_timer, code + 64);
	return 0;
}

/* a cache that is destroyed while somebody has objects of it */
static noinline int destroy_left(void)
{
	struct kmem_cache *cache = kmem_cache_create("zoo_left", 424, 0, SLAB_NO_MERGE, NULL);
	static void *left[3];
	int i;

	for (i = 0; cache && i < 3; i++)
		left[i] = kmem_cache_zalloc(cache, GFP_KERNEL);
	if (!cache || !left[2])
		return -ENOMEM;
	say("destroy_left cache=zoo_left object=%px at=%px\n", left[0], cache);
	kmem_cache_destroy(cache);
	return 0;
}

static DEFINE_MUTEX(zoo_mutex_kept);

static int zoo_locks(void *unused)
{
	mutex_lock(&zoo_mutex_kept);
	return 0;
}

static int zoo_wants(void *unused)
{
	mutex_lock(&zoo_mutex_kept);
	return 0;
}

/* who has the lock has ended, and somebody waits for it */
static noinline int owner_gone(void)
{
	struct task_struct *one = kthread_run(zoo_locks, NULL, "zoo_locks"), *two;

	msleep(300);
	two = kthread_run(zoo_wants, NULL, "zoo_wants");
	if (IS_ERR(two))
		return PTR_ERR(two);
	msleep(300);
	say("owner_gone owner=%px waits=%px pid=%d mutex=%px\n", one, two, two->pid, &zoo_mutex_kept);
	return 0;
}

const struct sin zoo_outside_sins[] = {
	{ "stale_write", stale_write },
	{ "free_inside", free_inside },
	{ "vfree_twice", vfree_twice },
	{ "cred_count", cred_count },
	{ "head_null", head_null },
	{ "list_errptr", list_errptr },
	{ "rb_same", rb_same },
	{ "rb_loop", rb_loop },
	{ "xa_offset", xa_offset },
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 1, 0)
	{ "maple_dead", maple_dead },
#endif
	{ "task_text", task_text },
	{ "skb_qlen", skb_qlen },
	{ "wait_below", wait_below },
	{ "timer_code", timer_code },
	{ "destroy_left", destroy_left },
	{ "owner_gone", owner_gone },
	{ }
};
