// SPDX-License-Identifier: GPL-2.0
/*
 * Ways down in which the one who is caught is not the one who did it, or is caught late: a processor that waits for
 * another, timers whose memory or code is gone, faults where nothing may fault, memory that is all spent.
 */
#include <linux/delay.h>
#include <linux/hrtimer.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/timer.h>
#include <linux/version.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>
#ifdef CONFIG_X86_64
#include <asm/nmi.h>
#endif
#include "crasher.h"

static volatile u64 sum;

/* --- other processors ------------------------------------------------------------------ */

static int crash_irqs_off(void *unused)
{
	local_irq_disable();
	for (;;)
		cpu_relax();
	return 0;
}

static void crash_called(void *unused)
{
	sum++;
}

/* one CPU takes no interrupts; another one wants it to run something, and waits */
static noinline void crash_ipi(void)
{
	int there = raw_smp_processor_id() ? 0 : 1;
	struct task_struct *task = kthread_create(crash_irqs_off, NULL, "crash_irqs_off");

	kthread_bind(task, there);
	wake_up_process(task);
	msleep(300);
	preempt_disable();
	smp_call_function_single(there, crash_called, NULL, 1);
	preempt_enable();
}

/* --- timers ------------------------------------------------------------------------------ */

struct bell {
	u64 first[8];
	struct timer_list timer;
	u64 last[8];
};

static noinline void crash_bell(struct timer_list *timer)
{
	sum += ((u64 *)timer)[-1];
}

static struct bell *armed(void (*rings)(struct timer_list *), int ms)
{
	struct bell *at = kzalloc(sizeof(*at), GFP_KERNEL);

	timer_setup(&at->timer, rings, 0);
	mod_timer(&at->timer, jiffies + msecs_to_jiffies(ms));
	return at;
}

/* freed and filled with poison while it is armed */
static noinline void crash_timer_uaf(void)
{
	struct bell *at = armed(crash_bell, 200);

	kfree(at);
	msleep(2000);
}

static noinline void crash_ring_spin(struct timer_list *timer)
{
	for (;;)
		cpu_relax();
}

static void do_timer_spin(void)
{
	armed(crash_ring_spin, 50);
}

/* it rings when the module is gone */
static void do_unloaded(void)
{
	armed(crash_bell, 3000);
}

static noinline enum hrtimer_restart crash_sleeps_in_irq(struct hrtimer *timer)
{
	msleep(10);
	return HRTIMER_NORESTART;
}
static struct hrtimer sleepy;

static void do_sched_irq(void)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
	hrtimer_setup(&sleepy, crash_sleeps_in_irq, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
#else
	hrtimer_init(&sleepy, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
	sleepy.function = crash_sleeps_in_irq;
#endif
	hrtimer_start(&sleepy, ms_to_ktime(50), HRTIMER_MODE_REL);
	mdelay(1000);
}

/* --- callbacks and work ------------------------------------------------------------------ */

/* a callback that is data by now */
static struct rcu_head head_and_code[2];

static noinline void crash_rcu_data(void)
{
	rcu_callback_t data = (rcu_callback_t)&head_and_code[1];

	OPTIMIZER_HIDE_VAR(data);
	call_rcu(&head_and_code[0], data);
	msleep(3000);
}

static noinline void crash_work_spins(struct work_struct *work)
{
	preempt_disable();
	for (;;)
		cpu_relax();
}
static DECLARE_WORK(spinning_work, crash_work_spins);

static void do_work_spin(void)
{
	schedule_work(&spinning_work);
}

/* --- memory -------------------------------------------------------------------------------- */

static noinline void crash_kfree(void)
{
	void *at = (void *)0x1234567812345678ULL;

	OPTIMIZER_HIDE_VAR(at);
	kfree(at);
}

/* the one who gives a wrong pointer to a function of the kernel */
static noinline void crash_strlen(void)
{
	const char *text = (const char *)0x18;
	char to[16];

	OPTIMIZER_HIDE_VAR(text);
	sum += strscpy(to, text, sizeof(to));
}

static noinline void crash_vfree(void)
{
	u64 *at = vmalloc(2 * PAGE_SIZE);

	OPTIMIZER_HIDE_VAR(at);
	vfree(at);
	msleep(500);
	/* what is freed is unmapped lazily; the end is as if that were done */
	vm_unmap_aliases();
	sum += READ_ONCE(at[8]);
}

/* all of it goes into one cache and nobody can give it back */
static noinline void crash_hoard(void)
{
	struct kmem_cache *cache = kmem_cache_create("crash_hoard", 1000, 0, SLAB_PANIC | SLAB_HWCACHE_ALIGN, NULL);
	void **last = NULL, **at;

	while ((at = kmem_cache_alloc(cache, GFP_KERNEL))) {
		*at = last;
		last = at;
	}
	sum = (u64)last;
}

#ifdef CONFIG_X86_64
/* an entry of this process's page tables gets bits that may not be there */
static noinline void crash_page_table(void)
{
	unsigned long at = vm_mmap(NULL, 0, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, 0);
	u64 *table = __va(__read_cr3() & 0x000ffffffffff000ULL);
	int level = __read_cr4() & (1 << 12) ? 5 : 4;

	if (clear_user((void __user *)at, 8))
		return;
	for (; level > 1; level--)
		table = __va(table[at >> (12 + 9 * (level - 1)) & 511] & 0x000ffffffffff000ULL);
	table[at >> 12 & 511] |= 0x000f000000000000ULL;
	asm volatile("invlpg (%0)" :: "r"(at) : "memory");
	sum += clear_user((void __user *)at, 8);
}

static noinline int crash_in_nmi(unsigned int type, struct pt_regs *regs)
{
	sum += *(volatile u64 *)0x48;
	return NMI_HANDLED;
}

static void do_nmi_fault(void)
{
	register_nmi_handler(NMI_LOCAL, crash_in_nmi, 0, "crasher");
	pr_emerg("LAB-NMI\n");
}
#else
static void crash_page_table(void) { }
static void do_nmi_fault(void) { }
#endif

const struct word late_words[] = {
	{ "ipi", crash_ipi }, { "timer_uaf", crash_timer_uaf }, { "timer_spin", do_timer_spin }, { "unloaded", do_unloaded },
	{ "sched_irq", do_sched_irq }, { "rcu_data", crash_rcu_data }, { "work_spin", do_work_spin }, { "kfree", crash_kfree },
	{ "strlen", crash_strlen }, { "vfree", crash_vfree }, { "hoard", crash_hoard }, { "page_table", crash_page_table },
	{ "nmi_fault", do_nmi_fault },
};
const int late_count = ARRAY_SIZE(late_words);
