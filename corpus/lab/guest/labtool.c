// labtool: what the lab guest needs beyond busybox. Nothing here forks: the truth should not disturb itself.
//
//   labtool cat PATH...            every readable file at or below the paths, each under "==> PATH <=="
//   labtool pids DIR               /proc/PID of every process, with its threads, fds and maps, to DIR/PID.txt
//   labtool slabattrs ATTR,...     "ATTR CACHE VALUE" from /sys/kernel/slab, and "alias NAME CACHE"
//   labtool kexec KERNEL INITRD CMDLINE   loads a crash kernel (kexec_file_load)
//   labtool as COMM FILE TEXT      writes TEXT to FILE under another process name
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void cat_file(FILE *out, const char *path) {
    static char buf[1 << 16];
    int fd = open(path, O_RDONLY | O_NONBLOCK), last = '\n', n;
    if (fd < 0)
        return;
    fprintf(out, "==> %s <==\n", path);
    while ((n = read(fd, buf, sizeof buf)) > 0) {
        for (int i = 0; i < n; i++)
            if (!buf[i])
                buf[i] = '\n';
        fwrite(buf, 1, n, out);
        last = buf[n - 1];
    }
    if (last != '\n')
        fputc('\n', out);
    close(fd);
}

static void cat_tree(const char *path) {
    struct stat st;
    if (lstat(path, &st))
        return;
    if (S_ISREG(st.st_mode))
        cat_file(stdout, path);
    if (!S_ISDIR(st.st_mode))
        return;
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        char below[1024];
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        snprintf(below, sizeof below, "%s/%s", path, e->d_name);
        cat_tree(below);
    }
    if (dir)
        closedir(dir);
}

static void show_link(FILE *out, const char *path, const char *name) {
    char to[600];
    int n = readlink(path, to, sizeof to - 1);
    if (n >= 0)
        fprintf(out, "%s -> %.*s\n", name, n, to);
}

/* calls each(out, path, name) for what is in a directory, without the dots */
static void each_in(FILE *out, const char *path, void (*each)(FILE *, const char *, const char *)) {
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        char below[600];
        if (e->d_name[0] == '.')
            continue;
        snprintf(below, sizeof below, "%s/%s", path, e->d_name);
        each(out, below, e->d_name);
    }
    if (dir)
        closedir(dir);
}

static void show_file(FILE *out, const char *path, const char *name) {
    cat_file(out, path);
}

static void show_thread(FILE *out, const char *path, const char *name) {
    static const char *files[] = {"comm", "stack", "syscall", "wchan", "stat"};
    for (int i = 0; i < 5; i++) {
        char below[700];
        snprintf(below, sizeof below, "%s/%s", path, files[i]);
        cat_file(out, below);
    }
}

static int pids(const char *to) {
    static const char *files[] = {"comm",  "cmdline", "environ", "status", "stat", "statm",
                                  "stack", "wchan",   "syscall", "limits", "cgroup", "maps",
                                  "sched", "io",      "oom_score_adj", "timers", "loginuid"};
    DIR *proc = opendir("/proc");
    for (struct dirent *e; proc && (e = readdir(proc));) {
        char path[600];
        if (e->d_name[0] < '0' || e->d_name[0] > '9')
            continue;
        snprintf(path, sizeof path, "%s/%s.txt", to, e->d_name);
        FILE *out = fopen(path, "w");
        snprintf(path, sizeof path, "/proc/%s", e->d_name);
        if (!out)
            continue;
        if (!chdir(path)) {
            for (unsigned i = 0; i < sizeof files / sizeof *files; i++)
                cat_file(out, files[i]);
            fprintf(out, "==> fd/ <==\n");
            each_in(out, "fd", show_link);
            fprintf(out, "==> ns/ <==\n");
            each_in(out, "ns", show_link);
            show_link(out, "cwd", "cwd");
            show_link(out, "root", "root");
            show_link(out, "exe", "exe");
            each_in(out, "fdinfo", show_file);
            each_in(out, "task", show_thread);
        }
        fclose(out);
    }
    return 0;
}

static const char *attrs;

static void show_attrs(FILE *out, const char *path, const char *cache) {
    struct stat st;
    char list[600];
    if (lstat(path, &st))
        return;
    if (S_ISLNK(st.st_mode)) {
        fprintf(out, "alias ");
        show_link(out, path, cache);
        return;
    }
    snprintf(list, sizeof list, "%s", attrs);
    for (char *attr = strtok(list, ","); attr; attr = strtok(0, ",")) {
        char file[1200], value[4096];
        snprintf(file, sizeof file, "%s/%s", path, attr);
        int fd = open(file, O_RDONLY), n = fd < 0 ? 0 : read(fd, value, sizeof value);
        if (fd >= 0)
            close(fd);
        while (n > 0 && value[n - 1] == '\n')
            n--;
        if (n > 0)
            fprintf(out, "%s %s %.*s\n", attr, cache, n, value);
    }
}

static int load_crash_kernel(char **argv) {
    int kernel = open(argv[0], O_RDONLY), initrd = open(argv[1], O_RDONLY);
    if (syscall(SYS_kexec_file_load, kernel, initrd, strlen(argv[2]) + 1, argv[2], 2UL /* on crash */)) {
        perror("kexec_file_load");
        return 1;
    }
    return 0;
}

static int write_as(const char *comm, const char *path, const char *text) {
    prctl(PR_SET_NAME, comm);
    int fd = open(path, O_WRONLY);
    if (fd < 0 || write(fd, text, strlen(text)) < 0) {
        perror(path);
        return 1;
    }
    return 0;
}

int main(int argc, char **argv) {
    const char *verb = argc > 1 ? argv[1] : "";
    if (!strcmp(verb, "cat")) {
        for (int i = 2; i < argc; i++)
            cat_tree(argv[i]);
        return 0;
    }
    if (!strcmp(verb, "pids") && argc == 3)
        return pids(argv[2]);
    if (!strcmp(verb, "slabattrs") && argc == 3) {
        attrs = argv[2];
        each_in(stdout, "/sys/kernel/slab", show_attrs);
        return 0;
    }
    if (!strcmp(verb, "kexec") && argc == 5)
        return load_crash_kernel(argv + 2);
    if (!strcmp(verb, "as") && argc == 5)
        return write_as(argv[2], argv[3], argv[4]);
    fprintf(stderr, "labtool: cat | pids | slabattrs | kexec | as\n");
    return 2;
}
