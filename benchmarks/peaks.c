/* The arithmetic peak of one core: multiply-adds on registers alone, no memory touched.

   cc -O3 -march=native peaks.c && ./a.out SECONDS

   prints 10^9 multiply-adds a second in float32 and in int8, and the instructions that computed the
   latter. Twelve independent sums hide the latency of the instructions; what runs is checked by eye
   in the assembly, not by a library's word. */

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { SUMS = 12, STEPS = 1 << 16 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

/* An empty statement that may have changed x: keeps the compiler from summing ahead. */
#if defined(__x86_64__)
#define OPAQUE(x) __asm__ volatile("" : "+v"(x))
#else
#define OPAQUE(x) __asm__ volatile("" : "+w"(x))
#endif

#if defined(__AVX512F__)
#include <immintrin.h>
typedef __m512 floats;
#define FLOAT_ADD(sum, a, b) _mm512_fmadd_ps(a, b, sum)
#elif defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
typedef __m256 floats;
#define FLOAT_ADD(sum, a, b) _mm256_fmadd_ps(a, b, sum)
#elif defined(__aarch64__)
#include <arm_neon.h>
typedef float32x4_t floats;
#define FLOAT_ADD(sum, a, b) vfmaq_f32(sum, a, b)
#else
#error "no kernel for this processor"
#endif

#if defined(__AVX512VNNI__)
typedef __m512i bytes;
#define INT8 "vpdpbusd, 512 bits"
#define INT8_ADD(sum, a, b) _mm512_dpbusd_epi32(sum, a, b)
#elif defined(__AVXVNNI__)
typedef __m256i bytes;
#define INT8 "vpdpbusd, 256 bits"
#define INT8_ADD(sum, a, b) _mm256_dpbusd_avx_epi32(sum, a, b)
#elif defined(__AVX2__)
typedef __m256i bytes;
#define INT8 "vpmaddubsw + vpmaddwd + vpaddd, 256 bits"
#define INT8_ADD(sum, a, b) \
    _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones))
#elif defined(__ARM_FEATURE_DOTPROD)
typedef int8x16_t bytes;
#define INT8 "sdot, 128 bits"
#define INT8_ADD(sum, a, b) (bytes) vdotq_s32((int32x4_t)sum, a, b)
#else
#error "no int8 kernel for this processor"
#endif

/* 10^9 multiply-adds a second: the best of many bursts within the seconds given. */
#define MEASURE(name, type, width, ADD)                                      \
    static double name(double seconds) {                                     \
        type sums[SUMS] = {0}, a = {0}, b = {0}, ones = {0};                 \
        (void)ones;                                                          \
        double best = 0;                                                     \
        for (double end = now() + seconds, start; (start = now()) < end;) {  \
            for (int step = 0; step < STEPS; step++) {                       \
                OPAQUE(b);                                                   \
                OPAQUE(ones);                                                \
                _Pragma("GCC unroll 12") for (int i = 0; i < SUMS; i++) {    \
                    OPAQUE(a); /* each product is computed, not one shared */ \
                    sums[i] = ADD(sums[i], a, b);                            \
                    OPAQUE(sums[i]);                                         \
                }                                                            \
            }                                                                \
            double rate = 1e-9 * SUMS * STEPS * (width) / (now() - start);   \
            best = rate > best ? rate : best;                                \
        }                                                                    \
        return best;                                                         \
    }

MEASURE(float32_rate, floats, sizeof(floats) / 4, FLOAT_ADD)
MEASURE(int8_rate, bytes, sizeof(bytes), INT8_ADD)

int main(int count, char **arguments) {
    double seconds = count > 1 ? atof(arguments[1]) : 1;
    float32_rate(seconds / 10); /* until the clock has risen */
    printf("{\"float32_gmacs\": %.4f, ", float32_rate(seconds));
    printf("\"int8_gmacs\": %.4f, \"int8_instructions\": \"%s\"}\n", int8_rate(seconds), INT8);
    return 0;
}
