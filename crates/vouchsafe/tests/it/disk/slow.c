// Syncs take at least as many milliseconds as stand in the file that VOUCHSAFE_TEST_SYNC names: a disk that is slow, and
// becomes quick again while somebody waits for it. The file is mapped at the start, before a sandbox is entered.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static volatile uint32_t *wanted;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("VOUCHSAFE_TEST_SYNC");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *map = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *wanted, PROT_READ, MAP_SHARED, file, 0);
    if (map == MAP_FAILED) abort();
    wanted = map;
    close(file);
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static void wait_here(void) {
    const struct timespec pause = {0, 10 * 1000 * 1000};
    for (int64_t begun = now(); now() - begun < (int64_t)*wanted;) nanosleep(&pause, NULL);
}

#define SLOW(name)                                              \
    int name(int file) {                                        \
        int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, #name); \
        wait_here();                                            \
        return real(file);                                      \
    }
SLOW(fsync)
SLOW(fdatasync)
