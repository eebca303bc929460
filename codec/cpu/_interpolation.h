/* Interpolation of rows, for one instruction set: included by _each_set.h.
 *
 * Rows begin at a multiple of the kernel's period, are aligned, and as long as `Line.length`: a
 * multiple of four vectors. What lies outside the samples is zero or not looked at.
 */

/* Samples of a line from latents that are repeated for every sample of their own. */
static TARGET void OF(across)(const Line *line, const float *spread, float *out)
{
    for (int64_t n = 0; n < line->length; n += 4 * LANES) {
        OF(Vector) sums[4] = {{0}};
        for (int k = 0; k < line->reach; k++) {
            const float *seen = spread + n - k * line->stride;
            const float *taps = line->taps + 2 * k * line->period;
#pragma GCC unroll 4
            for (int v = 0; v < 4; v++)
                sums[v] += *(const OF(Loose) *)(seen + v * LANES) *
                           *(const OF(Vector) *)(taps + ((n + v * LANES) & (line->period - 1)));
        }
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++)
            *(OF(Vector) *)(out + n + v * LANES) = sums[v];
    }
}

/* A line of samples from lines of the other axis' latents. */
static TARGET void OF(down)(int count, const float *weights, const float *const *lines,
                            int64_t length, float *out)
{
    for (int64_t n = 0; n < length; n += 4 * LANES) {
        OF(Vector) sums[4] = {{0}};
        for (int i = 0; i < count; i++) {
            const OF(Vector) *seen = (const OF(Vector) *)(lines[i] + n);
#pragma GCC unroll 4
            for (int v = 0; v < 4; v++)
                sums[v] += weights[i] * seen[v];
        }
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++)
            *(OF(Vector) *)(out + n + v * LANES) = sums[v];
    }
}

/* Slopes of `rows` lines of samples, weighted, are added to those of a line that they see; and
 * what every one's products with that line are, lane by lane. */
static inline __attribute__((always_inline)) TARGET void OF(up_some)(
    int rows, const float *weights, const float *const *slopes, const float *seen, float *into,
    int64_t length, float *products)
{
    OF(Vector) sums[TOGETHER] = {{0}};
    for (int64_t n = 0; n < length; n += LANES) {
        OF(Vector) value = *(const OF(Vector) *)(seen + n), total = *(OF(Vector) *)(into + n);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            OF(Vector) slope = *(const OF(Vector) *)(slopes[r] + n);
            total += weights[r] * slope;
            sums[r] += slope * value;
        }
        *(OF(Vector) *)(into + n) = total;
    }
    for (int r = 0; r < rows; r++) {
        products[r] = 0;
        for (int n = 0; n < LANES; n++)
            products[r] += sums[r][n];
    }
}

static TARGET void OF(up)(int rows, const float *weights, const float *const *slopes,
                          const float *seen, float *into, int64_t length, float *products)
{
    if (rows == 1)
        OF(up_some)(1, weights, slopes, seen, into, length, products);
    else if (rows == 2)
        OF(up_some)(2, weights, slopes, seen, into, length, products);
    else if (rows == 3)
        OF(up_some)(3, weights, slopes, seen, into, length, products);
    else
        OF(up_some)(4, weights, slopes, seen, into, length, products);
}

/* The way back of `across`: slopes of the repeated latents from those of a line, which has zeros
 * around; those of the taps are added up by their place in the period. */
static TARGET void OF(across_back)(const Line *line, const float *spread, const float *slopes,
                                   float *back, float *by_taps)
{
    for (int64_t n = -line->before; n < line->length; n += LANES) {
        OF(Vector) sum = {0};
        for (int k = 0; k < line->reach; k++) {
            int64_t at = n + k * line->stride;
            sum += *(const OF(Loose) *)(slopes + at) *
                   *(const OF(Loose) *)(line->taps + 2 * k * line->period +
                                        (at & (line->period - 1)));
        }
        *(OF(Vector) *)(back + n) = sum;
    }
    for (int64_t n = 0; n < line->length; n += LANES) {
        OF(Vector) slope = *(const OF(Vector) *)(slopes + n);
        for (int k = 0; k < line->reach; k++)
            *(OF(Vector) *)(by_taps + k * line->period + (n & (line->period - 1))) +=
                slope * *(const OF(Loose) *)(spread + n - k * line->stride);
    }
}
