/* T5 on one thread in fp32: products of rows with a matrix in strips of 16 columns, and whole passes made of them.
   `bild/engines/strips.py` compiles it for the processor at hand; `bild/engines/t5.py` tells what it computes.

   A matrix is w[strip][in][16], each strip read from its first byte to its last while a few rows keep their sums in
   registers. Rows in memory begin at multiples of 16 floats, so that whole strips can be written to them. */

#include <stddef.h>

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

enum { STRIP = 16, PARTS = STRIP / LANES, ABREAST = 4, AHEAD = 128, CHUNK = 60, MANY = 24 };
typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4)));

static inline lanes all(float x) { return x - (lanes){0}; }

/* Keeps a value in a register: as operands in memory, the loads would take longer than the sums. */
#if defined(__AVX512F__)
#define HOLD(x) __asm__("" : "+v"(x))
#elif defined(__x86_64__)
#define HOLD(x) __asm__("" : "+x"(x))
#else
#define HOLD(x)
#endif

/* `rows` and `strips` are constants wherever this is called, so that the sums are registers. Several strips at once
   are as many streams, which is how one row alone reads fastest; with more rows what is read next is asked for. Where
   registers hold the sums of two strips and twelve rows, two share what is read of x, if the rows are many. */
static inline __attribute__((always_inline)) void block(
    const long rows, const long strips, const float *x, long x_step, const float *w, long in, float *y, long y_step)
{
    lanes sums[MOST][ABREAST][PARTS];
    for (long r = 0; r < rows; r++)
        for (long s = 0; s < strips; s++)
            for (long p = 0; p < PARTS; p++) sums[r][s][p] = (lanes){0};
    for (long i = 0; i < in; i++) {
        lanes parts[ABREAST][PARTS];
        for (long s = 0; s < strips; s++) {
            const float *line = w + (s * in + i) * STRIP;
            if (rows > 1) __builtin_prefetch(line + AHEAD * STRIP);
            for (long p = 0; p < PARTS; p++) {
                parts[s][p] = *(const lanes *)(line + p * LANES);
                HOLD(parts[s][p]);
            }
        }
        for (long r = 0; r < rows; r++) {
            lanes one = all(x[r * x_step + i]);
            if (rows > 1 && strips > 1) HOLD(one);
            for (long s = 0; s < strips; s++)
                for (long p = 0; p < PARTS; p++) sums[r][s][p] += parts[s][p] * one;
        }
    }
    for (long r = 0; r < rows; r++)
        for (long s = 0; s < strips; s++)
            for (long p = 0; p < PARTS; p++) *(lanes *)(y + r * y_step + s * STRIP + p * LANES) = sums[r][s][p];
}

/* x [rows, in] times w to y [rows, 16 * strips]; the steps are those from row to row. */
void product(const float *x, long x_step, long rows, const float *w, long in, long strips, float *y, long y_step)
{
    for (; rows > CHUNK; rows -= CHUNK, x += CHUNK * x_step, y += CHUNK * y_step) /* they stay in the cache */
        product(x, x_step, CHUNK, w, in, strips, y, y_step);
    long s = 0;
    for (; rows == 1 && s + ABREAST <= strips; s += ABREAST)
        block(1, ABREAST, x, x_step, w + s * in * STRIP, in, y + s * STRIP, y_step);
    while (s < strips) {
        const float *strip = w + s * in * STRIP;
        const long blocks = (rows + MOST - 1) / MOST;
        const long abreast = LANES == 16 && rows > MANY && s + 2 <= strips ? 2 : 1;
        for (long b = 0, at = 0; b < blocks; b++) {
            const long some = (rows - at) / (blocks - b);
            const float *from = x + at * x_step;
            float *to = y + at * y_step + s * STRIP;
            switch (some) {
#define CASE(N) \
    case N: \
        if (abreast == 2) block(N, 2, from, x_step, strip, in, to, y_step); \
        else block(N, 1, from, x_step, strip, in, to, y_step); \
        break;
                CASES
            }
            at += some;
        }
        s += abreast;
    }
}

typedef int bits __attribute__((vector_size(4 * LANES), aligned(4)));

static inline float sum_of(lanes x)
{
    float sum = 0;
    for (long i = 0; i < LANES; i++) sum += x[i];
    return sum;
}

static inline lanes choose(bits mask, lanes one, lanes other)
{
    return (lanes)(((bits)one & mask) | ((bits)other & ~mask));
}

/* e^x to some 2e-7 of it, for x <= 88; below -87 it is e^-87, and NaN stays NaN. x = n ln 2 + r, and a polynomial of r. */
static inline lanes exp_of(lanes x)
{
    x = choose(x < -87.0f, all(-87.0f), x);
    const lanes shifted = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: the sum's low bits are the nearest integer */
    const lanes n = shifted - 12582912.0f;
    const lanes r = x - n * 0.693359375f + n * 2.12194440e-4f;
    lanes y = all(1.9875691500e-4f);
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * (r * r) + r + 1.0f;
    return y * (lanes)(((bits)shifted << 23) + (127 << 23));
}

static inline float dot(const float *x, const float *y, long n)
{
    lanes sums = {0};
    long i = 0;
    for (; i + LANES <= n; i += LANES) sums += *(const lanes *)(x + i) * *(const lanes *)(y + i);
    float sum = sum_of(sums);
    for (; i < n; i++) sum += x[i] * y[i];
    return sum;
}

/* y [n] = x [rows] times m [rows, n]; the step is that from row to row of m. */
static void mix(const float *x, long rows, const float *m, long step, float *y, long n)
{
    long at = 0;
    for (; at + 4 * LANES <= n; at += 4 * LANES) {
        lanes sums[4] = {0};
        for (long r = 0; r < rows; r++)
            for (long p = 0; p < 4; p++) sums[p] += *(const lanes *)(m + r * step + at + p * LANES) * x[r];
        for (long p = 0; p < 4; p++) *(lanes *)(y + at + p * LANES) = sums[p];
    }
    for (; at + LANES <= n; at += LANES) {
        lanes sums = {0};
        for (long r = 0; r < rows; r++) sums += *(const lanes *)(m + r * step + at) * x[r];
        *(lanes *)(y + at) = sums;
    }
    for (; at < n; at++) {
        float sum = 0;
        for (long r = 0; r < rows; r++) sum += m[r * step + at] * x[r];
        y[at] = sum;
    }
}

static inline float largest(const float *x, long n)
{
    long i = 0;
    float most = x[0];
    if (n >= LANES) {
        lanes found = *(const lanes *)x;
        for (i = LANES; i + LANES <= n; i += LANES) {
            const lanes next = *(const lanes *)(x + i);
            found = choose(next > found, next, found);
        }
        for (long p = 0; p < LANES; p++) most = found[p] > most ? found[p] : most;
    }
    for (; i < n; i++) most = x[i] > most ? x[i] : most;
    return most;
}

/* The sum of e^(x - most); where `kept` is not null it gets the summands, n rounded up to lanes of them. */
static inline float sum_of_exp(const float *x, long n, float most, float *kept)
{
    lanes sums = {0};
    long i = 0;
    for (; i + LANES <= n; i += LANES) {
        const lanes e = exp_of(*(const lanes *)(x + i) - most);
        if (kept) *(lanes *)(kept + i) = e;
        sums += e;
    }
    float sum = sum_of(sums);
    if (i < n) {
        lanes rest = all(-87.0f);
        for (long p = 0; i + p < n; p++) rest[p] = x[i + p] - most;
        rest = exp_of(rest);
        if (kept) *(lanes *)(kept + i) = rest;
        for (long p = 0; i + p < n; p++) sum += rest[p];
    }
    return sum;
}

/* `scores` has room for n rounded up to lanes. */
static void softmax(float *scores, long n)
{
    const float sum = sum_of_exp(scores, n, largest(scores, n), scores);
    for (long i = 0; i < n; i++) scores[i] *= 1.0f / sum;
}

typedef struct { const float *w; long in, strips; } matrix;
typedef struct { matrix qkv, o, cross_q, cross_o, wi, wo; } layer;

typedef struct {
    const layer *layers;
    const float *embed, *gain; /* [V, D], [D] */
    matrix head;
    long width, heads, key, dense, gated, activation, out;
    float eps;
} model;

typedef struct {
    float *cache;               /* [layers, 2, H, capacity, K] */
    const float *const *cross;  /* by layer: keys [H, K, S], values [H, S, K]; null for an encoder, which sees all */
    const float *bias;          /* [H, capacity, capacity] */
    float *residuals;           /* [capacity, D], behind layer `exit`; 0 is none */
    long capacity, source, exit;
} state;

typedef struct { float *x, *normed, *qkv, *mixed, *added, *h, *scores, *logits; } room;

static inline long step_of(long n) { return (n + STRIP - 1) / STRIP * STRIP; }

static void times(const float *x, long x_step, long rows, const matrix *m, float *y)
{
    product(x, x_step, rows, m->w, m->in, m->strips, y, m->strips * STRIP);
}

static void normalise(const float *x, long rows, long n, float eps, float *y)
{
    const long step = step_of(n);
    for (long r = 0; r < rows; r++, x += step, y += step) {
        const float scale = 1.0f / __builtin_sqrtf(dot(x, x, n) / n + eps);
        for (long i = 0; i < n; i++) y[i] = x[i] * scale;
    }
}

static void copy_rows(const float *x, long x_step, long rows, long n, float *y, long y_step)
{
    for (long r = 0; r < rows; r++) __builtin_memcpy(y + r * y_step, x + r * x_step, n * sizeof(float));
}

static void add(float *x, const float *y, long n)
{
    for (long i = 0; i < n; i++) x[i] += y[i];
}

enum { RELU, GELU_NEW, SILU };

static inline lanes activate(lanes x, long activation)
{
    if (activation == RELU) return choose(x <= 0.0f, all(0.0f), x);
    lanes u = x;
    if (activation == GELU_NEW) u = 1.59576912f * (x + 0.044715f * x * x * x); /* 2 sqrt(2 / pi) */
    return x / (1.0f + exp_of(choose(u < -80.0f, all(80.0f), -u)));
}

static void attend(const model *m, const state *s, const room *room, long rows, long n, long at)
{
    const long heads = m->heads, key = m->key, inner = heads * key, q_step = step_of(3 * inner), end = n + rows;
    float *layer = s->cache + at * 2 * heads * s->capacity * key;
    for (long r = 0; r < rows; r++)
        for (long h = 0; h < 2 * heads; h++)
            __builtin_memcpy(layer + (h * s->capacity + n + r) * key, room->qkv + r * q_step + inner + h * key, key * sizeof(float));
    for (long h = 0; h < heads; h++) {
        const float *keys = layer + h * s->capacity * key, *values = keys + heads * s->capacity * key;
        for (long r = 0; r < rows; r++) {
            const long seen = s->cross ? n + r + 1 : end;
            const float *q = room->qkv + r * q_step + h * key, *bias = s->bias + (h * s->capacity + n + r) * s->capacity;
            for (long i = 0; i < seen; i++) room->scores[i] = dot(q, keys + i * key, key) + bias[i];
            softmax(room->scores, seen);
            mix(room->scores, seen, values, key, room->mixed + r * step_of(inner) + h * key, key);
        }
    }
}

static void attend_across(const model *m, const state *s, const room *room, long rows, long at)
{
    const long key = m->key, step = step_of(m->heads * key), source = s->source;
    for (long h = 0; h < m->heads; h++) {
        const float *keys = s->cross[2 * at] + h * key * source, *values = s->cross[2 * at + 1] + h * source * key;
        for (long r = 0; r < rows; r++) {
            mix(room->qkv + r * step + h * key, key, keys, source, room->scores, source);
            softmax(room->scores, source);
            mix(room->scores, source, values, key, room->mixed + r * step + h * key, key);
        }
    }
}

static void feed_forward(const model *m, const layer *l, const room *room, long rows)
{
    const long wide = l->wi.strips * STRIP;
    normalise(room->x, rows, m->width, m->eps, room->normed);
    times(room->normed, step_of(m->width), rows, &l->wi, room->h);
    for (long r = 0; r < rows; r++) {
        float *h = room->h + r * wide;
        for (long i = 0; i < m->dense; i += LANES) {
            lanes *some = (lanes *)(h + i); /* beyond `dense` is what is read no more: the gate's, at a later i */
            lanes made = activate(*some, m->activation);
            if (m->gated) made *= *(const lanes *)(h + m->dense + i);
            *some = made;
        }
    }
    times(room->h, wide, rows, &l->wo, room->added);
    add(room->x, room->added, rows * step_of(m->width));
}

/* Takes the residuals room->x [rows, D] of positions n.. through the layers first..last-1. */
void run_layers(const model *m, const state *s, const room *room, long rows, long n, long first, long last)
{
    const long width = step_of(m->width), inner = step_of(m->heads * m->key);
    for (long i = first; i < last; i++) {
        const layer *l = m->layers + i;
        normalise(room->x, rows, m->width, m->eps, room->normed);
        times(room->normed, width, rows, &l->qkv, room->qkv);
        attend(m, s, room, rows, n, s->cross ? i : 0);
        times(room->mixed, inner, rows, &l->o, room->added);
        add(room->x, room->added, rows * width);
        if (s->cross) {
            normalise(room->x, rows, m->width, m->eps, room->normed);
            times(room->normed, width, rows, &l->cross_q, room->qkv);
            attend_across(m, s, room, rows, i);
            times(room->mixed, inner, rows, &l->cross_o, room->added);
            add(room->x, room->added, rows * width);
        }
        feed_forward(m, l, room, rows);
        if (i + 1 == s->exit) copy_rows(room->x, width, rows, m->width, s->residuals + n * m->width, m->width);
    }
}

enum { TOLD = 5 };

/* Takes residuals x [rows, D] through the final norm and the head, to room->logits, and tells of each row: the largest
   logit's place, the sum of e^(logit - largest), how far the logit of ids[row] is below the largest, how many are above
   it, and x's squares. */
void score(const model *m, const room *room, const float *x, long rows, const long *ids, double *told)
{
    const long width = step_of(m->width), step = m->head.strips * STRIP;
    normalise(x, rows, m->width, m->eps, room->normed);
    for (long r = 0; r < rows; r++)
        for (long i = 0; i < m->width; i++) room->normed[r * width + i] *= m->gain[i];
    times(room->normed, width, rows, &m->head, room->logits);
    for (long r = 0; r < rows; r++, told += TOLD) {
        const float *logits = room->logits + r * step;
        const float most = largest(logits, m->out);
        long place = 0;
        while (place < m->out - 1 && logits[place] != most) place++;
        told[0] = place;
        told[1] = sum_of_exp(logits, m->out, most, NULL);
        const float given = logits[ids[r]];
        int above = 0; /* the last row's token is not fed yet */
        for (long i = 0; r + 1 < rows && i < m->out; i++) above += logits[i] > given;
        told[2] = most - given;
        told[3] = above;
        told[4] = dot(x + r * width, x + r * width, m->width);
    }
}

/* Feeds ids [rows] at positions n.. and tells of the last `want` of them; of each, of the token that is fed next. The
   residuals of the first `kept` of them, behind layer s->exit, are there. */
void decode(const model *m, const state *s, const room *room, long layers, const long *ids, long rows, long n, long kept,
            long want, double *told)
{
    const long step = step_of(m->width);
    for (long r = kept; r < rows; r++)
        __builtin_memcpy(room->x + (r - kept) * step, m->embed + ids[r] * m->width, m->width * sizeof(float));
    run_layers(m, s, room, rows - kept, n + kept, 0, kept ? s->exit : layers);
    if (kept) {
        copy_rows(s->residuals + n * m->width, m->width, rows, m->width, room->x, step);
        run_layers(m, s, room, rows, n, s->exit, layers);
    }
    score(m, room, room->x + (rows - want) * step, want, ids + rows - want + 1, told);
}

/* Continues after ids [rows] at positions n.. by up to `limit` tokens, and returns how many: it stops behind `eos` and
   behind a token whose probability is below `stop_below` or no number. Of each it writes the id to out and tells. */
long draft(const model *m, const state *s, const room *room, long layers, long *ids, long rows, long n, long kept,
           long limit, double stop_below, long eos, long *out, double *told)
{
    for (long i = 0; i < limit; i++, told += TOLD) {
        decode(m, s, room, layers, ids, rows, n, kept, 1, told);
        n += rows;
        rows = 1;
        kept = 0;
        out[i] = ids[0] = (long)told[0];
        if (out[i] == eos || !(1 / told[1] >= stop_below)) return i + 1;
    }
    return limit;
}
