/* Products of rows with a matrix in strips of 16 columns: w[strip][in][16], each strip read from its first byte to its
   last while a few rows keep their sums in registers. `bild/engines/strips.py` compiles it for the processor at hand. */

#if defined(__AVX512F__)
enum { LANES = 16, MOST = 12 };
#define CASES CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#elif defined(__AVX__)
enum { LANES = 8, MOST = 5 }; /* a sixth row would not find room in 16 registers */
#define CASES CASE(1) CASE(2) CASE(3) CASE(4) CASE(5)
#else
enum { LANES = 4, MOST = 4 };
#define CASES CASE(1) CASE(2) CASE(3) CASE(4)
#endif

enum { STRIP = 16, PARTS = STRIP / LANES, ABREAST = 4, AHEAD = 32 };
typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4)));

/* `rows` and `strips` are constants wherever this is called, so that the sums are registers. Several strips at once
   are as many streams, which is how one row alone reads fastest; with more rows what is read next is asked for. */
static inline __attribute__((always_inline)) void block(
    const long rows, const long strips, const float *x, long x_step, const float *w, long in, float *y, long y_step)
{
    lanes sums[MOST][ABREAST][PARTS];
    for (long r = 0; r < rows; r++)
        for (long s = 0; s < strips; s++)
            for (long p = 0; p < PARTS; p++) sums[r][s][p] = (lanes){0};
    for (long i = 0; i < in; i++)
        for (long s = 0; s < strips; s++) {
            const float *line = w + (s * in + i) * STRIP;
            if (rows > 1) __builtin_prefetch(line + AHEAD * STRIP);
            for (long p = 0; p < PARTS; p++) {
                lanes part = *(const lanes *)(line + p * LANES);
                for (long r = 0; r < rows; r++) sums[r][s][p] += part * x[r * x_step + i];
            }
        }
    for (long r = 0; r < rows; r++)
        for (long s = 0; s < strips; s++)
            for (long p = 0; p < PARTS; p++) *(lanes *)(y + r * y_step + s * STRIP + p * LANES) = sums[r][s][p];
}

/* x [rows, in] times w to y [rows, 16 * strips]; the steps are those from row to row. */
void product(const float *x, long x_step, long rows, const float *w, long in, long strips, float *y, long y_step)
{
    long s = 0;
    for (; rows == 1 && s + ABREAST <= strips; s += ABREAST)
        block(1, ABREAST, x, x_step, w + s * in * STRIP, in, y + s * STRIP, y_step);
    for (; s < strips; s++) {
        const float *strip = w + s * in * STRIP;
        const long blocks = (rows + MOST - 1) / MOST;
        for (long b = 0, at = 0; b < blocks; b++) {
            const long some = (rows - at) / (blocks - b);
            const float *from = x + at * x_step;
            float *to = y + at * y_step + s * STRIP;
            switch (some) {
#define CASE(N) case N: block(N, 1, from, x_step, strip, in, to, y_step); break;
                CASES
            }
            at += some;
        }
    }
}
