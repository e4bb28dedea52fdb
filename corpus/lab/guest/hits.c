/* hits DEED COUNT [FILE]: does one thing a known number of times, under a known name, for probes to be held against.
 *
 * dentries  looks for COUNT names that /proc does not have, as "hits-dentries"
 * reads     reads FILE COUNT times, i % 100 + 1 bytes the i-th time
 * blocks    reads FILE COUNT times past the page cache, 4096 bytes each
 * mounts    tries COUNT mounts, and says how many failed with ENOSPC
 * opens     opens COUNT files that are not there
 * calls     calls hits_step(i % 1024), from hits_outer, COUNT times
 * deeps     calls hits_deep(i % 10), which calls itself down to 0 and returns what it was given, COUNT times
 * pingpong  hands a byte to and fro with another process COUNT times, and says how often the two gave up their CPU
 * sleeps    sleeps COUNT times for i % 10 + 1 milliseconds
 * writes    writes a byte to /dev/null COUNT times
 * pages     reads FILE twice, COUNT pages of it each time, one by one, and says how many pages came
 * touches   touches COUNT pages that it has never touched, and says how many faults it had
 * brks      moves the end of its heap COUNT times
 * locks     four processes append to FILE COUNT times each, and wait for the disk each time
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile long sink;

__attribute__((noinline)) long hits_step(long n) { return sink = n * 3; }
__attribute__((noinline)) void hits_outer(long n) { sink = hits_step(n % 1024) + 1; }

__attribute__((noinline)) long hits_deep(long n)
{
    return n ? hits_deep(n - 1) + 1 : (sink = 0);
}

static void dentries(long count)
{
    for (long i = 0; i < count; i++)
        access("/proc/no_such_thing", F_OK);
}

static long reads(long count, const char *file)
{
    char buffer[100];
    long sum = 0;
    int fd = open(file, O_RDONLY);
    for (long i = 0; i < count; i++)
        sum += read(fd, buffer, i % 100 + 1);
    return sum;
}

static long blocks(long count, const char *file)
{
    void *buffer;
    long sum = 0;
    int fd = open(file, O_RDONLY | O_DIRECT);
    if (fd < 0 || posix_memalign(&buffer, 4096, 4096))
        return -1;
    for (long i = 0; i < count; i++)
        sum += pread(fd, buffer, 4096, i % 64 * 4096);
    return sum;
}

static long mounts(long count)
{
    long failed = 0;
    for (long i = 0; i < count; i++) {
        mkdir("/tmp/hits", 0700);
        if (mount("hits", "/tmp/hits", "tmpfs", 0, "size=4k") && errno == ENOSPC)
            failed++;
    }
    return failed;
}

static long opens(long count)
{
    long failed = 0;
    for (long i = 0; i < count; i++)
        failed += open("/tmp/no such file", O_RDONLY) < 0 && errno == ENOENT;
    return failed;
}

static long pingpong(long count)
{
    struct rusage own, others;
    long before;
    int to[2], fro[2];
    char c = 'x';
    if (pipe(to) || pipe(fro))
        exit(1);
    if (fork() == 0) {
        for (long i = 0; i < count; i++)
            if (read(to[0], &c, 1) != 1 || write(fro[1], &c, 1) != 1)
                exit(1);
        exit(0);
    }
    getrusage(RUSAGE_SELF, &own);
    before = own.ru_nvcsw;
    for (long i = 0; i < count; i++)
        if (write(to[1], &c, 1) != 1 || read(fro[0], &c, 1) != 1)
            exit(1);
    wait(NULL);
    getrusage(RUSAGE_SELF, &own);
    getrusage(RUSAGE_CHILDREN, &others);
    return own.ru_nvcsw - before + others.ru_nvcsw;
}

static void sleeps(long count)
{
    for (long i = 0; i < count; i++) {
        struct timespec ts = {0, (i % 10 + 1) * 1000000};
        nanosleep(&ts, NULL);
    }
}

static void writes(long count)
{
    int fd = open("/dev/null", O_WRONLY);
    for (long i = 0; i < count; i++)
        if (write(fd, "x", 1) != 1)
            exit(1);
}

static long pages(long count, const char *file)
{
    static char page[4096];
    long came = 0;
    int fd = open(file, O_RDONLY);
    for (long i = 0; i < 2 * count; i++)
        came += pread(fd, page, sizeof page, i % count * sizeof page) == sizeof page;
    return came;
}

static long touches(long count)
{
    struct rusage usage;
    long before;
    char *memory = mmap(NULL, count * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        exit(1);
    madvise(memory, count * 4096, MADV_NOHUGEPAGE);
    getrusage(RUSAGE_SELF, &usage);
    before = usage.ru_minflt;
    for (long i = 0; i < count; i++)
        memory[i * 4096] = 1;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt - before;
}

__attribute__((noinline)) static void brks(long count)
{
    for (long i = 0; i < count; i++)
        if (sbrk(4096) == (void *)-1)
            exit(1);
}

static void locks(long count, const char *file)
{
    for (int i = 0; i < 4; i++)
        if (fork() == 0) {
            int fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_SYNC, 0600);
            for (long n = 0; n < count; n++)
                if (write(fd, "x", 1) != 1)
                    exit(1);
            exit(0);
        }
    while (wait(NULL) > 0)
        ;
}

int main(int argc, char **argv)
{
    const char *deed = argc > 2 ? argv[1] : "", *file = argc > 3 ? argv[3] : "/dev/zero";
    long count = argc > 2 ? atol(argv[2]) : 0, came = 0;
    char name[16];
    snprintf(name, sizeof name, "hits-%.10s", deed);
    prctl(PR_SET_NAME, name);
    if (!strcmp(deed, "dentries"))
        dentries(count);
    else if (!strcmp(deed, "reads"))
        came = reads(count, file);
    else if (!strcmp(deed, "blocks"))
        came = blocks(count, file);
    else if (!strcmp(deed, "mounts"))
        came = mounts(count);
    else if (!strcmp(deed, "opens"))
        came = opens(count);
    else if (!strcmp(deed, "calls"))
        for (long i = 0; i < count; i++)
            hits_outer(i);
    else if (!strcmp(deed, "deeps"))
        for (long i = 0; i < count; i++)
            came += hits_deep(i % 10);
    else if (!strcmp(deed, "pingpong"))
        came = pingpong(count);
    else if (!strcmp(deed, "sleeps"))
        sleeps(count);
    else if (!strcmp(deed, "writes"))
        writes(count);
    else if (!strcmp(deed, "pages"))
        came = pages(count, file);
    else if (!strcmp(deed, "touches"))
        came = touches(count);
    else if (!strcmp(deed, "brks"))
        brks(count);
    else if (!strcmp(deed, "locks"))
        locks(count, file);
    else
        return 1;
    printf("HITS %s %ld %ld\n", deed, count, came);
    return 0;
}
