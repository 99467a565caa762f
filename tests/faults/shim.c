/* Ends the process, or fails with an error, at the n-th call that changes a file. For LD_PRELOAD; see faulted.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static long left = -1, seen = 0;
static int failure = 0;

/* After so many more calls: SIGKILL where error is 0, else this errno, once. */
void fault_arm(long calls, int error) { left = calls; failure = error; seen = 0; }
long fault_seen(void) { return seen; }

static int struck(void) {
    seen++;
    if (left < 0 || left-- > 0) return 0;
    if (failure == 0) kill(getpid(), SIGKILL);
    errno = failure;
    return 1;
}

#define NEXT(name) static __typeof__(&name) next; if (!next) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t size) { NEXT(write); return struck() ? -1 : next(fd, data, size); }
int fsync(int fd) { NEXT(fsync); return struck() ? -1 : next(fd); }
int rename(const char *from, const char *to) { NEXT(rename); return struck() ? -1 : next(from, to); }
int renameat2(int a, const char *from, int b, const char *to, unsigned int flags) {
    NEXT(renameat2); return struck() ? -1 : next(a, from, b, to, flags);
}
int unlink(const char *path) { NEXT(unlink); return struck() ? -1 : next(path); }
int unlinkat(int at, const char *path, int flags) { NEXT(unlinkat); return struck() ? -1 : next(at, path, flags); }
int rmdir(const char *path) { NEXT(rmdir); return struck() ? -1 : next(path); }
int mkdir(const char *path, mode_t mode) { NEXT(mkdir); return struck() ? -1 : next(path, mode); }
int fchmod(int fd, mode_t mode) { NEXT(fchmod); return struck() ? -1 : next(fd, mode); }

int open64(const char *path, int flags, ...) {
    NEXT(open64);
    va_list more; va_start(more, flags); mode_t mode = va_arg(more, int); va_end(more);
    return (flags & (O_WRONLY | O_RDWR)) && struck() ? -1 : next(path, flags, mode);
}
