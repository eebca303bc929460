/* Layers of the synthesis on rows of pixels, for one instruction set: included by _each_set.h.
 *
 * An input is a pointer to its value at the first pixel of a row, and may begin anywhere. What is
 * computed of the last pixels of a row overflows by less than two vectors.
 */

#include "_layers.h"

/* sums[r] = start[r] + sum over i of weights[i * 4 + r] * x[i] for `rows` rows, up to 4 and a
 * constant, at two vectors of pixels from `n` on. */
static inline __attribute__((always_inline)) TARGET void OF(few_products)(
    int rows, const float *start, const float *weights, const float *const *x, int inputs, int n,
    float *const *sums)
{
    OF(Vector) left[4], right[4];
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        left[r] = right[r] = (OF(Vector)){0} + start[r];
    for (int i = 0; i < inputs; i++) {
        const OF(Loose) *at = (const OF(Loose) *)(x[i] + n);
        OF(Vector) a = at[0], b = at[1];
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            left[r] += weights[i * 4 + r] * a;
            right[r] += weights[i * 4 + r] * b;
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        ((OF(Loose) *)(sums[r] + n))[0] = left[r];
        ((OF(Loose) *)(sums[r] + n))[1] = right[r];
    }
}

/* The same for `count` pixels and 1 to 4 rows: weights (inputs, 4). */
static TARGET void OF(few_rows)(int rows, const float *start, const float *weights,
                                const float *const *x, int inputs, int count, float *const *sums)
{
    for (int n = 0; n < count; n += 2 * LANES) {
        if (rows == 3)
            OF(few_products)(3, start, weights, x, inputs, n, sums);
        else if (rows == 1)
            OF(few_products)(1, start, weights, x, inputs, n, sums);
        else if (rows == 2)
            OF(few_products)(2, start, weights, x, inputs, n, sums);
        else
            OF(few_products)(4, start, weights, x, inputs, n, sums);
    }
}

/* The hidden layer of `valid` pixels, rounded up to `count`, clamped at 0; `inputs` become the rows
 * that the samples are made of, hidden units and features. */
static TARGET void OF(hidden)(const Synthesis *net, Paint *work, const float *const *features,
                              int valid, int count, const float **inputs)
{
    for (int i = 0; i < net->features; i++) {
        float *to = work->features + i * CHUNK;
        memcpy(to, features[i], (size_t)valid * sizeof(float));
        memset(to + valid, 0, (size_t)(count - valid) * sizeof(float));
    }
    OF(layer)(net->zero, net->first, net->rows, net->features, work->features, work->hidden, count);
    for (int r = 0; r < net->hidden; r++) {
        float *unit = work->hidden + r * CHUNK;
        for (int n = 0; n < count; n++)
            unit[n] = unit[n] < 0 ? 0 : unit[n];
    }
    rows_of(work->hidden, net->hidden, inputs);
    rows_of(work->features, net->features, inputs + net->hidden);
}

/* Samples of pixels before the 3x3 layers. */
static TARGET void OF(tail)(const Synthesis *net, Paint *work, const float *const *features,
                            int valid, int count, float *const *samples)
{
    const float *inputs[MAX_ROWS];
    OF(hidden)(net, work, features, valid, count, inputs);
    OF(few_rows)(net->channels, net->zero, net->output, inputs, net->hidden + net->features, count,
                 samples);
}

/* Gradients of the tail from those of its samples, which are zero from the end of the row on. */
static TARGET void OF(tail_back)(const Synthesis *net, Paint *work, const float *const *features,
                                 int valid, const float *const *slopes, int count)
{
    const float *inputs[MAX_ROWS];
    OF(hidden)(net, work, features, valid, count, inputs);
    OF(outers)(net->channels, net->hidden + net->features, slopes, inputs, work->by_output, count);
    for (int c = 0; c < 4; c++)
        if (c < net->channels)
            memcpy(work->back + (net->rows + c) * CHUNK, slopes[c], (size_t)count * sizeof(float));
        else
            memset(work->back + (net->rows + c) * CHUNK, 0, (size_t)count * sizeof(float));
    OF(layer)(net->zero, net->output_back, net->rows, 4, work->back + net->rows * CHUNK,
              work->back, count);
    for (int r = 0; r < net->hidden; r++) {
        const float *unit = work->hidden + r * CHUNK;
        float *slope = work->back + r * CHUNK;
        for (int n = 0; n < count; n++)
            slope[n] = unit[n] > 0 ? slope[n] : 0;
    }
    const float *hidden_slopes[MAX_HIDDEN];
    rows_of(work->back, net->hidden, hidden_slopes);
    OF(outers)(net->hidden, net->features, hidden_slopes, inputs + net->hidden, work->by_first,
               count);
    OF(layer)(net->zero, net->first_back, net->feature_rows, net->rows + 4, work->back, work->slopes,
              count);
}

/* Add up lanes, and add to `out`: by the first layer (hidden, features), by output and skip
 * (channels, hidden + features). */
static TARGET void OF(tail_finish)(const Synthesis *net, const Paint *work, double *out)
{
    OF(collect)(net->hidden, net->features, work->by_first, out);
    OF(collect)(net->channels, net->hidden + net->features, work->by_output,
                out + net->hidden * net->features);
}

/* Errors of a row of clamped samples times `factor`, and the sum of their squares. */
static TARGET double OF(row_error)(const float *samples, const float *target, int64_t width,
                                   float factor, float *restrict slopes)
{
    float sums[MAX_LANES] = {0};
    double total = 0;
    for (int64_t n = 0; n < width; n++) {
        float value = samples[n] < 0 ? 0 : samples[n]; /* NaN stays NaN */
        slopes[n] = (value > 1 ? 1 : value) - target[n];
    }
    int64_t whole = width / MAX_LANES * MAX_LANES;
    for (int64_t start = 0; start < whole; start += MAX_LANES)
        for (int n = 0; n < MAX_LANES; n++)
            sums[n] += slopes[start + n] * slopes[start + n];
    for (int64_t n = whole; n < width; n++)
        sums[n - whole] += slopes[n] * slopes[n];
    for (int n = 0; n < MAX_LANES; n++)
        total += sums[n];
    for (int64_t n = 0; n < width; n++)
        slopes[n] *= factor;
    return total;
}
