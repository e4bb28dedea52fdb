// actors: becomes a known tree of processes with known files, sockets, threads, signals, timers, maps,
// namespaces, and so on, and writes what it made ("ACTOR key=value ...") to the file named by its argument.
// It returns when everything stands; the processes stay.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <fcntl.h>
#include <errno.h>
#include <signal.h>
#include <pthread.h>
#include <sched.h>
#include <poll.h>
#include <time.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/time.h>
#include <stdarg.h>
#include <grp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <sys/signalfd.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/ioctl.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/sem.h>
#include <sys/msg.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/ptrace.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
#include <linux/netlink.h>
#include <linux/if_packet.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <mqueue.h>
#include <linux/prctl.h>

static int facts; /* where the facts go */

/* for calls whose failure shows in the facts */
static void try(long result) {
    (void)result;
}

static void fact(const char *fmt, ...) {
    char b[1024];
    va_list a;
    va_start(a, fmt);
    int n = snprintf(b, sizeof b, "ACTOR ");
    n += vsnprintf(b + n, sizeof b - n - 2, fmt, a);
    b[n++] = '\n';
    va_end(a);
    try(write(facts, b, n));
}
static int ready[2];
static void up(void) {
    char c = 1;
    try(write(ready[1], &c, 1));
}
static void rest(void) {
    for (;;)
        pause();
}
static void name(const char *n) {
    prctl(PR_SET_NAME, n);
}
static pid_t actor(const char *n, void (*f)(void)) {
    pid_t p = fork();
    if (!p) {
        name(n);
        f();
        up();
        rest();
    }
    char c;
    try(read(ready[0], &c, 1));
    fact("proc name=%s pid=%d ppid=%d", n, p, getpid());
    return p;
}
static int opn(const char *path, int fl) {
    int fd = open(path, fl, 0644);
    fact("open pid=%d fd=%d path=%s flags=%#x", getpid(), fd, path, fl);
    return fd;
}

static void a_files(void) {
    char p[128], b[4096];
    memset(b, 'x', sizeof b);
    for (int i = 0; i < 16; i++) {
        snprintf(p, sizeof p, "/lab/data/file_%02d", i);
        int fd = opn(p, i % 3 == 0   ? O_RDWR | O_CREAT
                        : i % 3 == 1 ? O_WRONLY | O_CREAT | O_APPEND
                                     : O_RDONLY | O_CREAT);
        for (int k = 0; k <= i; k++)
            try(write(fd, b, sizeof b));
        lseek(fd, i * 100, SEEK_SET);
        fact("offset pid=%d fd=%d pos=%d", getpid(), fd, i * 100);
    }
    int fd = opn("/lab/data/deleted_file", O_RDWR | O_CREAT);
    try(write(fd, "gone", 4));
    unlink("/lab/data/deleted_file");
    opn("/lab/data", O_RDONLY | O_DIRECTORY);
    opn("/dev/null", O_RDWR);
    opn("/proc/self/status", O_RDONLY);
    opn("/sys/kernel/uevent_seqnum", O_RDONLY);
    int pp[2];
    try(pipe(pp));
    try(write(pp[1], "PIPE-CONTENT-LAB", 16));
    fact("pipe pid=%d fds=%d,%d content=PIPE-CONTENT-LAB", getpid(), pp[0], pp[1]);
    int e = eventfd(7, 0);
    fact("eventfd pid=%d fd=%d value=7", getpid(), e);
    int ep = epoll_create1(0);
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = 0x1ab0001};
    epoll_ctl(ep, EPOLL_CTL_ADD, pp[0], &ev);
    ev.data.u64 = 0x1ab0002;
    epoll_ctl(ep, EPOLL_CTL_ADD, e, &ev);
    fact("epoll pid=%d fd=%d watches=%d,%d", getpid(), ep, pp[0], e);
    int t = timerfd_create(CLOCK_MONOTONIC, 0);
    struct itimerspec its = {.it_value = {7200, 0}};
    timerfd_settime(t, 0, &its, 0);
    fact("timerfd pid=%d fd=%d in=7200s", getpid(), t);
    sigset_t ss;
    sigemptyset(&ss);
    sigaddset(&ss, SIGUSR1);
    fact("signalfd pid=%d fd=%d", getpid(), signalfd(-1, &ss, 0));
    int in = inotify_init();
    inotify_add_watch(in, "/lab/data", IN_CREATE | IN_DELETE);
    fact("inotify pid=%d fd=%d watch=/lab/data", getpid(), in);
    int m = memfd_create("lab_memfd", 0);
    try(ftruncate(m, 8192));
    char *mm = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, m, 0);
    strcpy(mm, "memfd content");
    fact("memfd pid=%d fd=%d addr=%p", getpid(), m, mm);
    int fl = opn("/lab/data/file_03", O_RDWR);
    flock(fl, LOCK_EX);
    fact("flock pid=%d fd=%d path=/lab/data/file_03 type=EX", getpid(), fl);
    int fk = opn("/lab/data/file_06", O_RDWR);
    struct flock lk = {.l_type = F_WRLCK, .l_start = 10, .l_len = 90};
    fcntl(fk, F_SETLK, &lk);
    fact("posixlock pid=%d fd=%d path=/lab/data/file_06 start=10 end=99 type=WR", getpid(), fk);
    dup2(fk, 200);
    fact("dup pid=%d fd=200 of=%d", getpid(), fk);
}
static void sa(struct sockaddr_in *a, int port) {
    memset(a, 0, sizeof *a);
    a->sin_family = AF_INET;
    a->sin_port = htons(port);
    a->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
}
static void a_tcpserver(void) {
    struct sockaddr_in a;
    int one = 1, s = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, 4);
    sa(&a, 7777);
    if (bind(s, (void *)&a, sizeof a) || listen(s, 13))
        fact("tcp listen err=%d", errno);
    fact("tcp pid=%d fd=%d listen=127.0.0.1:7777 backlog=13", getpid(), s);
    struct sockaddr_in6 b = {
        .sin6_family = AF_INET6, .sin6_port = htons(7778), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int s6 = socket(AF_INET6, SOCK_STREAM, 0);
    if (bind(s6, (void *)&b, sizeof b) || listen(s6, 5))
        fact("tcp6 err=%d", errno);
    fact("tcp6 pid=%d fd=%d listen=[::1]:7778", getpid(), s6);
    int u = socket(AF_INET, SOCK_DGRAM, 0);
    sa(&a, 5353);
    try(bind(u, (void *)&a, sizeof a));
    fact("udp pid=%d fd=%d bind=127.0.0.1:5353", getpid(), u);
    if (fork() == 0) {
        name("lab_tcpworker");
        fact("proc name=lab_tcpworker pid=%d ppid=%d", getpid(), getppid());
        int c = accept(s, 0, 0);
        fact("tcp pid=%d fd=%d accepted", getpid(), c);
        rest();
    }
}
static void a_tcpclient(void) {
    struct sockaddr_in a, me;
    socklen_t l = sizeof me;
    sa(&a, 7777);
    int s = socket(AF_INET, SOCK_STREAM, 0);
    int r = connect(s, (void *)&a, sizeof a);
    getsockname(s, (void *)&me, &l);
    int w = write(s, "LAB-TCP-UNREAD", 14);
    fact("tcp pid=%d fd=%d rc=%d local=127.0.0.1:%d remote=127.0.0.1:7777 sent=%d unread=LAB-TCP-UNREAD",
      getpid(), s, r, ntohs(me.sin_port), w);
    int p = socket(AF_INET, SOCK_STREAM, 0);
    r = connect(p, (void *)&a, sizeof a);
    l = sizeof me;
    getsockname(p, (void *)&me, &l);
    fact("tcp pid=%d fd=%d rc=%d local=127.0.0.1:%d in accept queue of 7777", getpid(), p, r,
      ntohs(me.sin_port));
    int u = socket(AF_INET, SOCK_DGRAM, 0);
    sa(&a, 5353);
    connect(u, (void *)&a, sizeof a);
    for (int i = 0; i < 3; i++)
        try(write(u, "LAB-UDP-QUEUED", 14));
    fact("udp pid=%d fd=%d queued=3 x LAB-UDP-QUEUED", getpid(), u);
}
static void a_unix(void) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    strcpy(a.sun_path, "/lab/sock/stream");
    if (bind(s, (void *)&a, sizeof a) || listen(s, 4))
        fact("unix err=%d", errno);
    fact("unix pid=%d fd=%d path=/lab/sock/stream stream listen", getpid(), s);
    int d = socket(AF_UNIX, SOCK_DGRAM, 0);
    memcpy(a.sun_path, "\0lab_abstract", 13);
    try(bind(d, (void *)&a, sizeof(sa_family_t) + 13));
    fact("unix pid=%d fd=%d abstract=@lab_abstract dgram", getpid(), d);
    int sv[2];
    try(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv));
    try(write(sv[0], "LAB-UNIX-QUEUED", 15));
    fact("unix pid=%d pair=%d,%d seqpacket queued=LAB-UNIX-QUEUED", getpid(), sv[0], sv[1]);
    /* a file descriptor in flight */
    struct msghdr m = {0};
    char c = 'f', cb[CMSG_SPACE(4)];
    struct iovec iov = {&c, 1};
    m.msg_iov = &iov;
    m.msg_iovlen = 1;
    m.msg_control = cb;
    m.msg_controllen = sizeof cb;
    struct cmsghdr *cm = CMSG_FIRSTHDR(&m);
    cm->cmsg_level = SOL_SOCKET;
    cm->cmsg_type = SCM_RIGHTS;
    cm->cmsg_len = CMSG_LEN(4);
    int f = open("/lab/data/inflight", O_RDWR | O_CREAT, 0600);
    memcpy(CMSG_DATA(cm), &f, 4);
    int sp2[2];
    try(socketpair(AF_UNIX, SOCK_STREAM, 0, sp2));
    int r = sendmsg(sp2[0], &m, 0);
    close(f);
    fact("scm pid=%d pair=%d,%d rc=%d in-flight=/lab/data/inflight", getpid(), sp2[0], sp2[1], r);
    int nl = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    struct sockaddr_nl n = {.nl_family = AF_NETLINK, .nl_groups = 1};
    try(bind(nl, (void *)&n, sizeof n));
    fact("netlink pid=%d fd=%d proto=ROUTE", getpid(), nl);
    int pk = socket(AF_PACKET, SOCK_RAW, htons(3));
    fact("packet pid=%d fd=%d", getpid(), pk);
    int rw = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
    fact("raw pid=%d fd=%d proto=ICMP", getpid(), rw);
    struct sock_filter code[] = {{0x06, 0, 0, 0x1234}};
    struct sock_fprog bp = {1, code};
    int r2 = setsockopt(pk, SOL_SOCKET, SO_ATTACH_FILTER, &bp, sizeof bp);
    fact("cbpf pid=%d fd=%d rc=%d ret=0x1234", getpid(), pk, r2);
}
static int futexw, tp[2];
static void *th_futex(void *x) {
    name("lab_thr_futex");
    fact("thread name=lab_thr_futex tid=%d pid=%d futex=%p", (int)syscall(SYS_gettid), getpid(),
      (void *)&futexw);
    up();
    syscall(SYS_futex, &futexw, 0, 0, 0, 0, 0);
    return 0;
}
static void *th_nano(void *x) {
    name("lab_thr_nano");
    fact("thread name=lab_thr_nano tid=%d pid=%d", (int)syscall(SYS_gettid), getpid());
    up();
    for (;;)
        sleep(7200);
}
static void *th_pipe(void *x) {
    char c;
    name("lab_thr_pipe");
    fact("thread name=lab_thr_pipe tid=%d pid=%d", (int)syscall(SYS_gettid), getpid());
    up();
    try(read(tp[0], &c, 1));
    return 0;
}
static void *th_poll(void *x) {
    name("lab_thr_poll");
    fact("thread name=lab_thr_poll tid=%d pid=%d", (int)syscall(SYS_gettid), getpid());
    up();
    struct pollfd p = {tp[0], POLLIN, 0};
    poll(&p, 1, -1);
    return 0;
}
static void *th_epoll(void *x) {
    name("lab_thr_epoll");
    int e = epoll_create1(0);
    struct epoll_event ev = {.events = EPOLLIN};
    epoll_ctl(e, EPOLL_CTL_ADD, tp[0], &ev);
    fact("thread name=lab_thr_epoll tid=%d pid=%d", (int)syscall(SYS_gettid), getpid());
    up();
    epoll_wait(e, &ev, 1, -1);
    return 0;
}
static void *th_sigw(void *x) {
    name("lab_thr_sigw");
    sigset_t s;
    int g;
    sigemptyset(&s);
    sigaddset(&s, SIGRTMIN + 3);
    fact("thread name=lab_thr_sigw tid=%d pid=%d", (int)syscall(SYS_gettid), getpid());
    up();
    sigwait(&s, &g);
    return 0;
}
static void a_threads(void) {
    pthread_t t;
    void *(*f[])(void *) = {th_futex, th_nano, th_pipe, th_poll, th_epoll, th_sigw};
    char c;
    int save[2] = {ready[0], ready[1]};
    int mine[2];
    try(pipe(tp) || pipe(mine));
    ready[0] = mine[0];
    ready[1] = mine[1];
    for (int i = 0; i < 6; i++) {
        pthread_create(&t, 0, f[i], 0);
        try(read(mine[0], &c, 1));
    }
    usleep(50000);
    ready[0] = save[0];
    ready[1] = save[1];
}
static void a_child(void) {
    if (!fork()) {
        name("lab_grand1");
        fact("proc name=lab_grand1 pid=%d ppid=%d", getpid(), getppid());
        if (!fork()) {
            name("lab_grand2");
            fact("proc name=lab_grand2 pid=%d ppid=%d", getpid(), getppid());
            rest();
        }
        rest();
    }
    usleep(100000);
}
static void a_zombie(void) {
    pid_t p = fork();
    if (!p) {
        name("lab_zombie");
        _exit(42);
    }
    usleep(100000);
    fact("zombie name=lab_zombie pid=%d ppid=%d exit=42", p, getpid());
}
static void a_stopper(void) {
    pid_t p = fork();
    if (!p) {
        name("lab_stopped");
        raise(SIGSTOP);
        rest();
    }
    usleep(100000);
    fact("stopped name=lab_stopped pid=%d", p);
}
static void a_tracer(void) {
    pid_t p = fork();
    if (!p) {
        name("lab_tracee");
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        rest();
    }
    int st;
    waitpid(p, &st, 0);
    fact("traced name=lab_tracee pid=%d tracer=%d", p, getpid());
}
static void a_vforker(void) {
    if (!fork()) {
        name("lab_vforkpar");
        fact("proc name=lab_vforkpar pid=%d ppid=%d state=D(vfork)", getpid(), getppid());
        if (!vfork()) {
            syscall(SYS_prctl, PR_SET_NAME, "lab_vforkchild", 0, 0, 0);
            for (;;)
                syscall(SYS_ppoll, 0, 0, 0, 0, 0);
        }
        rest();
    }
    usleep(100000);
}
static void onsig(int s) {
}
static void a_signals(void) {
    struct sigaction h = {.sa_handler = onsig, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &h, 0);
    sigaction(SIGUSR2, &h, 0);
    signal(SIGPIPE, SIG_IGN);
    sigset_t s;
    sigemptyset(&s);
    sigaddset(&s, SIGUSR2);
    sigaddset(&s, SIGRTMIN + 2);
    sigprocmask(SIG_BLOCK, &s, 0);
    union sigval v = {.sival_int = 0x1ab};
    kill(getpid(), SIGUSR2);
    sigqueue(getpid(), SIGRTMIN + 2, v);
    sigqueue(getpid(), SIGRTMIN + 2, v);
    fact("signals pid=%d handler=%p blocked=USR2,RTMIN+2 pending=USR2,RTMIN+2 x2 value=0x1ab ignored=PIPE",
      getpid(), (void *)onsig);
    timer_t t;
    struct sigevent se = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    timer_create(CLOCK_MONOTONIC, &se, &t);
    struct itimerspec its = {.it_value = {7200, 0}, .it_interval = {5, 0}};
    timer_settime(t, 0, &its, 0);
    struct itimerval iv = {.it_value = {7200, 0}};
    setitimer(ITIMER_REAL, &iv, 0);
    fact("timers pid=%d posix=7200s/5s itimer=7200s", getpid());
}
static void a_mem(void) {
    unsigned long *p = mmap((void *)0x200000000000UL, 1 << 20, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (p == MAP_FAILED)
        p = mmap((void *)0x2000000000UL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (unsigned i = 0; i < (1 << 20) / 8; i += 512) {
        p[i] = 0x4c41425041474500UL + i / 512;
        p[i + 1] = (unsigned long)&p[i];
    }
    fact("mem pid=%d anon=%p len=1M word0 of page n = 0x4c41425041474500+n, word1 = its own address", getpid(),
      (void *)p);
    char *h = malloc(300000);
    strcpy(h, "LAB-HEAP-STRING");
    fact("mem pid=%d heap=%p text=LAB-HEAP-STRING", getpid(), h);
    int fd = open("/lab/data/file_15", O_RDWR | O_CREAT, 0644);
    try(ftruncate(fd, 65536));
    char *f = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (f != MAP_FAILED)
        strcpy(f, "LAB-MAPPED-FILE");
    fact("mem pid=%d filemap=%p len=65536 path=/lab/data/file_15", getpid(), f);
    void *g = mmap(0, 4096 * 16, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    fact("mem pid=%d guard=%p len=65536 prot=NONE", getpid(), g);
    void *big = mmap(0, 4 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(big, 4 << 20, MADV_HUGEPAGE);
    memset((void *)(((unsigned long)big + (2 << 20) - 1) & ~((2UL << 20) - 1)), 0x68, 2 << 20);
    fact("mem pid=%d thp=%p len=4M (2M aligned part filled with 68, huge if THP is on)", getpid(), big);
    try(mlock(p, 65536));
    prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, p, 1 << 20, "lab_region");
}
static void a_sysv(void) {
    int m = shmget(0x1ab1, 65536, IPC_CREAT | 0640);
    char *p = shmat(m, 0, 0);
    if (p != (void *)-1)
        strcpy(p, "LAB-SHM");
    fact("shm pid=%d key=0x1ab1 id=%d addr=%p", getpid(), m, p);
    int s = semget(0x1ab2, 3, IPC_CREAT | 0600);
    semctl(s, 1, SETVAL, 9);
    fact("sem key=0x1ab2 id=%d val[1]=9", s);
    int q = msgget(0x1ab3, IPC_CREAT | 0600);
    struct {
        long t;
        char b[32];
    } mb = {5, "LAB-MSG"};
    msgsnd(q, &mb, 8, 0);
    msgsnd(q, &mb, 8, 0);
    fact("msg key=0x1ab3 id=%d queued=2 type=5 text=LAB-MSG", q);
    struct mq_attr at = {.mq_maxmsg = 4, .mq_msgsize = 64};
    mqd_t mq = mq_open("/lab_mq", O_CREAT | O_RDWR, 0600, &at);
    int r = mq_send(mq, "LAB-MQ", 7, 3);
    fact("mqueue fd=%d name=/lab_mq rc=%d prio=3", (int)mq, r);
}
static void a_cred(void) {
    if (setgroups(2, (gid_t[]){3001, 3002}) || setresgid(2345, 2346, 2347) || setresuid(1234, 1235, 1236)) {
    }
    fact("cred pid=%d uid=1234 euid=1235 suid=1236 gid=2345 egid=2346 sgid=2347 groups=3001,3002 caps dropped",
      getpid());
}
static void a_sched(void) {
    struct sched_param p = {.sched_priority = 17};
    int r = sched_setscheduler(0, SCHED_FIFO, &p);
    cpu_set_t c;
    CPU_ZERO(&c);
    CPU_SET(1, &c);
    sched_setaffinity(0, sizeof c, &c);
    struct rlimit l = {333, 444};
    setrlimit(RLIMIT_NOFILE, &l);
    fact("sched pid=%d policy=FIFO prio=17 rc=%d affinity=cpu1 rlimit_nofile=333/444", getpid(), r);
    if (!fork()) {
        name("lab_nice");
        struct sched_param z = {0};
        sched_setscheduler(0, SCHED_BATCH, &z);
        try(nice(11));
        fact("sched name=lab_nice pid=%d policy=BATCH nice=11", getpid());
        rest();
    }
    usleep(50000);
}
static void a_ns(void) {
    int r = unshare(CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID);
    fact("ns pid=%d unshare rc=%d", getpid(), r);
    try(sethostname("labcontainer", 12));
    mount("none", "/", 0, MS_REC | MS_PRIVATE, 0);
    mkdir("/lab/ns", 0755);
    mount("lab_nstmpfs", "/lab/ns", "tmpfs", 0, "size=1m");
    pid_t p = fork();
    if (!p) {
        name("lab_ns_init");
        if (!fork()) {
            name("lab_ns_child");
            rest();
        }
        rest();
    }
    usleep(50000);
    fact("ns name=lab_ns_init pid=%d inner_pid=1 child=lab_ns_child inner_pid=2 hostname=labcontainer "
      "mount=/lab/ns",
      p);
}
static int bpf(int c, union bpf_attr *a) {
    return syscall(SYS_bpf, c, a, sizeof *a);
}
static void a_bpf(void) {
    union bpf_attr a;
    memset(&a, 0, sizeof a);
    a.map_type = BPF_MAP_TYPE_HASH;
    a.key_size = 4;
    a.value_size = 8;
    a.max_entries = 16;
    strcpy(a.map_name, "lab_map");
    int m = bpf(BPF_MAP_CREATE, &a);
    for (uint32_t k = 1; k <= 3; k++) {
        uint64_t v = 0x1ab0000 + k;
        memset(&a, 0, sizeof a);
        a.map_fd = m;
        a.key = (uint64_t)(unsigned long)&k;
        a.value = (uint64_t)(unsigned long)&v;
        bpf(BPF_MAP_UPDATE_ELEM, &a);
    }
    struct bpf_insn in[] = {{.code = 0xb7, .dst_reg = 0, .imm = 0x77}, {.code = 0x95}};
    memset(&a, 0, sizeof a);
    a.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
    a.insns = (uint64_t)(unsigned long)in;
    a.insn_cnt = 2;
    a.license = (uint64_t)(unsigned long)"GPL";
    strcpy(a.prog_name, "lab_prog");
    int pf = bpf(BPF_PROG_LOAD, &a);
    fact("bpf pid=%d map_fd=%d name=lab_map entries=3 prog_fd=%d name=lab_prog errno=%d", getpid(), m, pf,
      errno);
}
static void a_args(void) {
    execl("/proc/self/exe", "lab_args", "--hold", "--alpha=1", "beta gamma", (char *)0);
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "--hold")) {
        name("lab_args");
        fact("args");
        char c = 1;
        try(write(atoi(getenv("LAB_READY")), &c, 1));
        rest();
    }
    facts = open(argv[1], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (pipe(ready))
        return 1;
    char b[16];
    snprintf(b, sizeof b, "%d", ready[1]);
    setenv("LAB_READY", b, 1);
    setenv("LAB_SECRET", "xyzzy-123", 1);
    pid_t p = fork();
    if (p) {
        char c;
        int w = 0;
        while (waitpid(p, &w, WNOHANG) == 0) {
            struct stat st;
            if (!stat("/lab/actors.up", &st))
                break;
            usleep(20000);
        }
        (void)c;
        return 0;
    }
    setsid();
    name("lab_root");
    fact("proc name=lab_root pid=%d", getpid());
    actor("lab_files", a_files);
    actor("lab_tcpserver", a_tcpserver);
    actor("lab_tcpclient", a_tcpclient);
    actor("lab_unix", a_unix);
    actor("lab_threads", a_threads);
    actor("lab_childA", a_child);
    actor("lab_zombiepar", a_zombie);
    actor("lab_stopper", a_stopper);
    actor("lab_tracer", a_tracer);
    actor("lab_vforker", a_vforker);
    actor("lab_signals", a_signals);
    actor("lab_mem", a_mem);
    actor("lab_sysv", a_sysv);
    actor("lab_cred", a_cred);
    actor("lab_sched", a_sched);
    actor("lab_ns", a_ns);
    actor("lab_bpf", a_bpf);
    actor("lab_args", a_args);
    close(open("/lab/actors.up", O_CREAT | O_WRONLY, 0644));
    rest();
}
