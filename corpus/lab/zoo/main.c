// SPDX-License-Identifier: GPL-2.0
/*
 * zoo: a kernel module that commits one sin at a time and says to which address.
 *
 * A word written to /proc/zoo commits the sin of that name. Reading /proc/zoo
 * tells what was done, a line for each sin:
 *
 *	overflow cache=zoo_overflow object=... at=... bytes=5
 *
 * It is text, so that no pointer to what was lost stays in memory by telling it.
 * Each sin has caches and lists of its own, and nobody allocates from them
 * afterwards: the kernel has no occasion to trip over the damage or to mend it.
 */
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/sort.h>
#include <linux/uaccess.h>
#include <linux/version.h>
#include "zoo.h"

static char zoo_said[24576];
static size_t zoo_said_len;
struct pen *zoo_pens[64];	/* so that no animal is lost by accident; not static: it would be left out */
static unsigned int zoo_pens_len;

void say(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	zoo_said_len += vscnprintf(zoo_said + zoo_said_len, sizeof(zoo_said) - zoo_said_len, fmt, args);
	va_end(args);
}

static int by_address(const void *a, const void *b)
{
	const unsigned long one = *(const unsigned long *)a, two = *(const unsigned long *)b;

	return one < two ? -1 : one > two;
}

struct pen *zoo_pen(const char *name, unsigned int size)
{
	struct pen *pen = kzalloc(sizeof(*pen), GFP_KERNEL);
	int i;

	if (!pen || zoo_pens_len == ARRAY_SIZE(zoo_pens))
		return NULL;
	zoo_pens[zoo_pens_len++] = pen;
	pen->size = size;
	pen->stride = ULONG_MAX;
	pen->cache = kmem_cache_create(name, size, 0, SLAB_NO_MERGE, NULL);
	for (i = 0; pen->cache && i < PEN; i++)
		pen->animal[i] = kmem_cache_zalloc(pen->cache, GFP_KERNEL);
	sort(pen->animal, PEN, sizeof(pen->animal[0]), by_address, NULL);
	if (!pen->cache || !pen->animal[0])
		return NULL;
	for (i = 1; i < PEN; i++)
		pen->stride = min_t(unsigned long, pen->stride, pen->animal[i] - pen->animal[i - 1]);
	return pen;
}

int zoo_pair(struct pen *pen)
{
	int i;

	/* not the first of a slab, so that there is a neighbour on both sides */
	for (i = 1; i + 2 < PEN; i++)
		if (pen->animal[i - 1] + pen->stride == pen->animal[i] && pen->animal[i] + pen->stride == pen->animal[i + 1])
			return i;
	return -1;
}

noinline unsigned long zoo_release(struct pen *pen, int number)
{
	void *animal = pen->animal[number];

	pen->animal[number] = NULL;
	kmem_cache_free(pen->cache, animal);
	return (unsigned long)animal;
}

void zoo_settle(struct pen *pen)
{
	if (LINUX_VERSION_CODE >= KERNEL_VERSION(7, 0, 0))
		kmem_cache_shrink(pen->cache);
}

noinline void zoo_scribble(unsigned long at, const void *from, size_t len)
{
	const char *byte = from;
	volatile char *to = (volatile char *)at;

	while (len--)
		*to++ = *byte++;
}

unsigned long zoo_link_of(struct pen *pen, unsigned long animal)
{
	/* in the middle, or with poison behind the red zone: set_freepointer() and calculate_sizes() in mm/slub.c */
	unsigned long middle = ALIGN_DOWN(pen->size / 2, sizeof(void *));
	unsigned long word = *(volatile unsigned long *)(animal + middle);

	return animal + (word == 0x6b6b6b6b6b6b6b6bUL ? ALIGN(pen->size + 1, sizeof(void *)) : middle);
}

static int zoo_commit(const struct sin *sins, const char *name)
{
	for (; sins->name; sins++)
		if (!strcmp(sins->name, name))
			return sins->commit();
	return -ENOENT;
}

/* one at a time, without a lock: one that is killed for its sin would keep it */
static ssize_t zoo_write(struct file *file, const char __user *from, size_t len, loff_t *pos)
{
	static const struct sin *const all[] = { zoo_slab_sins, zoo_link_sins, zoo_lost_sins, zoo_fringe_sins, zoo_stray_sins,
		zoo_outside_sins, zoo_fenced_sins };
	char name[32];
	int err = -ENOENT, i;

	if (len >= sizeof(name) || copy_from_user(name, from, len))
		return -EFAULT;
	name[len] = 0;
	strim(name);
	for (i = 0; i < ARRAY_SIZE(all) && err == -ENOENT; i++)
		err = zoo_commit(all[i], name);
	return err ?: len;
}

static int zoo_show(struct seq_file *m, void *unused)
{
	seq_write(m, zoo_said, zoo_said_len);
	return 0;
}

static int zoo_open(struct inode *inode, struct file *file)
{
	return single_open_size(file, zoo_show, NULL, sizeof(zoo_said) + 1);
}

static const struct proc_ops zoo_proc_ops = {
	.proc_open = zoo_open,
	.proc_read = seq_read,
	.proc_lseek = seq_lseek,
	.proc_write = zoo_write,
	.proc_release = single_release,
};

static int __init zoo_init(void)
{
	return proc_create("zoo", 0600, NULL, &zoo_proc_ops) ? 0 : -ENOMEM;
}
module_init(zoo_init);

MODULE_DESCRIPTION("commits one sin at a time, so that a dump can be asked about it");
MODULE_LICENSE("GPL");
