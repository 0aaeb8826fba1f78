/* Preloaded into the broker: a page shared with the soak sets the wall clock's offset, delays and fails fsync, and makes the
   disk full. Everything else, including the monotonic clock, is passed through. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* As in shim.rs. */
struct control {
    volatile int64_t clock_offset_micros;
    volatile int64_t sync_micros;
    volatile int64_t sync_fails;
    volatile int64_t is_full;
};

static struct control idle;
static struct control *control = &idle;

__attribute__((constructor)) static void open_control(void) {
    const char *path = getenv("SOAK_CONTROL");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *page = mmap(NULL, sizeof *control, PROT_READ, MAP_SHARED, fd, 0);
    if (page != MAP_FAILED) control = page;
    close(fd);
}

int clock_gettime(clockid_t id, struct timespec *time) {
    static int (*next)(clockid_t, struct timespec *);
    if (!next) next = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = next(id, time);
    int64_t offset = control->clock_offset_micros;
    if (result == 0 && id == CLOCK_REALTIME && offset != 0) {
        int64_t nanos = time->tv_nsec + offset % 1000000 * 1000;
        time->tv_sec += offset / 1000000;
        if (nanos < 0) { nanos += 1000000000; time->tv_sec -= 1; }
        if (nanos >= 1000000000) { nanos -= 1000000000; time->tv_sec += 1; }
        time->tv_nsec = nanos;
    }
    return result;
}

static int sync_if_allowed(const char *name, int fd) {
    if (control->sync_micros > 0) usleep(control->sync_micros);
    if (control->sync_fails) { errno = EIO; return -1; }
    return ((int (*)(int))dlsym(RTLD_NEXT, name))(fd);
}

int fsync(int fd) { return sync_if_allowed("fsync", fd); }
int fdatasync(int fd) { return sync_if_allowed("fdatasync", fd); }

/* Only regular files are refused, except standard output and error, where the log goes. */
static int is_refused(int fd) {
    struct stat status;
    if (!control->is_full || fd <= 2 || fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) return 0;
    errno = ENOSPC;
    return 1;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    static ssize_t (*next)(int, const void *, size_t);
    if (!next) next = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    return is_refused(fd) ? -1 : next(fd, bytes, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    static ssize_t (*next)(int, const void *, size_t, off_t);
    if (!next) next = (ssize_t (*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite");
    return is_refused(fd) ? -1 : next(fd, bytes, count, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off_t at) { return pwrite(fd, bytes, count, at); }
