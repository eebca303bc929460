/* Layers of the synthesis on rows of pixels, for one instruction set: included by _each_set.h.
 *
 * An input is a pointer to its value at the first pixel of a row, and may begin anywhere. What is
 * computed of the last pixels of a row overflows by less than two vectors.
 */

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

/* total[i][j] += sum over pixels of a[i] * b[j], lane by lane, for `rows` x 4. */
static inline __attribute__((always_inline)) TARGET void OF(few_outer)(
    int rows, const float *const *a, const float *const *b, OF(Vector) *total, int count)
{
    OF(Vector) sums[4][4];
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
            sums[i][j] = total[i * 4 + j];
    for (int n = 0; n < count; n += LANES) {
        OF(Vector) right[4];
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
            right[j] = *(const OF(Loose) *)(b[j] + n);
#pragma GCC unroll 4
        for (int i = 0; i < rows; i++) {
            OF(Vector) left = *(const OF(Loose) *)(a[i] + n);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++)
                sums[i][j] += left * right[j];
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
            total[i * 4 + j] = sums[i][j];
}

/* Sums (rows, columns) of all pairs of `rows` up to 4 rows and `columns` others, in groups of four
 * columns; the pointers of the last group are repeated. */
static TARGET void OF(few_outers)(int rows, const float *const *a, int columns,
                                  const float *const *b, float *total, int count)
{
    for (int j = 0; j < columns; j += 4, total += 16 * LANES) {
        const float *four[4];
        for (int k = 0; k < 4; k++)
            four[k] = b[j + k < columns ? j + k : columns - 1];
        for (int i = 0; i < rows; i += TILE) {
            const float *some[4];
            for (int k = 0; k < TILE; k++)
                some[k] = a[i + k < rows ? i + k : rows - 1];
            OF(few_outer)(TILE, some, four, (OF(Vector) *)total + 4 * i, count);
        }
    }
}

static TARGET void OF(few_collect)(int rows, int columns, const float *total, double *out)
{
    for (int j = 0; j < columns; j++)
        for (int i = 0; i < rows; i++) {
            const float *lanes = total + ((j / 4 * 4 + i) * 4 + j % 4) * LANES;
            for (int n = 0; n < LANES; n++)
                out[i * columns + j] += lanes[n];
        }
}

/* The hidden layer of `valid` pixels, rounded up to `count`: work->hidden, clamped at 0. */
static TARGET void OF(hidden)(const Synthesis *net, Paint *work, const float *const *features,
                              int valid, int count)
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
}

/* Samples of pixels before the 3x3 layers. */
static TARGET void OF(tail)(const Synthesis *net, Paint *work, const float *const *features,
                            int valid, int count, float *const *samples)
{
    const float *inputs[MAX_ROWS];
    OF(hidden)(net, work, features, valid, count);
    for (int i = 0; i < net->hidden; i++)
        inputs[i] = work->hidden + i * CHUNK;
    for (int i = 0; i < net->features; i++)
        inputs[net->hidden + i] = work->features + i * CHUNK;
    OF(few_rows)(net->channels, net->zero, net->output, inputs, net->hidden + net->features, count,
                 samples);
}

/* Gradients of the tail from those of its samples, which are zero from the end of the row on. */
static TARGET void OF(tail_back)(const Synthesis *net, Paint *work, const float *const *features,
                                 int valid, const float *const *slopes, int count)
{
    const float *inputs[MAX_ROWS];
    OF(hidden)(net, work, features, valid, count);
    for (int i = 0; i < net->hidden; i++)
        inputs[i] = work->hidden + i * CHUNK;
    for (int i = 0; i < net->features; i++)
        inputs[net->hidden + i] = work->features + i * CHUNK;
    OF(few_outers)(net->channels, slopes, net->hidden + net->features, inputs, work->by_output,
                   count);
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
    OF(outers)(net->rows, net->feature_rows, work->back, work->features, work->by_first, count);
    OF(layer)(net->zero, net->first_back, net->feature_rows, net->rows + 4, work->back, work->slopes,
              count);
}

/* Add up lanes, and add to `out`: by the first layer (hidden, features), by output and skip
 * (channels, hidden + features). */
static TARGET void OF(tail_finish)(const Synthesis *net, const Paint *work, double *out)
{
    OF(collect)(net->rows, net->feature_rows, net->hidden, net->features, work->by_first, out,
                net->features);
    OF(few_collect)(net->channels, net->hidden + net->features, work->by_output,
                    out + net->hidden * net->features);
}
