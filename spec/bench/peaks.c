/* What this machine allows, for ./dev bench: prints lines "NAME THREADS FIGURE", the best of a few
 * runs: fma (float32, GF/s), bf16 (bfloat16 products summed in float32, GF/s, where the processor
 * has them), copy (GB/s read and written). Relies on pthreads and on -march=native. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined __AVX512F__
#define WIDTH 64
#elif defined __AVX__
#define WIDTH 32
#else
#define WIDTH 16
#endif

enum { SUMS = 12, ROUNDS = 5, MOST_THREADS = 256 };

typedef float vector __attribute__((vector_size(WIDTH)));

typedef struct {
  pthread_t thread;
  double work; /* out: operations or bytes */
  float keep;  /* out: something of the result, so that it is computed */
  char *from, *to;
  size_t bytes;
} job;

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *run_fma(void *arg) {
  job *j = arg;
  const int lanes = WIDTH / sizeof(float), steps = 10000000;
  vector sum[SUMS], a, b;
  for (int l = 0; l < lanes; l++) a[l] = 0.999F, b[l] = 1e-3F;
  for (int i = 0; i < SUMS; i++) sum[i] = a * (float)i;
  for (int s = 0; s < steps; s++)
    for (int i = 0; i < SUMS; i++) sum[i] = sum[i] * a + b;
  j->keep = 0;
  for (int i = 0; i < SUMS; i++) j->keep += sum[i][0];
  j->work = 2.0 * lanes * SUMS * steps;
  return NULL;
}

static void *run_copy(void *arg) {
  job *j = arg;
  enum { TIMES = 4 };
  for (int i = 0; i < TIMES; i++) memcpy(j->to, j->from, j->bytes);
  j->work = 2.0 * TIMES * (double)j->bytes;
  return NULL;
}

#if defined __AMX_BF16__
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Four independent sums of 16 x 16 over 32 products each, two tiles of factors. */
static void *run_bf16(void *arg) {
  job *j = arg;
  struct {
    uint8_t palette, start, reserved[14];
    uint16_t columns[16];
    uint8_t rows[16];
  } config = {.palette = 1};
  static const uint16_t ones[16 * 32];
  const int steps = 5000000;
  for (int t = 0; t < 6; t++) config.columns[t] = 64, config.rows[t] = 16;
  _tile_loadconfig(&config);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, ones, 64);
  _tile_loadd(5, ones, 64);
  for (int s = 0; s < steps; s++) {
    _tile_dpbf16ps(0, 4, 5);
    _tile_dpbf16ps(1, 4, 5);
    _tile_dpbf16ps(2, 4, 5);
    _tile_dpbf16ps(3, 4, 5);
  }
  _tile_release();
  j->work = 2.0 * 16 * 16 * 32 * 4 * steps;
  return NULL;
}

/* Asks the kernel for the tiles: ARCH_REQ_XCOMP_PERM of XFEATURE_XTILEDATA. */
static int has_bf16(void) { return syscall(SYS_arch_prctl, 0x1023, 18) == 0; }

#elif defined __AVX512BF16__
#include <immintrin.h>

static void *run_bf16(void *arg) {
  job *j = arg;
  const int steps = 10000000;
  const __m512bh a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.999F), _mm512_set1_ps(0.999F));
  __m512 sum[SUMS];
  for (int i = 0; i < SUMS; i++) sum[i] = _mm512_set1_ps((float)i);
  for (int s = 0; s < steps; s++)
    for (int i = 0; i < SUMS; i++) sum[i] = _mm512_dpbf16_ps(sum[i], a, a);
  j->keep = 0;
  for (int i = 0; i < SUMS; i++) j->keep += _mm512_cvtss_f32(sum[i]);
  j->work = 2.0 * 32 * SUMS * steps;
  return NULL;
}

static int has_bf16(void) { return 1; }

#else
static void *run_bf16(void *arg) { return arg; }
static int has_bf16(void) { return 0; }
#endif

/* Best rate over ROUNDS runs of n threads, in 1e9 a second; 0 where no thread could be had. */
static double best(void *(*run)(void *), job *jobs, int n) {
  double most = 0;
  for (int r = 0; r < ROUNDS; r++) {
    double start = seconds(), work = 0;
    int begun = 0;
    while (begun < n && pthread_create(&jobs[begun].thread, NULL, run, &jobs[begun]) == 0) begun++;
    for (int i = 0; i < begun; i++) {
      pthread_join(jobs[i].thread, NULL);
      work += jobs[i].work;
    }
    double rate = work / (seconds() - start) / 1e9;
    if (begun == n && rate > most) most = rate;
  }
  return most;
}

int main(int argc, char **argv) {
  static job jobs[MOST_THREADS];
  int threads = argc > 1 ? atoi(argv[1]) : 1;
  if (threads < 1 || threads > MOST_THREADS) {
    fprintf(stderr, "bench_peaks: expected a number of threads in 1..%d\n", MOST_THREADS);
    return 2;
  }
  const size_t bytes = (size_t)64 << 20;
  for (int i = 0; i < threads; i++) {
    jobs[i].bytes = bytes;
    jobs[i].from = malloc(bytes);
    jobs[i].to = malloc(bytes);
    if (!jobs[i].from || !jobs[i].to) {
      fprintf(stderr, "bench_peaks: out of memory\n");
      return 1;
    }
    memset(jobs[i].from, 1, bytes);
    memset(jobs[i].to, 2, bytes);
  }
  for (int n = 1;; n = threads) {
    printf("fma %d %.1f\n", n, best(run_fma, jobs, n));
    if (has_bf16()) printf("bf16 %d %.1f\n", n, best(run_bf16, jobs, n));
    printf("copy %d %.1f\n", n, best(run_copy, jobs, n));
    if (n == threads) break;
  }
  for (int i = 0; i < threads; i++) {
    free(jobs[i].from);
    free(jobs[i].to);
  }
  return 0;
}
