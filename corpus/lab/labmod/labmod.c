// SPDX-License-Identifier: GPL-2.0
/*
 * labmod: a small kernel module that commits known sins, so that a dump can be
 * asked about them.
 *
 * The story it tells. A *node* (own slab cache `lab_node`) is opened by name and
 * found through a list and a tree. A *session* (kmalloc) remembers the node it
 * works on. Closing a node takes it off the list and the tree and frees it, but
 * forgets the sessions: their pointers dangle. A sweep then goes over all
 * sessions and stamps the node each one points to, freed or not.
 *
 * Commands, written to /proc/labmod one at a time:
 *
 *	open ID NAME	 a node, and a session on it
 *	close ID	 frees the node; its session keeps the pointer
 *	sweep		 stamps every session's node: a write after free
 *	leak N		 N nodes nobody remembers
 *	spill		 one byte past the end of a label
 *	hold		 two kernel threads, one waiting for the other's mutex
 *
 * Reading /proc/labmod tells what was done to which address. It is text, so that
 * no pointer of the story is left in memory by telling it.
 */
#include <linux/delay.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/proc_fs.h>
#include <linux/rbtree.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

/* keep `lab_node` apart from look-alikes also without slub_debug */
#ifndef SLAB_NO_MERGE
#define SLAB_NO_MERGE SLAB_NOLEAKTRACE
#endif

struct lab_node {
	u64 magic;
	u32 id;
	u32 hits;		/* how often swept */
	unsigned long stamped;	/* when swept last, in jiffies */
	struct list_head link;	/* on lab_nodes */
	struct rb_node branch;	/* in lab_tree, by id */
	char *label;
	char name[32];
};

struct lab_session {
	struct list_head link;	/* on lab_sessions */
	struct lab_node *node;
	pid_t opener;
};

#define LAB_MAGIC 0x6c61626e6f646521ULL
#define LAB_LABEL 24

static struct kmem_cache *lab_cache;
static LIST_HEAD(lab_nodes);
static LIST_HEAD(lab_sessions);
static struct rb_root lab_tree = RB_ROOT;
static DEFINE_MUTEX(lab_lock);	/* guards all of the above */
static DEFINE_MUTEX(lab_held);	/* taken by `hold`, never given back */

static char lab_said[8192];
static size_t lab_said_len;

static __printf(1, 2) void say(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	lab_said_len += vscnprintf(lab_said + lab_said_len, sizeof(lab_said) - lab_said_len, fmt, args);
	va_end(args);
}

static noinline struct lab_node *lab_alloc_node(u32 id, const char *name)
{
	struct lab_node *node = kmem_cache_zalloc(lab_cache, GFP_KERNEL);

	if (!node)
		return NULL;
	node->magic = LAB_MAGIC;
	node->id = id;
	strscpy(node->name, name, sizeof(node->name));
	node->label = kmalloc(LAB_LABEL, GFP_KERNEL);
	if (node->label)
		snprintf(node->label, LAB_LABEL, "label of %u", id);
	return node;
}

static noinline void lab_free_node(struct lab_node *node)
{
	kfree(node->label);
	kmem_cache_free(lab_cache, node);
}

static void lab_plant(struct lab_node *node)
{
	struct rb_node **at = &lab_tree.rb_node, *parent = NULL;

	while (*at) {
		parent = *at;
		at = node->id < rb_entry(parent, struct lab_node, branch)->id ? &parent->rb_left : &parent->rb_right;
	}
	rb_link_node(&node->branch, parent, at);
	rb_insert_color(&node->branch, &lab_tree);
	list_add_tail(&node->link, &lab_nodes);
}

static noinline int lab_open(u32 id, const char *name)
{
	struct lab_node *node = lab_alloc_node(id, name);
	struct lab_session *session = kzalloc(sizeof(*session), GFP_KERNEL);

	if (!node || !session)
		return -ENOMEM;
	lab_plant(node);
	session->node = node;
	session->opener = current->pid;
	list_add_tail(&session->link, &lab_sessions);
	say("open id=%u node=%px label=%px session=%px pid=%d jiffies=%lu\n", id, node, node->label, session,
	    current->pid, jiffies);
	return 0;
}

static noinline int lab_release(u32 id)
{
	struct lab_node *node;

	list_for_each_entry(node, &lab_nodes, link) {
		if (node->id != id)
			continue;
		list_del(&node->link);
		rb_erase(&node->branch, &lab_tree);
		say("close id=%u node=%px pid=%d jiffies=%lu\n", id, node, current->pid, jiffies);
		lab_free_node(node);	/* and the session that points here? */
		return 0;
	}
	return -ENOENT;
}

static noinline void lab_stamp(struct lab_node *node)
{
	WRITE_ONCE(node->stamped, jiffies);
	WRITE_ONCE(node->hits, READ_ONCE(node->hits) + 1);
}

static noinline int lab_sweep(void)
{
	struct lab_session *session;

	list_for_each_entry(session, &lab_sessions, link) {
		lab_stamp(session->node);
		say("sweep session=%px node=%px pid=%d jiffies=%lu\n", session, session->node, current->pid, jiffies);
	}
	return 0;
}

static noinline int lab_leak(u32 count)
{
	while (count--) {
		struct lab_node *node = lab_alloc_node(9000 + count, "forgotten");

		say("leak node=%px label=%px pid=%d\n", node, node ? node->label : NULL, current->pid);
	}
	return 0;
}

static noinline int lab_spill(void)
{
	struct lab_node *node = list_first_entry_or_null(&lab_nodes, struct lab_node, link);
	char *end;

	if (!node || !node->label)
		return -ENOENT;
	/* the slab object is larger than what was asked for: spill past the object */
	end = node->label + ksize(node->label);
	OPTIMIZER_HIDE_VAR(end);
	*end = 'X';
	say("spill node=%px label=%px at=%px byte=0x58 pid=%d\n", node, node->label, end, current->pid);
	return 0;
}

static int lab_holder(void *unused)
{
	mutex_lock(&lab_held);
	while (!kthread_should_stop())
		msleep_interruptible(3600 * MSEC_PER_SEC);
	mutex_unlock(&lab_held);
	return 0;
}

static int lab_waiter(void *unused)
{
	mutex_lock(&lab_held);
	mutex_unlock(&lab_held);
	return 0;
}

static noinline int lab_hold(void)
{
	struct task_struct *holder = kthread_run(lab_holder, NULL, "lab_holder"), *waiter;

	msleep(100);
	waiter = kthread_run(lab_waiter, NULL, "lab_waiter");
	msleep(100);
	if (IS_ERR(holder) || IS_ERR(waiter))
		return -ENOMEM;
	say("hold mutex=%px holder=%px pid=%d waiter=%px pid=%d\n", &lab_held, holder, holder->pid, waiter, waiter->pid);
	return 0;
}

static ssize_t lab_write(struct file *file, const char __user *from, size_t len, loff_t *pos)
{
	char line[64], name[32];
	int err = -EINVAL;
	u32 n;

	if (len >= sizeof(line) || copy_from_user(line, from, len))
		return -EFAULT;
	line[len] = 0;
	mutex_lock(&lab_lock);
	if (sscanf(line, "open %u %31s", &n, name) == 2)
		err = lab_open(n, name);
	else if (sscanf(line, "close %u", &n) == 1)
		err = lab_release(n);
	else if (sscanf(line, "leak %u", &n) == 1)
		err = lab_leak(n);
	else if (!strncmp(line, "sweep", 5))
		err = lab_sweep();
	else if (!strncmp(line, "spill", 5))
		err = lab_spill();
	else if (!strncmp(line, "hold", 4))
		err = lab_hold();
	mutex_unlock(&lab_lock);
	return err ?: len;
}

static int lab_show(struct seq_file *m, void *unused)
{
	seq_write(m, lab_said, lab_said_len);
	return 0;
}

static int lab_proc_open(struct inode *inode, struct file *file)
{
	return single_open(file, lab_show, NULL);
}

static const struct proc_ops lab_proc_ops = {
	.proc_open = lab_proc_open,
	.proc_read = seq_read,
	.proc_lseek = seq_lseek,
	.proc_write = lab_write,
	.proc_release = single_release,
};

static int __init lab_init(void)
{
	lab_cache = kmem_cache_create("lab_node", sizeof(struct lab_node), 0, SLAB_NO_MERGE, NULL);
	if (!lab_cache)
		return -ENOMEM;
	if (!proc_create("labmod", 0600, NULL, &lab_proc_ops)) {
		kmem_cache_destroy(lab_cache);
		return -ENOMEM;
	}
	say("cache lab_node=%px object=%zu\n", lab_cache, sizeof(struct lab_node));
	say("lists lab_nodes=%px lab_sessions=%px lab_tree=%px\n", &lab_nodes, &lab_sessions, &lab_tree);
	return 0;
}
module_init(lab_init);

MODULE_DESCRIPTION("commits known sins, so that a dump can be asked about them");
MODULE_LICENSE("GPL");
