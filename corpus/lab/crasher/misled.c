// SPDX-License-Identifier: GPL-2.0
/*
 * Ways down on which one is easily misled: the log says something else, the deed was done in an interrupt that met
 * nobody, the stack is not where it was, the one who waits longest is not the one to blame.
 */
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/hrtimer.h>
#include <linux/interrupt.h>
#include <linux/kprobes.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/rcupdate.h>
#include <linux/sched/task_stack.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/timer.h>
#include <linux/version.h>
#include <linux/vmalloc.h>
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 14, 0)
#include <linux/panic_notifier.h>
#endif
#include "crasher.h"

static volatile u64 sum;
static DEFINE_MUTEX(mutex_m);
static DEFINE_SPINLOCK(spin_m);
static DECLARE_COMPLETION(never_m);

static noinline u64 crash_at(unsigned long at)
{
	return *(volatile u64 *)at;
}

/* --- where it happens -------------------------------------------------------------------- */

static noinline void crash_tasklet(unsigned long at)
{
	sum += crash_at(at);
}
static struct tasklet_struct bad_tasklet;

static void do_tasklet(void)
{
	tasklet_init(&bad_tasklet, crash_tasklet, 0x28);
	tasklet_schedule(&bad_tasklet);
	msleep(1000);
}

static noinline void crash_in_ipi(void *at)
{
	sum += crash_at((unsigned long)at);
}

static void do_in_ipi(void)
{
	int here = get_cpu();

	smp_call_function_single(here ? 0 : 1, crash_in_ipi, (void *)0x38, 1);
	put_cpu();
}

static struct rcu_head head_m;

static noinline void crash_rcu_cb(struct rcu_head *head)
{
	sum += crash_at(0x48);
}

static void do_rcu_cb(void)
{
	call_rcu(&head_m, crash_rcu_cb);
	msleep(3000);
}

/* nobody's fault: the timer interrupts whom it meets */
static noinline void crash_panic_timer(struct timer_list *unused)
{
	panic("crasher gives up in a timer");
}
static DEFINE_TIMER(panic_timer, crash_panic_timer);

static void do_panic_timer(void)
{
	mod_timer(&panic_timer, jiffies + HZ / 5);
	msleep(2000);
}

/* whoever comes down first, this one falls over its own feet on the way */
static int crash_notified(struct notifier_block *block, unsigned long what, void *unused)
{
	sum += crash_at(0x58);
	return NOTIFY_DONE;
}
static struct notifier_block bad_notifier = { .notifier_call = crash_notified };

static noinline void crash_notifier(void)
{
	atomic_notifier_chain_register(&panic_notifier_list, &bad_notifier);
	panic("crasher gives up, and tells everybody");
}

static int exit_crashes;

static void do_exit_later(void)
{
	exit_crashes = 1;
}

void crash_on_exit(void)
{
	if (exit_crashes)
		sum += crash_at(0x68);
}

/* what a kprobe calls runs in the middle of somebody else's function */
static noinline int crash_kprobe(struct kprobe *probe, struct pt_regs *regs)
{
	sum += crash_at(0x78);
	return 0;
}
static struct kprobe bad_probe = { .symbol_name = "do_nanosleep", .pre_handler = crash_kprobe };

static void do_kprobe(void)
{
	if (register_kprobe(&bad_probe))
		pr_emerg("crasher: no kprobe\n");
	msleep(3000);
}

/* no BUG(), but what compilers make of code that is never reached */
static noinline void crash_trap(void)
{
	__builtin_trap();
}

/* --- what is said ------------------------------------------------------------------------ */

/* an oops that was none, and a panic with another's words */
static noinline void crash_lies(void)
{
	pr_emerg("BUG: unable to handle page fault for address: ffffdead00000000\n");
	pr_emerg("Oops: 0002 [#1] PREEMPT SMP NOPTI\n");
	pr_emerg("RIP: 0010:ext4_write_begin+0x12/0x3f0\n");
	panic("hung_task: unable to handle kernel NULL pointer dereference: soft lockup - CPU#1 stuck for 22s!");
}

/* --- stacks ------------------------------------------------------------------------------ */

/* far over the guard page at once */
static noinline u64 crash_big_local(u64 seed)
{
	volatile u64 local[8192];

	local[0] = seed;
	local[seed % 8192] = seed;
	return local[0] + sum;
}

static void do_big_local(void)
{
	sum += crash_big_local(42);
}

static noinline int crash_deep_irq(int depth)
{
	volatile char local[512];

	local[depth % 512] = 1;
	return crash_deep_irq(depth + 1) + local[0];
}

static enum hrtimer_restart falls_deep(struct hrtimer *timer)
{
	sum += crash_deep_irq(1);
	return HRTIMER_NORESTART;
}

/* the lock it wants is held by whom it interrupts */
static noinline enum hrtimer_restart crash_irq_wants(struct hrtimer *timer)
{
	spin_lock(&spin_m);
	spin_unlock(&spin_m);
	return HRTIMER_NORESTART;
}
static struct hrtimer timer_m;

static void ring(enum hrtimer_restart (*rings)(struct hrtimer *))
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
	hrtimer_setup(&timer_m, rings, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
#else
	hrtimer_init(&timer_m, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
	timer_m.function = rings;
#endif
	hrtimer_start(&timer_m, ms_to_ktime(50), HRTIMER_MODE_REL_HARD);
}

static void do_deep_irq(void)
{
	ring(falls_deep);
	msleep(1000);
}

static noinline void crash_holds(void)
{
	spin_lock(&spin_m);
	ring(crash_irq_wants);
	for (;;)
		cpu_relax();
}

#ifdef CONFIG_X86_64
/* the return address is text, which is no address; or a number, which is one of user space */
static noinline void crash_smash_far(void)
{
	asm volatile("push $0x41414141\n\tmovl $0x41414141, 4(%%rsp)\n\tret" ::: "memory");
}

static noinline void crash_smash_near(void)
{
	asm volatile("push $0x41414141\n\tret" ::: "memory");
}
#else
static noinline void crash_smash_far(void)
{
	asm volatile("movz x30, #0x4141, lsl #48\n\tret" ::: "x30", "memory");
}

static noinline void crash_smash_near(void)
{
	asm volatile("movz x30, #0x4141, lsl #16\n\tret" ::: "x30", "memory");
}
#endif

/* the word at the end of a stack is there to be looked at */
static noinline void crash_stack_end(void)
{
	unsigned long *end = task_stack_page(current);

	*end = 0x4242424242424242UL;
	msleep(10);
}

/* --- what others are given --------------------------------------------------------------- */

static noinline void crash_memcpy(void)
{
	char from[256] = "from", *to = (char *)0x18;
	size_t size = 200;

	OPTIMIZER_HIDE_VAR(to);
	OPTIMIZER_HIDE_VAR(size);
	memcpy(to, from, size);
}

static noinline void crash_mutex(void)
{
	struct mutex *lock = (struct mutex *)0x40;

	OPTIMIZER_HIDE_VAR(lock);
	mutex_lock(lock);
}

/* --- waiting ----------------------------------------------------------------------------- */

/* others wait for it before it waits itself, for ever */
static int late_root(void *unused)
{
	mutex_lock(&mutex_m);
	msleep_interruptible(3000);
	wait_for_completion(&never_m);
	return 0;
}

static int waits_for_root(void *unused)
{
	mutex_lock(&mutex_m);
	return 0;
}

static void do_late_root(void)
{
	kthread_run(late_root, NULL, "late_root");
	msleep(50);
	kthread_run(waits_for_root, NULL, "waits_for_root");
}

static int sleeps_locked(void *unused)
{
	spin_lock(&spin_m);
	for (;;)
		schedule_timeout_uninterruptible(3600 * HZ);
	return 0;
}

static noinline void crash_spin_asleep(void)
{
	kthread_run(sleeps_locked, NULL, "sleeps_locked");
	msleep(200);
	spin_lock(&spin_m);
}

/* --- RCU ----------------------------------------------------------------------------------- */

static noinline int crash_no_irqs(void *unused)
{
	local_irq_disable();
	for (;;)
		cpu_relax();
	return 0;
}

static noinline int crash_no_preemption(void *unused)
{
	preempt_disable();
	for (;;)
		cpu_relax();
	return 0;
}

static void elsewhere(int (*work)(void *), const char *name)
{
	int here = raw_smp_processor_id();
	struct task_struct *task = kthread_create(work, NULL, "%s", name);

	kthread_bind(task, here ? 0 : 1);
	wake_up_process(task);
	msleep(100);
}

static void do_rcu_irqs(void) { elsewhere(crash_no_irqs, "no_irqs"); synchronize_rcu(); }
static void do_rcu_preempt(void) { elsewhere(crash_no_preemption, "no_preemption"); synchronize_rcu(); }
static void do_rcu_exp(void) { elsewhere(crash_no_preemption, "no_preemption"); synchronize_rcu_expedited(); }

/* --- memory ------------------------------------------------------------------------------ */

static noinline void crash_pages(void)
{
	struct page *last = NULL, *at;

	while ((at = alloc_page(GFP_KERNEL))) {
		at->private = (unsigned long)last;
		last = at;
	}
}

static noinline void crash_vmallocs(void)
{
	void **last = NULL, **at;

	while ((at = vmalloc(1 << 20))) {
		*at = last;
		last = at;
	}
	sum = (u64)last;
}

/* a thread of the kernel takes it all, which nobody can kill */
static noinline int crash_thread_hoards(void *unused)
{
	for (;;)
		sum += (u64)kmalloc(4000, GFP_KERNEL);
	return 0;
}

static void do_thread_hoards(void)
{
	kthread_run(crash_thread_hoards, NULL, "hoards");
}

const struct word misled_words[] = {
	{ "tasklet", do_tasklet }, { "in_ipi", do_in_ipi }, { "rcu_cb", do_rcu_cb }, { "panic_timer", do_panic_timer },
	{ "notifier", crash_notifier }, { "exit", do_exit_later }, { "lies", crash_lies }, { "big_local", do_big_local },
	{ "deep_irq", do_deep_irq }, { "irq_wants", crash_holds }, { "smash_far", crash_smash_far },
	{ "smash_near", crash_smash_near }, { "memcpy", crash_memcpy }, { "mutex", crash_mutex },
	{ "late_root", do_late_root }, { "spin_asleep", crash_spin_asleep }, { "rcu_irqs", do_rcu_irqs },
	{ "rcu_preempt", do_rcu_preempt }, { "pages", crash_pages }, { "vmallocs", crash_vmallocs },
	{ "thread_hoards", do_thread_hoards }, { "stack_end", crash_stack_end }, { "kprobe", do_kprobe },
	{ "trap", crash_trap }, { "rcu_exp", do_rcu_exp },
};
const int misled_count = ARRAY_SIZE(misled_words);
