// crowd: millions of live slab objects in a minute or two, of many sizes, and memory full of data.
//
//   crowd FILES VMAS FORKS SOCKETS QUEUES MB [SLEEPERS OPEN]    makes them, says so, and stays, with its children, until it
//                                                              is killed
//
//   FILES     files in tmpfs: a dentry and an inode each
//   VMAS      mappings of the process, which each of FORKS children copies: two objects each since Linux 6.3
//   SOCKETS   pairs of sockets with letters on their way, watched by an epoll set, and as many pipes
//   QUEUES    System V message queues with 100 messages each, of 1 to 3000 bytes
//   MB        megabytes in a file, no two pages alike
//   SLEEPERS  processes with OPEN of the files open each, which sleep in six different system calls
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static uint64_t state = 0x9e3779b97f4a7c15;

static uint64_t chance(void) {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static void said(const char *what, long n) {
    printf("LAB-CROWD %ld %s\n", n, what);
    fflush(stdout);
}

static void tell(const char *path, const char *value) {
    int fd = open(path, O_WRONLY);
    if (fd < 0 || write(fd, value, strlen(value)) < 0)
        perror(path);
    close(fd);
}

static const char *path_of(long i) {
    static char path[100];
    // a name of every third is too long to be kept in the dentry
    snprintf(path, sizeof path, "/lab/crowd/d%ld/%s%ld", i / 1000, i % 3 ? "file_" : "a_file_that_has_quite_a_long_name_", i);
    return path;
}

static void files(long n) {
    char path[100];
    for (long i = 0; i < n; i++) {
        if (i % 1000 == 0) {
            snprintf(path, sizeof path, "/lab/crowd/d%ld", i / 1000);
            mkdir(path, 0755);
        }
        if (mknod(path_of(i), S_IFREG | 0644, 0))
            return perror("mknod");
    }
    said("files", n);
}

static void filled(long mb) {
    static uint64_t buf[1 << 17];
    int fd = open("/lab/crowd/data", O_CREAT | O_WRONLY, 0644);
    for (size_t i = 0; i < sizeof buf / 8; i++)
        buf[i] = chance();
    for (long i = 0; i < mb; i++) {
        for (size_t page = 0; page < sizeof buf / 8; page += 512)
            buf[page + chance() % 512] = chance();
        if (write(fd, buf, sizeof buf) != sizeof buf)
            return perror("data");
    }
    close(fd);
    said("MB of data", mb);
}

static void sockets(long n) {
    static char letter[3000];
    int set = epoll_create1(0), pair[2];
    for (long i = 0; i < n; i++) {
        if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair))
            return perror("socketpair");
        for (int letters = chance() % 5; letters > 0; letters--)
            send(pair[0], letter, 1 + chance() % sizeof letter, MSG_DONTWAIT);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = pair[1]};
        epoll_ctl(set, EPOLL_CTL_ADD, pair[1], &event);
        if (pipe(pair))
            return perror("pipe");
    }
    said("pairs of sockets", n);
}

static void queues(long n) {
    static struct { long type; char text[3000]; } message = {1, {0}};
    for (long i = 0; i < n; i++) {
        int queue = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
        if (queue < 0)
            return perror("msgget");
        for (int m = 0; m < 100; m++)
            // more small ones than large
            if (msgsnd(queue, &message, 1 + chance() % (1 + chance() % sizeof message.text), IPC_NOWAIT))
                return perror("msgsnd");
    }
    said("message queues", n);
}

static void mappings(long n, long forks) {
    const size_t page = sysconf(_SC_PAGESIZE);
    char *memory = mmap(NULL, n * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return perror("mmap");
    for (long i = 1; i < n; i += 2)
        if (mprotect(memory + i * page, page, PROT_READ | PROT_WRITE))
            return perror("mprotect");
    said("mappings", n);
    for (long i = 0; i < forks; i++) {
        pid_t child = fork();
        if (child < 0)
            return perror("fork");
        if (!child)
            for (;;)
                pause();
    }
    said("children with them", forks);
}

// for ever, in one of six system calls
static void sleeps(long kind) {
    static int never;
    int ends[2];
    char byte;
    struct epoll_event event;
    for (;;)
        switch (kind % 6) {
        case 0: pause(); break;
        case 1: sleep(100000); break;
        case 2: poll(NULL, 0, -1); break;
        case 3: syscall(SYS_futex, &never, FUTEX_WAIT, 0, NULL, NULL, 0); break;
        case 4: if (!pipe(ends) && read(ends[0], &byte, 1) < 0) pause(); break;
        case 5: if (epoll_wait(epoll_create1(0), &event, 1, -1) < 0) pause(); break;
        }
}

static void sleepers(long n, long open_files, long files) {
    for (long i = 0; i < n; i++) {
        pid_t child = fork();
        if (child < 0)
            return perror("fork");
        if (child)
            continue;
        for (long f = 0; f < open_files; f++)
            if (open(path_of(files ? (i * open_files + f) % files : 0), O_RDONLY) < 0)
                perror("open");
        sleeps(i);
    }
    said("sleepers", n);
}

int main(int argc, char **argv) {
    if (argc != 7 && argc != 9)
        return fprintf(stderr, "crowd FILES VMAS FORKS SOCKETS QUEUES MB [SLEEPERS OPEN]\n"), 2;
    mkdir("/lab/crowd", 0755);
    tell("/proc/sys/vm/max_map_count", "10000000");
    tell("/proc/sys/fs/nr_open", "4000000");
    tell("/proc/sys/fs/file-max", "4000000");
    tell("/proc/sys/net/unix/max_dgram_qlen", "100");
    tell("/proc/sys/kernel/msgmnb", "1000000");
    struct rlimit limit = {4000000, 4000000};
    if (setrlimit(RLIMIT_NOFILE, &limit))
        perror("RLIMIT_NOFILE");
    files(atol(argv[1]));
    // before there are files to copy
    if (argc == 9)
        sleepers(atol(argv[7]), atol(argv[8]), atol(argv[1]));
    mappings(atol(argv[2]), atol(argv[3]));
    sockets(atol(argv[4]));
    queues(atol(argv[5]));
    filled(atol(argv[6]));
    said("is complete", 0);
    for (;;)
        pause();
}
