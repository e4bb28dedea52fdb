// SPDX-License-Identifier: GPL-2.0
/*
 * Further ways down: code and data that are gone, processors that are told nonsense, work that waits for the one who
 * waits for it, holders that died. main.c has the simple ones.
 */
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/hrtimer.h>
#include <linux/init.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/percpu-rwsem.h>
#include <linux/rwsem.h>
#include <linux/skbuff.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/srcu.h>
#include <linux/uaccess.h>
#include <linux/version.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>
#include "crasher.h"

#ifndef SLAB_NO_MERGE	/* of Linux 6.5 */
#define SLAB_NO_MERGE 0
#endif

struct item {
	u64 first;
	struct list_head link;
	void (*act)(struct item *);
	char text[64];
};

static volatile u64 sum;
static DEFINE_MUTEX(mutex_d);
static DECLARE_RWSEM(sem_d);
static DEFINE_SPINLOCK(spin_d);
DEFINE_STATIC_SRCU(srcu_d);
DEFINE_STATIC_PERCPU_RWSEM(percpu_d);

/* --- code and data that are gone --------------------------------------------------- */

/* its text is given back once the module is there */
static int __init noinline crash_was_here(void)
{
	return raw_smp_processor_id();
}
static int (*left)(void) __refdata = crash_was_here;

static noinline void crash_gone(void)
{
	sum += READ_ONCE(left)();
}

static noinline void crash_poison(void)
{
	struct item *at = kzalloc(sizeof(*at), GFP_KERNEL);
	LIST_HEAD(head);

	list_add(&at->link, &head);
	list_del(&at->link);
	OPTIMIZER_HIDE_VAR(at);
	sum += READ_ONCE(list_entry(READ_ONCE(at->link.next), struct item, link)->first);
}

static noinline void crash_uaf_call(void)
{
	struct item *at = kmalloc(sizeof(*at), GFP_KERNEL);

	OPTIMIZER_HIDE_VAR(at);
	kfree(at);
	READ_ONCE(at->act)(at);
}

static noinline void crash_vmalloc_end(void)
{
	char *at = vmalloc(PAGE_SIZE);

	OPTIMIZER_HIDE_VAR(at);
	sum += READ_ONCE(at[PAGE_SIZE + 8]);
}

/* writes over an object after it was freed; whoever gets it next, or the one after, meets that */
static noinline void crash_freelist(void)
{
	struct kmem_cache *cache = kmem_cache_create("crash_freelist", 512, 0, SLAB_NO_MERGE, NULL);
	void *all[4];
	int i, round;

	for (i = 0; i < 4; i++)
		all[i] = kmem_cache_alloc(cache, GFP_KERNEL);
	for (i = 0; i < 4; i++)
		kmem_cache_free(cache, all[i]);
	OPTIMIZER_HIDE_VAR(all[3]);
	memset(all[3], 'Z', 512);
	for (round = 0; round < 8; round++)
		sum += (u64)kmem_cache_alloc(cache, GFP_KERNEL);
}

/* --- what the processor refuses ---------------------------------------------------- */

static noinline void crash_user_read(void)
{
	unsigned long at = vm_mmap(NULL, 0, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, 0);

	/* it is there, but kernel code that says nothing of it must not look */
	if (clear_user((void __user *)at, 8))
		return;
	sum += READ_ONCE(*(u64 *)(at + 0x40));
}

static noinline void crash_user_jump(void)
{
	unsigned long at = vm_mmap(NULL, 0, PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, 0);
	void (*f)(void) = (void *)(at + 0x80);

	if (clear_user((void __user *)at, 256))
		return;
	OPTIMIZER_HIDE_VAR(f);
	f();
}

#ifdef CONFIG_X86_64
static noinline void crash_int3(void)
{
	asm volatile("int3");
}

/* the stack pointer is not one: the first fault cannot be pushed */
static noinline void crash_double_fault(void)
{
	asm volatile("mov $0xffffc8ffffff0000, %%rsp\n\tpush %%rax" ::: "memory");
}

static noinline void crash_stack_segment(void)
{
	asm volatile("push %%rbp\n\tmovabs $0x1234567812345678, %%rbp\n\tmov 8(%%rbp), %%rax\n\tpop %%rbp" ::: "rax", "memory");
}
#else
static noinline void crash_int3(void)
{
	asm volatile("brk #0x77");
}
static void crash_double_fault(void) { }
static void crash_stack_segment(void) { }
#endif

/* --- what the kernel checks ---------------------------------------------------------- */

static noinline void crash_skb(void)
{
	struct sk_buff *skb = alloc_skb(64, GFP_KERNEL);

	skb_put(skb, 100000);
}

static noinline void crash_usercopy(void)
{
	/* not one object, but across two of them */
	char *at = kmalloc(64, GFP_KERNEL);
	unsigned long to = vm_mmap(NULL, 0, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, 0);
	size_t size = 200;

	OPTIMIZER_HIDE_VAR(size);
	OPTIMIZER_HIDE_VAR(at);
	if (copy_to_user((void __user *)to, at, size))
		return;
}

static noinline void crash_fortify(size_t size)
{
	char small[16];

	OPTIMIZER_HIDE_VAR(size);
	memset(small, 'f', size);
	OPTIMIZER_HIDE_VAR(size);
	sum += small[size % 16];
}

/* --- interrupts, work, other CPUs -------------------------------------------------- */

static noinline enum hrtimer_restart crash_in_irq(struct hrtimer *timer)
{
	BUG_ON(timer);
	return HRTIMER_NORESTART;
}
static struct hrtimer hard_timer;

static noinline void crash_work(struct work_struct *work)
{
	struct item *at = kzalloc(sizeof(*at), GFP_KERNEL);

	at->act(at);
}
static DECLARE_WORK(bad_work, crash_work);

static unsigned long both_at;

static noinline int crash_both(void *cpu)
{
	while (time_before(jiffies, both_at))
		cpu_relax();
	panic("crasher: both of us, here %ld", (long)cpu);
	return 0;
}

static noinline void crash_irq_spin(void)
{
	unsigned long flags;

	spin_lock_irqsave(&spin_d, flags);
	spin_lock(&spin_d);
	spin_unlock_irqrestore(&spin_d, flags);
}

/* an oops ends the thread, but what it holds stays held */
static noinline int crash_holding(void *none)
{
	mutex_lock(&mutex_d);
	sum += *(volatile u64 *)(none + 0x30);
	return 0;
}

/* --- waiting ------------------------------------------------------------------------- */

static int dies_with_mutex(void *unused)
{
	mutex_lock(&mutex_d);
	return 0;
}

static int dies_with_read(void *unused)
{
	down_read(&sem_d);
	return 0;
}

static int wants_mutex(void *unused)
{
	mutex_lock(&mutex_d);
	return 0;
}

static int wants_write(void *unused)
{
	down_write(&sem_d);
	return 0;
}

/* it waits for work that waits for the mutex it holds */
static void work_wants(struct work_struct *work)
{
	mutex_lock(&mutex_d);
	mutex_unlock(&mutex_d);
}
static DECLARE_WORK(locking_work, work_wants);

static int flushes(void *unused)
{
	mutex_lock(&mutex_d);
	schedule_work(&locking_work);
	msleep(200);
	flush_work(&locking_work);
	return 0;
}

/* it waits for a thread to end that waits for the mutex it holds */
static int wants_until_stopped(void *unused)
{
	mutex_lock(&mutex_d);
	mutex_unlock(&mutex_d);
	while (!kthread_should_stop())
		msleep(10);
	return 0;
}

static int stops(void *unused)
{
	struct task_struct *other;

	mutex_lock(&mutex_d);
	other = kthread_run(wants_until_stopped, NULL, "crash_stopped");
	msleep(200);
	kthread_stop(other);
	return 0;
}

/* a mutex and a semaphore for readers, each taken before the other */
static int mixed(void *mutex_first)
{
	if (mutex_first)
		mutex_lock(&mutex_d);
	else
		down_write(&sem_d);
	msleep(200);
	if (mutex_first)
		down_read(&sem_d);
	else
		mutex_lock(&mutex_d);
	return 0;
}

static int reads_for_ever(void *unused)
{
	srcu_read_lock(&srcu_d);
	for (;;)
		msleep_interruptible(3600 * MSEC_PER_SEC);
	return 0;
}

static int waits_for_readers(void *unused)
{
	synchronize_srcu(&srcu_d);
	return 0;
}

static int percpu_reader(void *unused)
{
	percpu_down_read(&percpu_d);
	for (;;)
		msleep_interruptible(3600 * MSEC_PER_SEC);
	return 0;
}

static int percpu_writer(void *unused)
{
	percpu_down_write(&percpu_d);
	return 0;
}

static void thread(int (*work)(void *), long with, const char *name)
{
	kthread_run(work, (void *)with, "%s", name);
	msleep(50);
}

static void do_fortify(void) { crash_fortify(64); }
static void do_in_irq(void)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
	hrtimer_setup(&hard_timer, crash_in_irq, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
#else
	hrtimer_init(&hard_timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
	hard_timer.function = crash_in_irq;
#endif
	hrtimer_start(&hard_timer, ms_to_ktime(50), HRTIMER_MODE_REL);
	msleep(1000);
}
static void do_work(void) { schedule_work(&bad_work); msleep(1000); }
static void do_both(void)
{
	long cpu;

	both_at = jiffies + HZ / 2;
	for (cpu = 0; cpu < 2; cpu++) {
		struct task_struct *task = kthread_create(crash_both, (void *)cpu, "crash_both%ld", cpu);

		kthread_bind(task, cpu);
		wake_up_process(task);
	}
	msleep(1000);
}
static void do_holding(void) { thread(crash_holding, 0, "crash_holding"); thread(wants_mutex, 0, "crash_wants"); }
static void do_dead_holder(void) { thread(dies_with_mutex, 0, "crash_died"); thread(wants_mutex, 0, "crash_wants"); }
static void do_dead_reader(void) { thread(dies_with_read, 0, "crash_died"); thread(wants_write, 0, "crash_writer"); }
static void do_flush(void) { thread(flushes, 0, "crash_flush"); }
static void do_stop(void) { thread(stops, 0, "crash_stops"); }
static void do_mixed(void) { thread(mixed, 1, "mixed_ab"); thread(mixed, 0, "mixed_ba"); }
static void do_srcu(void) { thread(reads_for_ever, 0, "crash_reader"); thread(waits_for_readers, 0, "crash_srcu"); }
static void do_percpu(void) { thread(percpu_reader, 0, "percpu_reader"); thread(percpu_writer, 0, "percpu_writer"); }

const struct word more_words[] = {
	{ "gone", crash_gone }, { "poison", crash_poison }, { "uaf_call", crash_uaf_call },
	{ "vmalloc_end", crash_vmalloc_end }, { "freelist", crash_freelist }, { "user_read", crash_user_read },
	{ "user_jump", crash_user_jump }, { "int3", crash_int3 }, { "double_fault", crash_double_fault },
	{ "stack_segment", crash_stack_segment }, { "skb", crash_skb }, { "usercopy", crash_usercopy },
	{ "fortify", do_fortify }, { "in_irq", do_in_irq }, { "work", do_work }, { "both", do_both },
	{ "irq_spin", crash_irq_spin }, { "holding", do_holding }, { "dead_holder", do_dead_holder },
	{ "dead_reader", do_dead_reader }, { "flush", do_flush }, { "stop", do_stop }, { "mixed", do_mixed },
	{ "srcu", do_srcu }, { "percpu", do_percpu },
};
const int more_count = ARRAY_SIZE(more_words);
