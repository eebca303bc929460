/* Layers and the gradients of their weights at neighbouring latents or pixels, for one instruction
 * set: included by _rate.h and _synthesis.h.
 *
 * Activations are arrays (rows, CHUNK): a row is one unit, or one input, at CHUNK neighbours.
 */

/* A layer: weights in groups of GROUP rows, each column by column. */
static TARGET void OF(layer)(const float *start, const float *weights, int rows, int inputs,
                             const float *x, float *sums, int count)
{
    for (int row = 0; row < rows; row += ROWS) {
        const float *part = weights + row / GROUP * GROUP * inputs + row % GROUP;
        for (int n = 0; n < count; n += 2 * LANES)
            OF(products)(ROWS, start + row, part, GROUP, x + n, inputs, sums + row * CHUNK + n,
                         CHUNK);
    }
}

/* total[i][j] += sum over neighbours of a[i] * b[j], lane by lane, for `rows` times 4; the lanes are
 * added up at the end. */
static inline __attribute__((always_inline)) TARGET void OF(outer)(
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

/* All pairs of rows and columns, tile by tile: room for both rounded up to 4. What is missing in the
 * last tiles is a repetition that nobody collects. */
static TARGET void OF(outers)(int rows, int columns, const float *const *a, const float *const *b,
                              float *total, int count)
{
    for (int i = 0; i < rows; i += TILE) {
        const float *some[4];
        for (int k = 0; k < TILE; k++)
            some[k] = a[i + k < rows ? i + k : rows - 1];
        for (int j = 0; j < columns; j += 4, total += TILE * 4 * LANES) {
            const float *four[4];
            for (int k = 0; k < 4; k++)
                four[k] = b[j + k < columns ? j + k : columns - 1];
            OF(outer)(TILE, some, four, (OF(Vector) *)total, count);
        }
    }
}

/* The sums of `outers`, their lanes added up, are added to (rows, columns). */
static TARGET void OF(collect)(int rows, int columns, const float *total, double *out)
{
    for (int i = 0; i < rows; i += TILE)
        for (int j = 0; j < columns; j += 4, total += TILE * 4 * LANES)
            for (int r = 0; r < TILE * 4; r++) {
                int row = i + r / 4, column = j + r % 4;
                double sum = 0;
                for (int n = 0; n < LANES; n++)
                    sum += total[r * LANES + n];
                if (row < rows && column < columns)
                    out[row * columns + column] += sum;
            }
}
