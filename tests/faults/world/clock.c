/* Moves the wall clock of one process by what the first eight bytes of $CLOCK_SHIFT say, in seconds, at once.
 *
 * libfaketime cannot be put under Envoy: it allocates memory when the time is first asked for, and Envoy's allocator
 * asks for the time while it begins. This allocates nothing. Monotonic clocks are left alone, and so is sleeping.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile long long *shift;

static long long seconds(void) {
  if (shift == NULL) {
    const char *path = getenv("CLOCK_SHIFT");
    int file = path == NULL ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (file < 0) return 0;
    void *seen = mmap(NULL, 8, PROT_READ, MAP_SHARED, file, 0);
    if (seen == MAP_FAILED) return 0;
    shift = seen;
  }
  return *shift;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
  int failed = (int)syscall(SYS_clock_gettime, clock, time);
  if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) time->tv_sec += seconds();
  return failed;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
  (void)zone;
  struct timespec now;
  int failed = clock_gettime(CLOCK_REALTIME, &now);
  if (!failed && time != NULL) {
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
  }
  return failed;
}

time_t time(time_t *result) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (result != NULL) *result = now.tv_sec;
  return now.tv_sec;
}
