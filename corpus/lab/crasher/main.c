// SPDX-License-Identifier: GPL-2.0
/*
 * crasher: a small kernel module that brings its kernel down in as many ways as
 * kernels go down, one word written to /proc/crasher each, so that it can be asked
 * of a dump what happened.
 *
 * Words that only make threads wait (hold, abba, ring, rwsem, self, completion,
 * waitq, sema) return; all others are the end, or a WARN or an oops. more.c,
 * late.c and misled.c have further words. With dies=1 it comes down while it is loaded.
 */
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/proc_fs.h>
#include <linux/refcount.h>
#include <linux/rtmutex.h>
#include <linux/rwsem.h>
#include <linux/semaphore.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/timer.h>
#include <linux/uaccess.h>
#include <linux/wait.h>
#include "crasher.h"

struct thing {
	u64 first;
	struct thing *next;
	struct list_head link;
	void (*act)(struct thing *);
	char text[64];
};

static struct thing *nothing;	/* NULL, for ever */
static const char fixed[32] = "not to be written";
static u64 data_code[4] = { 0xc3c3c3c3c3c3c3c3ULL };
static volatile u64 zero, sum;

static DEFINE_MUTEX(mutex_a);
static DEFINE_MUTEX(mutex_b);
static DEFINE_MUTEX(mutex_c);
static DECLARE_RWSEM(sem_a);
static DECLARE_RWSEM(sem_b);
static DEFINE_SPINLOCK(spin_a);
static DEFINE_SPINLOCK(spin_b);
static DEFINE_RT_MUTEX(rt_a);
static DEFINE_RT_MUTEX(rt_b);
static struct semaphore counted;
static DECLARE_COMPLETION(never);
static DECLARE_WAIT_QUEUE_HEAD(nobody_wakes);

/* --- memory ------------------------------------------------------------------ */

static noinline u64 crash_null(struct thing *at)
{
	return (u64)READ_ONCE(at->act);
}

static noinline void crash_null_write(struct thing *at)
{
	WRITE_ONCE(at->text[8], 1);
}

static void crash_null_timer(struct timer_list *unused)
{
	sum += crash_null(nothing);
}
static DEFINE_TIMER(null_timer, crash_null_timer);

static noinline void crash_jump(struct thing *at)
{
	at->act(at);
}

static noinline u64 crash_uaf(void)
{
	struct thing *at = kmalloc(sizeof(*at), GFP_KERNEL);

	at->next = at;
	OPTIMIZER_HIDE_VAR(at);
	kfree(at);
	return READ_ONCE(at->next)->first;
}

static noinline u64 crash_wild(void)
{
	return READ_ONCE(*(u64 *)0x1234567812345678ULL);
}

static noinline u64 crash_paging(void)
{
	/* kernel addresses of which nothing is mapped: the hole above the kernel's text */
	return READ_ONCE(*(u64 *)0xfffffffffffff010ULL);
}

static noinline void crash_rodata(void)
{
	char *p = (char *)fixed;

	OPTIMIZER_HIDE_VAR(p);
	*(volatile char *)p = 'N';
}

static noinline void crash_nx(void)
{
	void (*f)(void) = (void *)data_code;

	OPTIMIZER_HIDE_VAR(f);
	f();
}

/* --- the CPU and the compiler say no ------------------------------------------- */

static noinline u64 crash_divide(void)
{
	return 1000 / zero;
}

static noinline void crash_bug(struct thing *at)
{
	BUG_ON(!at);
}

static noinline void crash_warn(struct thing *at)
{
	WARN(!at, "crasher warns");
}

static noinline void crash_opcode(void)
{
#ifdef CONFIG_X86_64
	/* not UD2, which stands for BUG() and WARN() */
	asm volatile(".byte 0x0f, 0xff, 0xc0");
#else
	asm volatile(".inst 0");
#endif
}

static noinline void crash_canary(void)
{
	char local[16];
	char *p = local;
	int i;

	OPTIMIZER_HIDE_VAR(p);
	for (i = 0; i < 48; i++)
		p[i] = 'A';
}

static noinline int crash_deep(int depth)
{
	volatile char local[512];

	local[depth % 512] = 1;
	return crash_deep(depth + 1) + local[0];
}

/* --- structures ---------------------------------------------------------------- */

static noinline void crash_list_del(void)
{
	struct thing *at = kzalloc(sizeof(*at), GFP_KERNEL);
	LIST_HEAD(head);

	list_add(&at->link, &head);
	list_del(&at->link);
	list_del(&at->link);
}

static noinline void crash_list_add(void)
{
	struct thing *at = kzalloc(sizeof(*at), GFP_KERNEL), *other = kzalloc(sizeof(*at), GFP_KERNEL);
	LIST_HEAD(head);

	list_add(&at->link, &head);
	at->link.prev = (void *)at;
	list_add_tail(&other->link, &at->link);
}

static noinline void crash_refcount(void)
{
	refcount_t count = REFCOUNT_INIT(0);

	refcount_inc(&count);
}

static noinline void crash_bad_page(void)
{
	struct page *page = alloc_page(GFP_KERNEL);

	page->mapping = (void *)0xdead000000001000ULL;
	__free_page(page);
}

static noinline void crash_double_free(void)
{
	void *at = kmalloc(96, GFP_KERNEL);

	kfree(at);
	OPTIMIZER_HIDE_VAR(at);
	kfree(at);
}

/* --- time ------------------------------------------------------------------------ */

static noinline void crash_soft(void)
{
	preempt_disable();
	for (;;)
		cpu_relax();
}

static noinline void crash_hard(void)
{
	local_irq_disable();
	for (;;)
		cpu_relax();
}

static noinline void crash_rcu(void)
{
	rcu_read_lock();
	for (;;)
		cpu_relax();
}

static int crash_spin(void *first)
{
	spinlock_t *a = first ? &spin_a : &spin_b, *b = first ? &spin_b : &spin_a;

	spin_lock(a);
	mdelay(300);
	spin_lock(b);
	return 0;
}

static noinline void crash_atomic(void)
{
	spin_lock(&spin_a);
	msleep(10);
	spin_unlock(&spin_a);
}

/* --- waiting ------------------------------------------------------------------- */

static int holder(void *unused)
{
	mutex_lock(&mutex_a);
	for (;;)
		msleep_interruptible(3600 * MSEC_PER_SEC);
	return 0;
}

static int waiter(void *unused)
{
	mutex_lock(&mutex_a);
	return 0;
}

static struct mutex *const around[] = { &mutex_a, &mutex_b, &mutex_c };

/* takes one of three mutexes, then the next: of as many threads as there are mutexes, each waits for another */
static int two_mutexes(void *which)
{
	long n = (long)which, count = n >> 8;

	n &= 0xff;
	mutex_lock(around[n]);
	msleep(200);
	mutex_lock_nested(around[(n + 1) % count], 1);
	return 0;
}

static int two_sems(void *first)
{
	down_write(first ? &sem_a : &sem_b);
	msleep(200);
	if (first)
		down_read(&sem_b);
	else
		down_write_nested(&sem_a, 1);
	return 0;
}

static int two_rt(void *first)
{
	rt_mutex_lock(first ? &rt_a : &rt_b);
	msleep(200);
	/* one may be interrupted, lest the kernel's own check for chains ends it */
	rt_mutex_lock(first ? &rt_b : &rt_a);
	return 0;
}

static int itself(void *unused)
{
	mutex_lock(&mutex_a);
	mutex_lock_nested(&mutex_a, 1);
	return 0;
}

static int completes(void *unused)
{
	wait_for_completion(&never);
	return 0;
}

static int waits(void *unused)
{
	wait_event(nobody_wakes, zero != 0);
	return 0;
}

static int counts(void *unused)
{
	down(&counted);
	down(&counted);
	return 0;
}

static void thread(int (*work)(void *), long with, const char *name)
{
	kthread_run(work, (void *)with, "%s", name);
	msleep(50);
}

static void do_null(void) { sum += crash_null(nothing); }
static void do_null_write(void) { crash_null_write(nothing); }
static void do_null_timer(void) { mod_timer(&null_timer, jiffies + 5); msleep(1000); }
static void do_jump(void)
{
	struct thing *at = kzalloc(sizeof(*at), GFP_KERNEL);

	crash_jump(at);
}
static void do_uaf(void) { sum += crash_uaf(); }
static void do_wild(void) { sum += crash_wild(); }
static void do_paging(void) { sum += crash_paging(); }
static void do_divide(void) { sum += crash_divide(); }
static void do_bug(void) { crash_bug(nothing); }
static void do_warn(void) { crash_warn(nothing); }
static void do_deep(void) { sum += crash_deep(1); }
static void do_panic(void) { panic("crasher gives up: %d", 42); }
static void do_spin(void)
{
	kthread_run(crash_spin, (void *)1, "spin_ab");
	kthread_run(crash_spin, NULL, "spin_ba");
}
static void do_hold(void) { thread(holder, 0, "crash_holder"); thread(waiter, 0, "crash_waiter"); }
static void do_abba(void) { thread(two_mutexes, 0x200, "crash_ab"); thread(two_mutexes, 0x201, "crash_ba"); }
static void do_ring(void)
{
	thread(two_mutexes, 0x300, "crash_ab");
	thread(two_mutexes, 0x301, "crash_bc");
	thread(two_mutexes, 0x302, "crash_ca");
}
static void do_rwsem(void) { thread(two_sems, 1, "sem_ab"); thread(two_sems, 0, "sem_ba"); }
static void do_rt(void) { thread(two_rt, 1, "rt_ab"); thread(two_rt, 0, "rt_ba"); }
static void do_self(void) { thread(itself, 0, "crash_self"); }
static void do_completion(void) { thread(completes, 0, "crash_compl"); }
static void do_waitq(void) { thread(waits, 0, "crash_waitq"); }
static void do_sema(void) { thread(counts, 0, "crash_sema"); }

static const struct word words[] = {
	{ "null", do_null }, { "null_write", do_null_write }, { "null_timer", do_null_timer }, { "jump", do_jump },
	{ "uaf", do_uaf }, { "wild", do_wild }, { "paging", do_paging }, { "rodata", crash_rodata }, { "nx", crash_nx },
	{ "divide", do_divide }, { "bug", do_bug }, { "warn", do_warn }, { "opcode", crash_opcode },
	{ "canary", crash_canary }, { "deep", do_deep }, { "panic", do_panic }, { "list_del", crash_list_del },
	{ "list_add", crash_list_add }, { "refcount", crash_refcount }, { "bad_page", crash_bad_page },
	{ "double_free", crash_double_free }, { "soft", crash_soft }, { "hard", crash_hard }, { "rcu", crash_rcu },
	{ "spin", do_spin }, { "atomic", crash_atomic }, { "hold", do_hold }, { "abba", do_abba }, { "ring", do_ring },
	{ "rwsem", do_rwsem }, { "rt", do_rt }, { "self", do_self }, { "completion", do_completion },
	{ "waitq", do_waitq }, { "sema", do_sema },
};

static int act(const struct word *of, int count, const char *line)
{
	int i;

	for (i = 0; i < count; i++) {
		if (sysfs_streq(line, of[i].word)) {
			of[i].act();
			return 1;
		}
	}
	return 0;
}

static ssize_t crasher_write(struct file *file, const char __user *from, size_t len, loff_t *pos)
{
	char line[32];

	if (len >= sizeof(line) || copy_from_user(line, from, len))
		return -EFAULT;
	line[len] = 0;
	if (act(words, ARRAY_SIZE(words), line) || act(more_words, more_count, line) || act(late_words, late_count, line) ||
	    act(misled_words, misled_count, line))
		return len;
	return -EINVAL;
}

static const struct proc_ops crasher_ops = { .proc_write = crasher_write };

static bool dies;
module_param(dies, bool, 0);

static noinline int __init crash_init(struct thing *at)
{
	return !at->next;
}

static int __init crasher_init(void)
{
	if (dies)
		return crash_init(nothing);
	sema_init(&counted, 1);
	return proc_create("crasher", 0600, NULL, &crasher_ops) ? 0 : -ENOMEM;
}
module_init(crasher_init);

static void __exit crasher_exit(void)
{
	remove_proc_entry("crasher", NULL);
	crash_on_exit();
}
module_exit(crasher_exit);

MODULE_DESCRIPTION("brings its kernel down, so that a dump can be asked what happened");
MODULE_LICENSE("GPL");
