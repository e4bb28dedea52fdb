// SPDX-License-Identifier: GPL-2.0
/* Sins on objects that KFENCE holds, where the kernel has it: it must be fast, with kfence.sample_interval=1. */
#include <linux/delay.h>
#include <linux/version.h>
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 12, 0)
#include <linux/kfence.h>
#endif
#include "zoo.h"

#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 12, 0) && defined(CONFIG_KFENCE)
/* one with the end of its page behind it, or one in front of which there is room on its page */
static noinline char *fenced(size_t size, bool at_end)
{
	char *it;
	int i;

	for (i = 0; i < 20000; i++) {
		it = kmalloc(size, GFP_KERNEL);
		if (is_kfence_address(it) && (((unsigned long)it & (PAGE_SIZE - 1)) != 0) == at_end)
			return it;
		kfree(it);
		if (i % 64 == 63)
			msleep(2);
	}
	return NULL;
}

static char *zoo_fenced[4];

/* past the end, into the page that nobody may touch: KFENCE says so at once */
static noinline int fence_oob(void)
{
	zoo_fenced[0] = fenced(128, true);
	if (!zoo_fenced[0])
		return -EAGAIN;
	zoo_scribble((unsigned long)zoo_fenced[0] + 128, "past the end", 12);
	say("fence_oob object=%px at=%px bytes=12\n", zoo_fenced[0], zoo_fenced[0] + 128);
	return 0;
}

static noinline int fence_uaf(void)
{
	char *it = fenced(192, true);

	if (!it)
		return -EAGAIN;
	kfree(it);
	zoo_scribble((unsigned long)it + 8, "freed", 5);
	say("fence_uaf object=%px at=%px bytes=5\n", it, it + 8);
	return 0;
}

/* past the end, but on the object's own page: KFENCE sees it when it is freed, and it is not */
static noinline int fence_past(void)
{
	zoo_fenced[1] = fenced(96, false);
	if (!zoo_fenced[1])
		return -EAGAIN;
	zoo_scribble((unsigned long)zoo_fenced[1] + 96, "long name", 9);
	say("fence_past object=%px at=%px bytes=9\n", zoo_fenced[1], zoo_fenced[1] + 96);
	return 0;
}

/* the same, and freed */
static noinline int fence_past_freed(void)
{
	char *it = fenced(96, false);

	if (!it)
		return -EAGAIN;
	zoo_scribble((unsigned long)it + 96, "long name", 9);
	say("fence_past_freed object=%px at=%px bytes=9\n", it, it + 96);
	kfree(it);
	return 0;
}
#endif

const struct sin zoo_fenced_sins[] = {
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 12, 0) && defined(CONFIG_KFENCE)
	{ "fence_oob", fence_oob },
	{ "fence_uaf", fence_uaf },
	{ "fence_past", fence_past },
	{ "fence_past_freed", fence_past_freed },
#endif
	{ }
};
